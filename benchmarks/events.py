"""`POST /v1/events` with 16 connections, beside the same rows and rollups written without HTTP."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.machine import CLIENT_CORE, SERVER_CORE
from benchmarks.processes import python
from benchmarks.report import Figure, Section, median, paragraphs, plain, ratios
from benchmarks.tollkeeper_server import Customer, Tollkeeper, event_bodies

CONNECTIONS = 16
CUSTOMERS = 200
WIDTH = {"uuid7": 36, "ulid": 26, "uuid4": 36}
RUNS = ((1000, "uuid7"), (100, "uuid7"), (1000, "uuid4"), (100, "uuid4"), (1000, "ulid"))
TARGET = {(1000, "uuid7"): 100_000, (100, "uuid7"): 60_000, (1000, "ulid"): 100_000}
NAMES = {"uuid7": "time-ordered ids (UUIDv7)", "ulid": "time-ordered ids (ULID)", "uuid4": "random ids (UUIDv4)"}

CONDITIONS = """
    Server on core {server}, wrk on core {client}. Ids are made by the client and unique across the run. Dedupe, log,
    rollups, a commit with synchronous=FULL, then an answer for each event.

    {customers} customers in turn; every other event sums a property (`tokens`), the others are counted. Events are
    stamped now.

    Every answer said that the whole batch was accepted. After every run the usage totals were read back: they equal
    what was acknowledged.

    Without HTTP: the same customers, types, ids and data as rows for the product's own log writer, made before the
    clock runs, with 16 batches under way, one process on the server's core. It neither decodes JSON nor answers.

    The served file grows from run to run; the file without HTTP is new each time, which favours the latter.
"""


class NotExact(Exception):
    """What was acknowledged is not what was counted."""


def _verify(server: Tollkeeper, customers: list[Customer], counted: dict[str, int], sent: int, batch: int) -> None:
    """Every event acknowledged so far is in the totals exactly once, whichever meter and customer it is of."""
    calls = sum(server.usage("api_calls", one.id) for one in customers[:-1])
    tokens = sum(server.usage("tokens", one.id) for one in customers[:-1])
    if tokens % 12:
        raise NotExact(f"{tokens} tokens: not a multiple of the 12 of an event")
    counted["events"] += sent * batch
    if calls + tokens // 12 != counted["events"]:
        raise NotExact(f"{counted['events']} events were acknowledged, {calls + tokens // 12} are in the usage totals")


def _direct(folder: Path, batch: int, ids: str, seconds: float) -> dict[str, Any]:
    """One run of direct_worker on the server's core."""
    command = [
        "taskset",
        "-c",
        str(SERVER_CORE),
        *python("-m", "benchmarks.direct_worker", str(folder), str(batch), ids, str(seconds)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def measure(work: Path, rounds: int, seconds: float) -> Section:
    http: dict[tuple[int, str], list[load.Load]] = {run: [] for run in RUNS}
    direct: dict[tuple[int, str], list[dict[str, Any]]] = {run: [] for run in RUNS}
    cpu: dict[tuple[int, str], list[float]] = {run: [] for run in RUNS}
    with ExitStack() as stack:
        server = Tollkeeper(work / "tollkeeper-events")
        customers = server.fill("hard", CUSTOMERS + 1)
        server.start(stack)
        counted = {"events": 0}
        for turn in range(-1, rounds):
            for batch, ids in RUNS:
                length = 1.0 if turn < 0 else seconds
                before = server.server.cpu_seconds()
                result = load.run(
                    server.port, "events", "/v1/events", event_bodies(customers, WIDTH[ids]),
                    connections=CONNECTIONS, seconds=length, token=server.server_key, batch=str(batch), ids=ids,
                )  # fmt: skip
                share = (server.server.cpu_seconds() - before) / ((result.sent + result.drained) * batch) * 1e6
                _verify(server, customers, counted, result.sent, batch)
                if turn < 0:
                    continue
                http[batch, ids].append(result)
                cpu[batch, ids].append(share)
                folder = work / f"direct-{turn}-{batch}-{ids}-{time.monotonic_ns()}"
                folder.mkdir()
                direct[batch, ids].append(_direct(folder, batch, ids, seconds / 2))
    return _section(http, direct, cpu, seconds)


def _section(
    http: dict[tuple[int, str], list[load.Load]],
    direct: dict[tuple[int, str], list[dict[str, Any]]],
    cpu: dict[tuple[int, str], list[float]],
    seconds: float,
) -> Section:
    section = Section(
        "events",
        f"POST /v1/events, {CONNECTIONS} connections, {len(http[RUNS[0]])} rounds of {plain(seconds)} s in turn",
        ("", "events/s", "p50 ms", "p99 ms", "CPU µs/event", "client busy", "without HTTP, events/s", "ratio"),
    )
    for run in RUNS:
        batch, ids = run
        rates = [one.per_second * batch for one in http[run]]
        plainly = [one["events_per_second"] for one in direct[run]]
        ratio = median(ratios(rates, plainly))
        name = f"batches of {batch:,}, {NAMES[ids]}"
        section.rows.append(
            (
                name,
                plain(median(rates)),
                f"{median(one.p50_ms for one in http[run]):.1f}",
                f"{median(one.p99_ms for one in http[run]):.1f}",
                plain(median(cpu[run])),
                f"{median(one.client_busy for one in http[run]):.2f}",
                plain(median(plainly)),
                f"{ratio:.2f}",
            )
        )
        target = TARGET.get(run)
        section.figures.append(Figure(f"events in {name}", median(rates), "events/s", at_least=target))
        section.figures.append(Figure(f"÷ without HTTP, {name}", ratio, "×", at_least=0.4 if target else None))
        section.raw[f"{batch} {ids}"] = {
            "http": [one.as_json() for one in http[run]],
            "direct": direct[run],
            "cpu_us_per_event": cpu[run],
        }
    section.conditions = paragraphs(CONDITIONS.format(server=SERVER_CORE, client=CLIENT_CORE, customers=CUSTOMERS))
    return section
