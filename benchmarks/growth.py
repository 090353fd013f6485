"""Cost per stored event as the log grows, inside a memory limit that includes the page cache; then a server on the grown file."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import SERVER_CORE
from benchmarks.memory_limit import MemoryLimit, memory_limit
from benchmarks.processes import python
from benchmarks.report import Figure, Section, paragraphs, plain
from benchmarks.tollkeeper_server import Customer, Tollkeeper

KINDS = {
    "gate": ("ids the gate makes", 1.2),
    "timed": ("time-ordered ids (UUIDv7) from clients", 1.2),
    "random": ("random ids (UUIDv4) from clients", 2.0),
}
CUSTOMERS = 1000
LIMIT = 2 * 2**30
FULL = 50_000_000
QUERIES = 500
BYTES = 100

CONDITIONS = """
    {customers} customers, uniformly; a steady 50 million events in 30 days, so about {days} days of simulated time;
    two meters; half the events carry `data`. Whole days are compared: a rollup's cost follows the hour of the day.
    One process on the server's core.

    Timed: dedupe, log, rollups, commit (synchronous=FULL) and the waits that checkpoints cause. Rows are made before
    the clock runs.

    A customer's month: {queries} requests in a row over HTTP on the grown file, random customers, the server started
    anew under the same limit.
"""


def _grow(
    server: Tollkeeper, kind: str, events: int, known: Path, limit: MemoryLimit, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    worker = python("-m", "benchmarks.growth_worker", server.url, kind, str(events), str(known))
    command = [*limit.command, "taskset", "-c", str(SERVER_CORE), *worker]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for text in process.stdout:
        lines.append(json.loads(text))
        say(f"growth, {kind}: {text.strip()}")
    if process.wait():
        raise RuntimeError(f"growth of {kind} ended with {process.returncode}")
    return lines


def _first_answer(server: Tollkeeper, customer: Customer) -> float:
    """Seconds from starting the process to its first answer: what a customer has used in the current period."""
    start = time.perf_counter()
    server.start()
    server.get(f"/v1/usage?meter=api_calls&customer={customer.id}")
    return time.perf_counter() - start


def _month(server: Tollkeeper, customers: list[Customer]) -> list[float]:
    """Milliseconds of each `GET /v1/usage` over 30 days of a random customer by meter, in a row on one connection."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((time.time() // 86400 - 30) * 86400))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Authorization": f"Bearer {server.token}"}
    choose = random.Random(11)
    spent = []
    for number in range(QUERIES):
        customer = choose.choice(customers)
        path = f"/v1/usage?customer={customer.id}&meter={('api_calls', 'tokens')[number % 2]}&from={since}"
        start = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        spent.append((time.perf_counter() - start) * 1000)
        if answer.status != 200 or int(json.loads(body)["total"]) <= 0:
            raise RuntimeError(f"usage answered {answer.status}: {body[:300]!r}")
    connection.close()
    return spent


def _total(server: Tollkeeper) -> int:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((time.time() // 86400 - 32) * 86400))
    calls, tokens = (
        int(server.get(f"/v1/usage?meter={meter}&from={since}")["total"]) for meter in ("api_calls", "tokens")
    )
    return calls + tokens // 12


def measure(work: Path, events: int, say: Callable[[str], None]) -> Section:
    base = Tollkeeper(work / "growth")
    customers = base.fill("hard", CUSTOMERS)
    known = work / "growth-customers.txt"
    known.write_text("\n".join(f"{one.id} {one.key_id}" for one in customers))
    section = Section(
        "growth",
        f"Growth to {events:,} stored events",
        ("", "µs/event, first day", "last day", "ratio", "ratio of CPU", "bytes/event"),
    )
    full = events >= FULL
    with memory_limit(LIMIT) as limit:
        for kind, (name, most) in KINDS.items():
            folder = work / f"growth-{kind}"
            shutil.copytree(base.folder, folder)
            server = Tollkeeper(folder, limit.command)
            server.token, server.server_key = base.token, base.server_key
            lines = _grow(server, kind, events, known, limit, say)
            days = [line for line in lines if "us_per_event" in line]
            whole = [day for day in days if day["events"] >= 0.9 * days[0]["events"]]
            ratio = whole[-1]["us_per_event"] / whole[0]["us_per_event"]
            size = lines[-1]["bytes"] / lines[-1]["stored"]
            first, last = f"{whole[0]['us_per_event']:.2f}", f"{whole[-1]['us_per_event']:.2f}"
            cpu = whole[-1]["cpu_us_per_event"] / whole[0]["cpu_us_per_event"]
            section.rows.append((name, first, last, f"{ratio:.2f}", f"{cpu:.2f}", f"{size:.0f}"))
            small = "" if full else f"{plain(ratio)} × at {events:,}; the target is for {FULL:,}"
            section.figures.append(
                Figure(
                    f"cost per event, last ÷ first day, {name}", ratio if full else None, "×", at_most=most, note=small
                )
            )
            section.figures.append(Figure(f"on disk, {name}", size, "bytes/event", at_most=BYTES))
            section.raw[kind] = {"days": days, "peak_memory_bytes": limit.peak_bytes()}
            section.figures += _served(server, customers, kind, events, section)
            shutil.rmtree(folder)
        section.conditions.append(f"Memory: {limit.reason}.")
    section.conditions += paragraphs(CONDITIONS.format(customers=CUSTOMERS, days=len(days), queries=QUERIES))
    return section


def _served(server: Tollkeeper, customers: list[Customer], kind: str, events: int, section: Section) -> list[Figure]:
    """A server on the grown file: its first answer, that nothing is missing from the totals, a customer's month."""
    first = _first_answer(server, customers[0])
    try:
        stored = section.raw[kind]["days"][-1]["stored"]
        if (total := _total(server)) != stored:
            raise RuntimeError(f"{stored} events were stored, {total} are in the usage totals")
        spent = sorted(_month(server, customers))
    finally:
        server.stop()
    p50, p99 = statistics.median(spent), spent[len(spent) * 99 // 100]
    section.raw[kind] |= {"first_answer_seconds": first, "month_p50_ms": p50, "month_p99_ms": p99}
    full = events >= FULL
    at = "" if full else f"at {events:,}; the target is for {FULL:,}"
    name = KINDS[kind][0]
    return [
        Figure(f"start to first answer, {name}", first, "s", at_most=1 if full else None, note=at),
        Figure(f"a customer's month by meter, p50, {name}", p50, "ms"),
        Figure(f"a customer's month by meter, p99, {name}", p99, "ms", at_most=5 if full else None, note=at),
    ]
