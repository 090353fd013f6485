"""The outbox: reports a second against the sandbox, and what a claim costs with a backlog of a million."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.machine import CLIENT_CORE, SERVER_CORE
from benchmarks.processes import free_port, python
from benchmarks.report import Figure, Section, median, paragraphs, plain

KEY = "sk_test_benchmark"
CUSTOMERS = 200
EACH = 100
BACKLOG = 1_000_000
CLAIM = 200
CLAIMS = 60
CONDITIONS = """
    The sandbox on core {server}, the sender on core {client}. Each report is one call of the official client to Stripe's meter events,
    claimed and settled in the database with synchronous=FULL, {claim} at a time on 8 threads, one in flight for each customer and meter.
    Afterwards the sandbox had every unit, once.

    The backlog: messages of as many customers and meters, put in beforehand and on the disk. What is measured is a claim of {claim} and
    their settlement, in turn at a small backlog and at one of {backlog:,}.
"""


@dataclass(frozen=True, slots=True)
class Sent:
    rate: float
    cpu_us: float


def measure(work: Path, rounds: int) -> Section:
    rates = [_sent(work / f"outbox-{n}") for n in range(rounds)]
    small, large = _claims(work / "outbox-claims")
    rate = median(one.rate for one in rates)
    text = CONDITIONS.format(server=SERVER_CORE, client=CLIENT_CORE, claim=CLAIM, backlog=BACKLOG)
    return Section(
        "outbox",
        "Reports to the payment provider",
        ("", "a second", "µs each"),
        [
            ("reports sent to the sandbox (CPU)", plain(rate), plain(median(one.cpu_us for one in rates))),
            (f"claim and settlement of {CLAIM}, 1,000 waiting", plain(CLAIM / small), plain(small / CLAIM * 1e6)),
            (f"the same, {BACKLOG:,} waiting", plain(CLAIM / large), plain(large / CLAIM * 1e6)),
        ],
        [
            Figure("outbox: reports a second against the sandbox", rate, "/s", at_least=900.0),
            Figure("outbox: cost of a claim with 1,000,000 waiting ÷ with 1,000", large / small, "", at_most=1.2),
        ],
        paragraphs(text),
    )


def _sent(folder: Path) -> Sent:
    """A sandbox on its core, this process on the other."""
    folder.mkdir(parents=True)
    port = free_port()
    sandbox = subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *python("-m", "tollkeeper", "sandbox", "--listen", f"127.0.0.1:{port}")],
        stderr=subprocess.PIPE,
    )
    try:
        assert sandbox.stderr is not None
        sandbox.stderr.readline()  # it listens
        worker = [*python("-m", "benchmarks.outbox", str(folder), f"http://127.0.0.1:{port}")]
        done = subprocess.run(["taskset", "-c", str(CLIENT_CORE), *worker], check=True, stdout=subprocess.PIPE)
    finally:
        sandbox.terminate()
        sandbox.wait(10)
    rate, cpu = done.stdout.split()
    return Sent(float(rate), float(cpu))


def _messages(count: int, lanes: int, now: int) -> list[Any]:
    from tollkeeper.core.outbox import METER_EVENT, NORMAL, OutboxMessage, identify, usage_lane

    return [
        OutboxMessage(
            id=f"out_{n:026d}",
            environment="test",
            topic=METER_EVENT,
            lane=usage_lane("test", f"c{n % lanes}", "api_calls"),
            identifier=identify("bench", n),
            payload={"at": now, "end": now + 86_400_000_000},
            priority=NORMAL,
            created_at=now,
            due_at=now,
            customer=f"c{n % lanes}",
            meter="api_calls",
            period_start=now - 86_400_000_000,
            quantity=Decimal(1),
        )
        for n in range(count)
    ]


def _work(folder: Path, url: str) -> None:
    """The sender. Prints reports a second and µs of CPU each."""
    from tollkeeper.core.customers import Customer
    from tollkeeper.core.outbox import METER_EVENT
    from tollkeeper.core.ports_money import ProviderObject
    from tollkeeper.core.provider_catalog import Thing
    from tollkeeper.integrations.stripe.account import StripeAccount
    from tollkeeper.integrations.stripe.client import Calls
    from tollkeeper.integrations.stripe.shelf import StripeShelf
    from tollkeeper.services.clock import Clock
    from tollkeeper.services.dispatch import Dispatcher
    from tollkeeper.services.topics import MeterEvents
    from tollkeeper.storage.sql.engine import open_database

    database = open_database(str(folder / "toll.db"))
    calls = Calls(KEY, url)
    account = StripeAccount(calls, lambda: None)
    now = int(time.time()) * 1_000_000
    meter = StripeShelf(calls, database.pair_id).make(Thing("meter", "api_calls", {"name": "a"}), lambda k, v: "", "m")
    made = account.make_customer(Customer("c0", "c", None, "usd", "UTC", now), "c")
    with database.write() as rows:
        rows.provider_objects.put(ProviderObject("stripe", "test", "meter", "api_calls", meter, "", now))
    topic = MeterEvents(database, account, database.pair_id, lag_us=0)
    topic._ids._known = {("customer", f"c{n}"): made for n in range(CUSTOMERS)}
    count = CUSTOMERS * EACH
    with database.write() as rows:
        rows.outbox.put(_messages(count, CUSTOMERS, now))
    dispatcher = Dispatcher(database, {METER_EVENT: topic}, "test", Clock(), batch=CLAIM)
    began, cpu = time.perf_counter(), time.process_time()
    while dispatcher.run_once():
        pass
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    dispatcher.close()
    assert dispatcher.counts == {"sent": count}, dispatcher.counts
    start = now - now % 86_400_000_000
    assert account.reported(meter, made, start - 86_400_000_000, start + 2 * 86_400_000_000) == count
    sys.stdout.write(f"{count / seconds} {cpu / count * 1e6}\n")


def _claims(folder: Path) -> tuple[float, float]:
    """Seconds of a claim and its settlement with 1,000 waiting and with BACKLOG, in turn, once what was put in has reached the disk."""
    from tollkeeper.core.outbox import Settlement
    from tollkeeper.storage.sql.engine import open_database

    def claim(database: Any, now: int) -> float:
        began = time.perf_counter()
        with database.write() as rows:
            claimed = rows.outbox.claim("test", now, now + 60_000_000, CLAIM)
        with database.write() as rows:
            rows.outbox.settle([Settlement(one, "pending", one.due_at, certain=True) for one in claimed], now)
        took = time.perf_counter() - began
        assert len(claimed) == CLAIM
        return took

    databases: list[Any] = []
    for waiting in (CLAIM * 5, BACKLOG):
        place = folder / str(waiting)
        place.mkdir(parents=True)
        database = open_database(str(place / "toll.db"))
        messages = _messages(waiting, waiting, 1_000_000)
        for at in range(0, waiting, 50_000):
            with database.write() as rows:
                rows.outbox.put(messages[at : at + 50_000])
        del messages
        database.close()  # its log is copied into the file, or a thread would still do so beside what is measured
        databases.append(open_database(str(place / "toll.db")))
    os.sync()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(CLAIMS):
        for database, taken in zip(databases, times, strict=True):
            taken.append(claim(database, 2_000_000))
    for database in databases:
        database.close()
    return median(times[0]), median(times[1])


if __name__ == "__main__":
    _work(Path(sys.argv[1]), sys.argv[2])
