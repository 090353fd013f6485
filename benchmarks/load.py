"""One run of wrk, pinned to the client's core, and what it counted.

wrk drives the Lua of `benchmarks/lua`, which looks at every answer. A run with one wrong answer, one socket error or one timeout
is not a result: it raises `RunInvalid` with the first wrong answer.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import CLIENT_CORE

LUA = Path(__file__).with_name("lua")
DRAIN_SECONDS = 2.0


class RunInvalid(Exception):
    """An answer was wrong or missing, so the figures of this run mean nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run showed. `per_second` is of answers inside the counted window; latencies are milliseconds, of a closed loop.

    `sent` requests of the counted window were all answered well. `drained` went to the drain customer afterwards.
    `client_busy` is the share of its core that wrk used: near 1, the client was the limit and not the server.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    sent: int
    drained: int
    answer_bytes: int
    client_busy: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run(
    port: int,
    script: str,
    path: str,
    bodies: Sequence[str],
    *,
    connections: int,
    seconds: float,
    token: str = "none",
    **extra: str,
) -> Load:
    """Drive `script` at 127.0.0.1:`port` for `seconds`, then drain for a second more.

    `bodies`: one a line, the last is for the drain. `extra` reaches the script as `BENCH_…` variables. Raises RunInvalid.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lines:
        lines.write("\n".join(bodies) + "\n")
        lines.flush()
        environment = os.environ | {f"BENCH_{name.upper()}": value for name, value in extra.items()}
        environment |= {
            "BENCH_LUA": str(LUA),
            "BENCH_PATH": path,
            "BENCH_BODIES": lines.name,
            "BENCH_SECONDS": str(seconds),
            "BENCH_AUTHORIZATION": f"Bearer {token}",
        }
        whole = f"{seconds + DRAIN_SECONDS:.0f}s"
        command = [
            "taskset",
            "-c",
            str(CLIENT_CORE),
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{whole}",
            "--timeout",
            "30s",
        ]
        process = subprocess.Popen(
            [*command, "-s", str(LUA / f"{script}.lua"), f"http://127.0.0.1:{port}/"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return parse(output, seconds, connections, usage.ru_utime + usage.ru_stime)


def parse(output: str, seconds: float, connections: int, cpu_seconds: float) -> Load:
    """The RESULT line of `common.lua`. Raises RunInvalid."""
    line = next((row for row in output.splitlines() if row.startswith("RESULT\t")), None)
    if line is None:
        raise RunInvalid(f"wrk ended without a result: {output[-500:]}")
    *numbers, first_bad = line.split("\t")[1:]
    requests, microseconds, size, p50, p99, longest, sent, good, answered, bad, in_window, errors = map(int, numbers)
    if bad or errors:
        raise RunInvalid(f"{bad} wrong answers, {errors} socket errors; the first: {first_bad}")
    if requests != good or (good < sent + connections if answered < 0 else answered < sent):
        raise RunInvalid(
            f"{sent} sent and {good} of {requests} answered: the drain was too short to leave nothing in flight"
        )
    return Load(
        per_second=in_window / seconds,
        p50_ms=p50 / 1000,
        p99_ms=p99 / 1000,
        max_ms=longest / 1000,
        sent=sent,
        drained=good - sent,
        answer_bytes=size // requests,
        client_busy=round(cpu_seconds / (microseconds / 1e6), 3),
    )
