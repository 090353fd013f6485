"""`POST /webhooks/stripe` beside the design that most tutorials have: Hono, ioredis and stripe on Node, and how often each applies."""

from __future__ import annotations

import http.client
import json
import secrets
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from benchmarks import comparators, load
from benchmarks.machine import CLIENT_CORE, SERVER_CORE
from benchmarks.processes import Server, free_port, python
from benchmarks.report import Figure, Section, median, paragraphs, plain, ratios
from benchmarks.tollkeeper_server import COMMAND
from tollkeeper.core.webhooks import sign

CONNECTIONS = 64
COPIES = 20
EVENTS = 100
STARTS = 5
SECRET = f"whsec_{secrets.token_hex(16)}"
PATH = "/webhooks/stripe"
HOLDER = "@" * 24
EFFECTS = Path(__file__).with_name("webhook_server.py")

CONDITIONS = """
    Server on core {server}, wrk on core {client}, loopback, keep-alive, closed loop of 64. Each event is {size:,} bytes, has an id of
    its own and is signed anew; the client makes the signatures.

    After every run the events kept are counted: in Tollkeeper's database, and in Redis' set.

    Tollkeeper keeps the raw bytes and answers after the commit (synchronous=FULL); the effect comes later. The tutorial keeps the id
    only, after its effect, which is one HINCRBY: nothing of the event survives if it dies before.

    `one core`: Redis shares the core of its server, as SQLite shares Tollkeeper's. The other rows give Redis the client's core.

    With the effect: the same server applies each event while they arrive. The effect counts itself in a row; the object that a real effect
    would read from Stripe comes from memory. The rate is of events applied between the first arrival and the last effect.

    Copies: {copies} connections send the same event at the same moment, {events} events in turn; then the effects are counted.
"""


def event() -> str:
    """An `invoice.paid` as Stripe writes it, of usual size, with a place for its id."""
    period = {"end": 1792592000, "start": 1790000000}
    line: dict[str, Any] = {
        "object": "line_item",
        "amount": 1234,
        "currency": "usd",
        "description": "1,234 × API calls (at $0.01 / month)",
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "livemode": False,
        "metadata": {},
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": False,
                "proration_details": {"credited_items": None},
                "subscription": "sub_1SXkPx2eZvKYlo2CrGkTpMwV",
                "subscription_item": "si_TUhD0XlsuYbQwC",
            },
            "type": "subscription_item_details",
        },
        "period": period,
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": "price_1SXkPv2eZvKYlo2C9kQy1mDq", "product": "prod_TUhDzlMqWb4kVr"},
            "type": "price_details",
            "unit_amount_decimal": "1",
        },
        "quantity": 1234,
        "taxes": [],
    }
    invoice = {
        "id": "in_1SXkPz2eZvKYlo2CFjWnQe5R",
        "object": "invoice",
        "account_country": "US",
        "account_name": "Example",
        "amount_due": 2468,
        "amount_paid": 2468,
        "amount_remaining": 0,
        "attempt_count": 1,
        "attempted": True,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None, "status": None},
        "billing_reason": "subscription_cycle",
        "collection_method": "charge_automatically",
        "created": 1792592000,
        "currency": "usd",
        "customer": "cus_TUhDqhEr7X5k2P",
        "customer_email": "ada@example.com",
        "hosted_invoice_url": "https://invoice.example.com/i/acct_1/test_" + "a1B2" * 20,
        "lines": {
            "data": [{"id": f"il_1SXkPz2eZvKYlo2C{n}", **line} for n in range(2)],
            "has_more": False,
            "object": "list",
        },
        "livemode": False,
        "metadata": {},
        "number": "4F2A9B1C-0007",
        "parent": {
            "quote_details": None,
            "subscription_details": {"metadata": {}, "subscription": "sub_1SXkPx2eZvKYlo2CrGkTpMwV"},
            "type": "subscription_details",
        },
        "period_end": 1792592000,
        "period_start": 1790000000,
        "status": "paid",
        "status_transitions": {"finalized_at": 1792595600, "marked_uncollectible_at": None, "paid_at": 1792595605},
        "total": 2468,
    }
    whole = {
        "id": f"evt_{HOLDER}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": 1792595605,
        "data": {"object": invoice},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": "invoice.paid",
    }
    return json.dumps(whole, indent=2, ensure_ascii=False)


class NotStored(Exception):
    """What was answered 2xx is not what is kept."""


@dataclass(slots=True)
class Contender:
    """`kept()`: how many events are stored; `applied()`: id → how often, once the server has ended or settled."""

    name: str
    server: Server
    kept: Callable[[], int]
    database: Server | None = None

    def cpu_seconds(self) -> float:
        return self.server.cpu_seconds() + (self.database.cpu_seconds() if self.database is not None else 0)


def start(work: Path, name: str, script: Path | None = None) -> tuple[Server, Path]:
    """A Tollkeeper on a folder of its own (made, or the same as before), and its database."""
    folder = work / f"tollkeeper-{name}"
    folder.mkdir(exist_ok=True)
    port = free_port()
    environment = {
        "PORT": str(port),
        "TOLLKEEPER_HOST": "127.0.0.1",
        "TOLLKEEPER_DATABASE_URL": f"sqlite:///{folder / 'toll.db'}",
        "TOLLKEEPER_ADMIN_TOKEN": f"bench-{secrets.token_hex(16)}",
        "STRIPE_WEBHOOK_SECRET": SECRET,
    }
    command = COMMAND if script is None else python(str(script))
    return Server(command, port, SERVER_CORE, folder / "server.log", environment, cwd=folder), folder / "toll.db"


def asked(database: Path, statement: str) -> list[tuple[Any, ...]]:
    """A read of a database that a server of another process has open."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def stored(database: Path) -> Callable[[], int]:
    """How many events are there, those of the drain left out."""
    return lambda: int(asked(database, "SELECT count(*) FROM inbox_events WHERE id NOT LIKE 'evt_1drain%'")[0][0])


def start_hono(stack: ExitStack, work: Path, name: str, database: Server) -> Server:
    port = free_port()
    environment = {
        "BENCH_PORT": str(port),
        "BENCH_REDIS_PORT": str(database.port),
        "BENCH_SECRET": SECRET,
        "NODE_ENV": "production",
    }
    command = ["node", str(comparators.HONO / "webhooks.mjs")]
    return stack.enter_context(
        Server(command, port, SERVER_CORE, work / f"hono-{name}.log", environment, cwd=comparators.HONO)
    )


def processed(database: Server) -> Callable[[], int]:
    def count() -> int:
        with redis.Redis(port=database.port) as client:
            drained = len(set(client.sscan_iter("processed", match="evt_1drain*", count=10_000)))  # one may come twice
            return int(client.scard("processed")) - drained  # type: ignore[arg-type]

    return count


def contenders(stack: ExitStack, work: Path, missing: dict[str, str]) -> list[Contender]:
    server, database = start(work, "webhooks")
    stack.callback(server.stop)
    entries = [Contender("Tollkeeper, after the commit", server, stored(database))]
    if "node" in missing or "npm" in missing:
        return entries
    for place, core in (("one core", SERVER_CORE), ("Redis on the client's core", CLIENT_CORE)):
        for fsync in ("always", "everysec"):
            redis_ = comparators.start_redis(stack, work, f"webhooks-{core}-{fsync}", core, fsync)
            app = start_hono(stack, work, f"webhooks-{core}-{fsync}", redis_)
            entries.append(Contender(f"tutorial, appendfsync {fsync}, {place}", app, processed(redis_), redis_))
    return entries


def drive(server: Server, body: str, seconds: float) -> load.Load:
    return load.run(server.port, "webhooks", PATH, [body], connections=CONNECTIONS, seconds=seconds, secret=SECRET)


def checked(entry: Contender, body: str, seconds: float) -> load.Load:
    """One run; what it sent is what is kept afterwards."""
    before = entry.kept()
    result = drive(entry.server, body, seconds)
    time.sleep(0.5)  # what was in flight when the client stopped is drain, and still being done
    if (kept := entry.kept() - before) != result.sent:
        raise NotStored(f"{entry.name}: {result.sent} events were answered 2xx, {kept} are kept")
    return result


def with_effect(work: Path, body: str, seconds: float) -> tuple[float, int]:
    """Events applied a second while they arrive and after, and how many there were."""
    server, database = start(work, "effects", EFFECTS)
    try:
        drive(server, body, seconds)
        wait_for(lambda: not asked(database, "SELECT 1 FROM inbox_events WHERE status = 'pending' LIMIT 1"))
    finally:
        server.stop()
    [(first, last, count)] = asked(database, "SELECT min(received_at), max(processed_at), count(*) FROM inbox_events")
    applied = asked(database, "SELECT seq, count(*) FROM watermarks WHERE name LIKE 'applied:%' GROUP BY seq")
    if applied != [(1, count)]:
        raise NotStored(f"{count} events are stored, effects by how often they were applied: {applied}")
    return count / ((last - first) / 1e6), count


def wait_for(settled: Callable[[], bool], most: float = 300) -> None:
    deadline = time.monotonic() + most
    while not settled():
        if time.monotonic() > deadline:
            raise NotStored("the effects did not come to an end")
        time.sleep(0.1)


def send_copies(port: int, body: str) -> None:
    """EVENTS events, each over COPIES connections at the same moment."""
    together = threading.Barrier(COPIES)
    raws = [body.replace(HOLDER, f"1copy{secrets.token_hex(10)[:19]}").encode() for _ in range(EVENTS)]
    faults: list[Any] = []

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for raw in raws:
            header = sign(SECRET.encode(), raw, int(time.time()))
            together.wait()
            connection.request("POST", PATH, raw, {"Stripe-Signature": header, "Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                faults.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(COPIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise NotStored(f"copies were answered {Counter(faults)}")


def copies(work: Path, body: str, absent: bool) -> dict[str, float]:
    """How often each design applies the effect of an event, on average."""
    server, database = start(work, "copies", EFFECTS)
    try:
        send_copies(server.port, body)
        wait_for(lambda: not asked(database, "SELECT 1 FROM inbox_events WHERE status = 'pending' LIMIT 1"))
    finally:
        server.stop()
    [(total,)] = asked(database, "SELECT sum(seq) FROM watermarks WHERE name LIKE 'applied:%'")
    found = {"Tollkeeper": total / EVENTS}
    if not absent:
        with ExitStack() as stack:
            redis_ = comparators.start_redis(stack, work, "copies", SERVER_CORE, "everysec")
            app = start_hono(stack, work, "copies", redis_)
            send_copies(app.port, body)
            with redis.Redis(port=redis_.port) as client:
                applied: Any = client.hvals("applied")
                found["tutorial"] = sum(map(int, applied)) / EVENTS
    return found


def first_answer(work: Path, body: str) -> tuple[float, float]:
    """Seconds from the start of the process to the first webhook's 2xx, and its processor time until then."""
    begun = time.perf_counter()
    server, _ = start(work, "start")
    try:
        raw = body.replace(HOLDER, f"1start{secrets.token_hex(10)[:18]}").encode()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        header = sign(SECRET.encode(), raw, int(time.time()))
        connection.request("POST", PATH, raw, {"Stripe-Signature": header, "Content-Type": "application/json"})
        status = connection.getresponse().status
        took = time.perf_counter() - begun, server.cpu_seconds()
        connection.close()
    finally:
        server.stop()
    if status != 200:
        raise NotStored(f"the first webhook was answered {status}")
    return took


def measure(work: Path, rounds: int, seconds: float, missing: dict[str, str]) -> Section:
    absent = [missing[part] for part in ("node", "npm") if part in missing]
    if not absent:
        comparators.install_hono()
    body = event()
    with ExitStack() as stack:
        entries = contenders(stack, work, missing)
        results: dict[str, list[load.Load]] = {entry.name: [] for entry in entries}
        cpu: dict[str, list[float]] = {entry.name: [] for entry in entries}
        for turn in range(-1, rounds):  # the turn before the first only warms up
            for entry in entries:
                before = entry.cpu_seconds()
                result = checked(entry, body, 1.0 if turn < 0 else seconds)
                if turn >= 0:
                    results[entry.name].append(result)
                    cpu[entry.name].append((entry.cpu_seconds() - before) / (result.sent + result.drained) * 1e6)
    effects = [with_effect(work / f"round-{turn}", body, min(seconds, 3)) for turn in _folders(work, rounds)]
    often = copies(work, body, bool(absent))
    starts = [first_answer(work, body) for _ in range(STARTS + 1)]
    return _section(results, cpu, effects, often, starts, seconds, absent, len(body.encode()))


def _folders(work: Path, rounds: int) -> list[int]:
    for turn in range(rounds):
        (work / f"round-{turn}").mkdir()
    return list(range(rounds))


def _section(
    results: dict[str, list[load.Load]],
    cpu: dict[str, list[float]],
    effects: list[tuple[float, int]],
    often: dict[str, float],
    starts: list[tuple[float, float]],
    seconds: float,
    absent: list[str],
    size: int,
) -> Section:
    ours = "Tollkeeper, after the commit"
    rate = {name: [one.per_second for one in runs] for name, runs in results.items()}
    p99 = {name: [one.p99_ms for one in runs] for name, runs in results.items()}
    section = Section(
        "webhooks",
        f"POST {PATH}, {CONNECTIONS} connections, {len(rate[ours])} rounds of {plain(seconds)} s in turn",
        ("", "stored/s", "p50 ms", "p99 ms", "CPU µs/answer", "client busy"),
        raw={
            "runs": {name: [one.as_json() for one in runs] for name, runs in results.items()},
            "cpu_us_per_answer": cpu,
            "effects_per_second": effects,
            "copies": often,
            "starts": starts,
        },
    )
    for name, runs in results.items():
        section.rows.append(
            (
                name,
                plain(median(rate[name])),
                f"{median(one.p50_ms for one in runs):.1f}",
                f"{median(p99[name]):.1f}",
                plain(median(cpu[name])),
                f"{median(one.client_busy for one in runs):.2f}",
            )
        )
    names = [
        f"tutorial, appendfsync {fsync}, {place}"
        for place in ("one core", "Redis on the client's core")
        for fsync in ("always", "everysec")
    ]
    note = "; ".join(absent)
    for name in names:
        known = name in rate
        targeted = name.endswith("one core")
        section.figures += [
            Figure(
                f"stored/s ÷ {name}",
                median(ratios(rate[ours], rate[name])) if known else None,
                "×",
                at_least=1.8 if targeted else None,
                note=note,
            ),
            Figure(
                f"p99 ÷ {name}",
                median(ratios(p99[ours], p99[name])) if known else None,
                "×",
                at_most=1.0 if targeted else None,
                note=note,
            ),
        ]
    section.figures += [
        Figure("applied a second, arrivals included", median(one for one, _ in effects), "/s"),
        Figure(f"effects of an event of which {COPIES} copies arrive at once", often["Tollkeeper"], "", at_most=1),
        Figure("the same, tutorial", often.get("tutorial"), "", note=note),
        Figure(
            "start to first webhook 2xx",
            median(took for took, _ in starts[1:]),
            "s",
            at_most=1,
            note="the database is there",
        ),
        Figure("processor time until then", median(cpu for _, cpu in starts[1:]), "s"),
        Figure("the same on a new folder, which makes the database", starts[0][0], "s"),
    ]
    section.conditions = [
        *paragraphs(CONDITIONS.format(server=SERVER_CORE, client=CLIENT_CORE, size=size, copies=COPIES, events=EVENTS)),
        *absent,
    ]
    return section
