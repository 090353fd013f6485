"""`POST /v1/check` beside the floor, FastAPI with `limits`, and Hono with ioredis: 64 connections, round by round."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import comparators, load
from benchmarks.machine import CLIENT_CORE, SERVER_CORE
from benchmarks.processes import Server
from benchmarks.report import Figure, Section, median, paragraphs, plain, ratios
from benchmarks.tollkeeper_server import Customer, Tollkeeper, check_bodies
from tollkeeper.core.keys import make_secret

CONNECTIONS = 64
KEYS = 256
VALID = '"code":"VALID"'
EXACT_SECONDS = 20

CONDITIONS = """
    Server on core {server}, wrk on core {client}, loopback, keep-alive, closed loop: a client waits for its answer,
    so p99 says how long the queue of 64 takes and not what a lone caller waits.

    Every answer was looked at. After every run of Tollkeeper the usage totals were read back over the API: they equal
    the VALID answers.

    The floor decodes a JSON body of the check's size and encodes an answer of its size with msgspec, in Tollkeeper's
    own HTTP server, as an ASGI application. The lower floor does the same without an ASGI task, the way Tollkeeper
    answers a check: against the floor part of Tollkeeper's speed is that it does not go through ASGI; against the
    lower floor nothing is.

    FastAPI + limits looks the key up in a dict and takes one sliding window counter on Redis, which keeps nothing on
    disk; no quota, no event.

    Hono + ioredis: key, GCRA limit, hard quota and one stream entry in one Lua script, without auto-pipelining, which
    is slower here. It keeps no rollup beside the quota counter and deduplicates nothing, so it does somewhat less
    than Tollkeeper.

    `one core`: Redis shares the core of its server, as SQLite shares Tollkeeper's. The other rows give Redis the
    client's core.

    The early answer is asked for on a soft quota; for a hard quota it is refused.

    CPU µs/answer: processor time of the server, Redis included, over answers. On a busy machine it says more than
    answers/s.
"""


class NotExact(Exception):
    """What was acknowledged is not what was counted."""


@dataclass(slots=True)
class Contender:
    """`database` is the Redis behind it, if any: its processor time is counted too."""

    name: str
    durability: str
    server: Server
    bodies: list[str]
    token: str = "none"
    database: Server | None = None
    verify: Callable[[load.Load], None] | None = None

    def cpu_seconds(self) -> float:
        return self.server.cpu_seconds() + (self.database.cpu_seconds() if self.database is not None else 0)


def exact(server: Tollkeeper, customers: list[Customer]) -> Callable[[load.Load], None]:
    """After each run: usage has grown by exactly what was answered VALID. An early answer may still be on its way."""
    counted = 0

    def total() -> int:
        return sum(server.usage("api_calls", one.id) for one in customers[:-1])

    def verify(result: load.Load) -> None:
        nonlocal counted
        counted += result.sent
        deadline = time.monotonic() + EXACT_SECONDS
        while (used := total()) != counted:
            if used > counted or time.monotonic() > deadline:
                raise NotExact(f"{counted} checks were answered VALID, {used} are in the usage total")
            time.sleep(0.2)

    return verify


def contenders(stack: ExitStack, work: Path, missing: dict[str, str]) -> list[Contender]:
    floor, lower = (comparators.start_floor(stack, work, way) for way in ("asgi", "direct"))
    server = Tollkeeper(work / "tollkeeper-check")
    hard, soft = server.fill("hard", KEYS + 1), server.fill("soft", KEYS + 1)
    server.start(stack)
    foreign = [make_secret("live", secrets.randbelow(62**30)) for _ in range(KEYS + 1)]
    bodies = [f'{{"key":"{key}","meter":"api_calls","cost":"1"}}' for key in foreign]
    key = server.server_key
    entries = [
        Contender("floor: bare JSON POST, as ASGI", "nothing kept", floor, bodies, key),
        Contender("lower floor: bare JSON POST, without a task", "nothing kept", lower, bodies, key),
        Contender(
            "Tollkeeper, after the commit",
            "fsync before the answer",
            server.server,
            check_bodies(hard),
            key,
            None,
            exact(server, hard),
        ),
        Contender(
            "Tollkeeper, early answer",
            "fsync after the answer",
            server.server,
            check_bodies(soft, False),
            key,
            None,
            exact(server, soft),
        ),
    ]
    for place, core in (("one core", SERVER_CORE), ("Redis on the client's core", CLIENT_CORE)):
        database = comparators.start_redis(stack, work, f"fastapi-{core}", core, None)
        app = comparators.start_fastapi(stack, work, str(core), foreign, database, "sliding")
        entries.append(Contender(f"FastAPI + limits, {place}", "records nothing", app, bodies, key, database))
    for place, core in (("one core", SERVER_CORE), ("Redis on the client's core", CLIENT_CORE)):
        if "node" in missing or "npm" in missing:
            break
        for fsync, means in (("always", "fsync before the answer"), ("everysec", "fsync within a second")):
            database = comparators.start_redis(stack, work, f"hono-{core}-{fsync}", core, fsync)
            app = comparators.start_hono(stack, work, f"{core}-{fsync}", foreign, database)
            entries.append(
                Contender(f"Hono + ioredis, appendfsync {fsync}, {place}", means, app, bodies, key, database)
            )
    return entries


def measure(work: Path, rounds: int, seconds: float, missing: dict[str, str]) -> Section:
    comparators_missing = [missing[part] for part in ("node", "npm") if part in missing]
    if not comparators_missing:
        comparators.install_hono()
    with ExitStack() as stack:
        entries = contenders(stack, work, missing)
        results: dict[str, list[load.Load]] = {entry.name: [] for entry in entries}
        cpu: dict[str, list[float]] = {entry.name: [] for entry in entries}
        for turn in range(-1, rounds):  # the turn before the first only warms up, for a second each
            for entry in entries:
                length = 1.0 if turn < 0 else seconds
                before = entry.cpu_seconds()
                result = load.run(
                    entry.server.port, "check", "/v1/check", entry.bodies,
                    connections=CONNECTIONS, seconds=length, token=entry.token, expect=VALID,
                )  # fmt: skip
                if turn >= 0:
                    results[entry.name].append(result)
                    cpu[entry.name].append((entry.cpu_seconds() - before) / (result.sent + result.drained) * 1e6)
                if entry.verify is not None:
                    entry.verify(result)
    return _section(entries, results, cpu, seconds, comparators_missing)


def _section(
    entries: list[Contender],
    results: dict[str, list[load.Load]],
    cpu: dict[str, list[float]],
    seconds: float,
    absent: list[str],
) -> Section:
    rate = {name: [one.per_second for one in runs] for name, runs in results.items()}
    floor, lower, durable, early = (entry.name for entry in entries[:4])
    section = Section(
        "check",
        f"POST /v1/check, {CONNECTIONS} connections, {KEYS} keys, {len(rate[floor])} rounds of {plain(seconds)} s in turn",
        ("", "answers/s", "× floor", "p50 ms", "p99 ms", "CPU µs/answer", "client busy", "kept"),
        raw={
            "runs": {name: [one.as_json() for one in runs] for name, runs in results.items()},
            "cpu_us_per_answer": cpu,
        },
    )
    for entry in entries:
        runs = results[entry.name]
        section.rows.append(
            (
                entry.name,
                plain(median(rate[entry.name])),
                f"{median(ratios(rate[entry.name], rate[floor])):.2f}",
                f"{median(one.p50_ms for one in runs):.1f}",
                f"{median(one.p99_ms for one in runs):.1f}",
                plain(median(cpu[entry.name])),
                f"{median(one.client_busy for one in runs):.2f}",
                entry.durability,
            )
        )

    def against(name: str, these: str, those: str, at_least: float | None, note: str = "") -> Figure:
        value = median(ratios(rate[these], rate[those])) if those in rate else None
        return Figure(name, value, "×", at_least=at_least, note=note if value is not None else "; ".join(absent))

    fastapi, wide = "FastAPI + limits, one core", "FastAPI + limits, Redis on the client's core"
    hono, other = (
        "Hono + ioredis, appendfsync {}, one core",
        "Hono + ioredis, appendfsync {}, Redis on the client's core",
    )
    section.figures = [
        against("check after the commit ÷ floor", durable, floor, 0.45),
        against("check, early answer ÷ floor", early, floor, 0.65),
        against("check after the commit ÷ lower floor", durable, lower, None),
        against("check, early answer ÷ lower floor", early, lower, None),
        against("check after the commit ÷ FastAPI + limits", durable, fastapi, 3, "one core each"),
        against("check after the commit ÷ FastAPI + limits", durable, wide, 3, "which has two cores"),
        against(
            "check after the commit ÷ Hono, fsync always",
            durable,
            hono.format("always"),
            1,
            "one core each, same durability",
        ),
        against(
            "check after the commit ÷ Hono, fsync always", durable, other.format("always"), 1, "which has two cores"
        ),
        against("check, early answer ÷ Hono, fsync everysec", early, hono.format("everysec"), 1, "one core each"),
        against(
            "check, early answer ÷ Hono, fsync everysec", early, other.format("everysec"), 1, "which has two cores"
        ),
    ]
    section.conditions = paragraphs(CONDITIONS.format(server=SERVER_CORE, client=CLIENT_CORE)) + absent
    return section
