"""`tollkeeper whatif` on one core: access logs made here, read, judged by two plans with limits and a quota, and rated."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.machine import SERVER_CORE
from benchmarks.processes import python
from benchmarks.report import Figure, Section, paragraphs

BYTES = 300_000_000
SMALLER = 60_000_000
NETWORKS = 20_000
BATCH = 10_000
CADDY = (
    '{{"level":"info","ts":{at:.4f},"logger":"http.log.access.log0","msg":"handled request","request":{{"remote_ip":"{address}",'
    '"remote_port":"50114","proto":"HTTP/2.0","method":"GET","host":"api.example.com","uri":"{path}","headers":{{"User-Agent":'
    '["{agent}"],"Accept":["*/*"],"X-Api-Key":["tk_live_{key:036d}"]}}}},"user_id":"","duration":0.0018,"size":{size},"status":{status},'
    '"resp_headers":{{"Server":["Caddy"],"Content-Type":["application/json"]}}}}\n'
)
COMBINED = '{address} - - [{local}] "GET {path} HTTP/1.1" {status} {size} "-" "{agent}"\n'
AGENTS = (
    "curl/8.5.0",
    "python-requests/2.32.3",
    "okhttp/4.12.0",
    "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/132.0",
)

CONDITIONS = """
    The log: {networks:,} callers, the n-th with a share of 1/n^0.9; 80 days; times in whole seconds; one call in ten is no success.
    The plans: those of --free 1000 --price 0.001. The process is pinned to one core; start and output are in its time; files are in
    the page cache.

    The amount of each run, and its number of calls, must be those of the others of the same log, and of what was written.
"""


def lines(form: str) -> Iterator[tuple[str, int]]:
    """Batches of lines without end, each with its number of calls."""
    chance = random.Random(7)
    start = datetime(2026, 8, 1, tzinfo=UTC).timestamp()
    addresses = [
        f"{chance.randrange(1, 224)}.{n >> 8 & 255}.{n & 255}.{chance.randrange(256)}" for n in range(NETWORKS)
    ]
    weights = list(accumulate(1 / (n + 1) ** 0.9 for n in range(NETWORKS)))
    at = start
    while True:
        made = []
        for caller in chance.choices(range(NETWORKS), cum_weights=weights, k=BATCH):
            at += 3.1
            made.append(
                form.format(
                    at=at,
                    local=datetime.fromtimestamp(at, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
                    if form is COMBINED
                    else "",
                    address=addresses[caller],
                    key=caller,
                    path=chance.choice(
                        ("/v1/iban/DE89370400440532013000", "/v1/search?q=weather&limit=20", "/v1/rates/EUR")
                    ),
                    status=chance.choice((200, 200, 200, 200, 200, 201, 204, 200, 200, 404)),
                    size=chance.randrange(200, 9000),
                    agent=chance.choice(AGENTS),
                )
            )
        yield "".join(made), len(made)


def write(path: Path, form: str, size: int) -> int:
    """Write at least `size` bytes; the number of calls."""
    calls = 0
    with path.open("w") as log:
        for text, count in lines(form):
            log.write(text)
            calls += count
            if log.tell() >= size:
                return calls
    raise AssertionError


def run(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """What the command says, and its wall time and processor time in seconds."""
    words = python("-m", "tollkeeper", "whatif", str(path), "--price", "0.001", "--zone", "UTC", "--json")
    begin = time.perf_counter()
    with subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *words], stdout=subprocess.PIPE, cwd=path.parent
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begin
    if process.returncode:
        raise RuntimeError(f"whatif ended with {process.returncode}")
    return json.loads(said), {"wall": wall, "cpu": used.ru_utime + used.ru_stime}


def measure(work: Path) -> Section:
    section = Section(
        "whatif",
        "tollkeeper whatif, one core",
        ("log", "MB", "calls", "MB/min", "MB/min of processor time"),
    )
    folder = work / "whatif"
    folder.mkdir()
    speeds = {}
    combined, small, caddy = folder / "combined.log", folder / "combined-part.log", folder / "caddy.log"
    calls = {
        combined: write(combined, COMBINED, BYTES),
        small: write(small, COMBINED, SMALLER),
        caddy: write(caddy, CADDY, SMALLER),
    }
    packed = folder / "combined-part.log.gz"
    with small.open("rb") as source, gzip.open(packed, "wb", 6) as target:
        shutil.copyfileobj(source, target)
    earned: dict[Path, Any] = {}
    for name, path, plain in (
        ("combined", combined, combined),
        ("combined, part of it", small, small),
        ("the same, gzip (MB unpacked)", packed, small),
        ("Caddy's JSON, by key", caddy, caddy),
    ):
        said, used = run(path)
        if said["calls"] != calls[plain] or said["plans"] != earned.setdefault(plain, said["plans"]):
            raise RuntimeError(f"{name}: {said['calls']} calls of {calls[plain]}, {said['plans']}")
        megabytes = plain.stat().st_size / 1e6
        speeds[name] = megabytes * 60 / used["wall"]
        section.rows.append(
            (
                name,
                f"{megabytes:.0f}",
                f"{calls[plain]:,}",
                f"{speeds[name]:.0f}",
                f"{megabytes * 60 / used['cpu']:.0f}",
            )
        )
        section.raw[name] = used | {"megabytes": megabytes}
    shutil.rmtree(folder)
    section.figures = [Figure("whatif, combined log of 300 MB, one core", speeds["combined"], "MB/min", at_least=200)]
    section.conditions = paragraphs(CONDITIONS.format(networks=NETWORKS))
    return section
