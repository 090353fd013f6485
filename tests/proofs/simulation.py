"""The core under a deterministic simulation: one seed is one schedule of requests, commits, faults, crashes and time.

Gate, Ingest and the usage log are the real ones. Threads, disk and clock are not: the writer commits when the schedule says so, a statement
fails when the schedule says so, and a crash forgets everything that was not committed.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw

from tollkeeper.bootstrap import canonical_json
from tollkeeper.core.corrections import Applied, EventCompacted, EventVoided, Selection
from tollkeeper.core.corrections import Batch as Batch_
from tollkeeper.core.customers import Customer, Subscription
from tollkeeper.core.errors import Conflict, InvalidRequest, StorageUnavailable
from tollkeeper.core.events import LogRow, Outcome, UsageEvent
from tollkeeper.core.gate import Decision
from tollkeeper.core.grants import CustomerGrant, KeyGrant
from tollkeeper.core.ids import ulid
from tollkeeper.core.keys import ApiKey, digest, make_secret
from tollkeeper.core.metering import Filter, Meter
from tollkeeper.core.periods import period_at
from tollkeeper.core.plans import Plan, Quota, RateLimit
from tollkeeper.services.clock import Clock
from tollkeeper.services.corrections import Asked, Corrections
from tollkeeper.services.gate import Gate
from tollkeeper.services.ingest import Batch, Ingest
from tollkeeper.services.meters import MeterTable
from tollkeeper.services.reservations import Reservations
from tollkeeper.services.snapshots import MeterView
from tollkeeper.storage.sql.usage.corrected import CorrectionReader
from tollkeeper.storage.sql.usage.corrections import apply
from tollkeeper.storage.sql.usage.extras import CombinationCap
from tollkeeper.storage.sql.usage.log import UsageLog
from tollkeeper.storage.sql.usage.meters import MeterRegistry
from tollkeeper.storage.sql.usage.random_ids import RandomIds
from tollkeeper.storage.sql.usage.read import UsageReader
from tollkeeper.storage.sql.usage.schema import migrate

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
QUOTA = 9
METERS = (
    Meter("calls", "call", "count"),
    Meter("tokens", "llm", "sum", "tokens"),
    Meter("largest", "llm", "max", "tokens", ("model",)),
    Meter("last", "llm", "latest", "tokens"),
    Meter("models", "llm", "unique", "model"),
    Meter("by_model", "llm", "sum", "tokens", ("model", "region")),
    Meter("calls_by_region", "call", "count", None, ("region",)),
    Meter("calls_of_a", "call", "count", None, filters=(Filter("model", ("a",)),)),
    Meter("llm_calls", "llm", "count"),
    Meter("many_tokens", "llm", "count", None, filters=(Filter("tokens", ("0", "1"), negated=True),)),
)
FIRST = len(METERS) - 2
MOST_COMBINATIONS = 2


def passes(one: dict[str, Any], data: dict[str, Any]) -> bool:
    value = data.get(one["property"])
    return (value is not None and str(value) in one["values"]) is not one["negated"]


def add(sums: dict[Any, Any], key: Any, billionths: int, events: int = 1) -> None:
    before = sums.get(key, (0, 0))
    sums[key] = (before[0] + events, before[1] + billionths)


@dataclass
class SimSubmission:
    rows: Sequence[LogRow]
    settled: Callable[[Any], None]
    outcomes: list[Outcome] | None = None
    error: Exception | None = None

    def done(self) -> None:
        self.settled(self)


class SimReader(UsageReader):
    """Reads what is committed, on the one connection there is."""

    def __init__(self, db: apsw.Connection) -> None:
        super().__init__(Path("simulated"))
        self._only = db

    def _db(self) -> apsw.Connection:
        return self._only


@dataclass
class World:
    """`acknowledged` is what the clients were told: (environment, source, id) → (customer, type, value, time)."""

    seed: int
    db: apsw.Connection = field(default_factory=lambda: apsw.Connection(":memory:"))
    acknowledged: dict[tuple[str, str, str], tuple[str, str, int, int]] = field(default_factory=dict)
    possible: dict[tuple[str, str, str], tuple[str, str, int, int]] = field(default_factory=dict)
    faults: int = 0
    crashes: int = 0
    conflicts: int = 0
    duplicates: int = 0
    refused: int = 0
    kept: int = 0
    values: int = 0
    grouped: int = 0
    overflowed: int = 0
    corrected: int = 0
    resumed: int = 0
    twice: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.now = START + self.chance.randrange(40 * 86400) * SECOND
        migrate(self.db, Path("simulated"), lambda: {"pair_id": "p", "created_at": "0"})
        anchor = (START - self.chance.randrange(60 * 86400) * SECOND) // 1000
        zone = self.chance.choice(("UTC", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe"))
        limits = (RateLimit("burst", 7, 10),) if self.chance.random() < 0.5 else ()
        quotas = (Quota("calls", Decimal(QUOTA), "hard"),)
        self.plan = Plan("p", "p", "P", 1, limits, quotas)
        self.customers = {}
        self.keys: dict[str, KeyGrant] = {}
        for name in ("ann", "bob"):
            customer = Customer(name, name, None, "usd", zone, anchor)
            for environment in ("live", "test"):
                subscription = Subscription(f"s{name}", name, environment, "p", 1, anchor, zone, "active", anchor)  # type: ignore[arg-type]
                grant = CustomerGrant(customer, subscription, self.plan, limits, quotas)
                self.customers[environment, name] = grant
                raw = make_secret(environment, self.chance.getrandbits(170))  # type: ignore[arg-type]
                key = ApiKey(
                    f"key_{name}_{environment}", "customer", name, environment, "", digest(raw), "", "", (), (), 0
                )  # type: ignore[arg-type]
                self.keys[raw] = KeyGrant(key, grant)
        self.tokens: list[str] = []
        self.meters_used = list(METERS[:FIRST])
        self.numbers = 0
        self.start()

    # grants, clock

    def by_digest(self, wanted: bytes) -> KeyGrant | None:
        return next((grant for grant in self.keys.values() if grant.key.digest == wanted), None)

    def by_customer(self, environment: str, customer: str) -> CustomerGrant | None:
        return self.customers.get((environment, customer))

    # the writer

    def call(self, function: Callable[[UsageLog], Any]) -> Any:
        return function(self.log)

    def start(self) -> None:
        """A process begins: nothing is known but what is in the file."""
        self.queue: list[SimSubmission] = []
        self.waiting: list[tuple[SimSubmission, Batch]] = []
        self.log = UsageLog(self.db, now_us=lambda: self.now // 1000, random_ids=RandomIds(self.db, flush_at=8))
        self.log._combinations = CombinationCap(self.db, MOST_COMBINATIONS)
        clock = Clock(lambda: self.now, lambda: self.now, self.chance.getrandbits)
        self.table = MeterTable(MeterRegistry(self))  # type: ignore[arg-type]
        self.table.use(self.meters_used)
        self.reader = SimReader(self.db)
        self.gate = Gate(self, self, self.reader, self.table, clock)  # type: ignore[arg-type]
        self.reservations = Reservations(self.gate, self, self.table, b"secret")  # type: ignore[arg-type]
        reader = CorrectionReader(self.reader)
        self.corrections = Corrections(self.gate, self, reader, self.reader, canonical_json, self.calendar, clock)  # type: ignore[arg-type]
        self.ingest = Ingest(self.gate, self, self.table, canonical_json, lambda _: None, clock)  # type: ignore[arg-type]

    # what may happen

    def step(self) -> None:
        action = self.chance.choices(
            (
                self.check,
                self.events,
                self.reserve,
                self.settle,
                self.release,
                self.commit,
                self.move,
                self.crash,
                self.apply,
                self.correct_some,
                self.resume,
            ),
            (8, 6, 3, 3, 0.7, 7, 3, 0.4, 0.3, 2, 1),
        )[0]
        action()

    def check(self) -> None:
        raw = self.chance.choice(list(self.keys))
        decision = self.gate.judge(
            self.gate.find(raw) or self.gate.load(raw),
            self.chance.choice(("calls", "calls", "calls", "calls", "tokens")),
            self.chance.choice((1, 1, 1, 2, "3", 0)),
        )
        if not decision.amount:
            self.refused += decision.code != "VALID"
            return
        id = f"check-{self.chance.randrange(30)}" if self.chance.random() < 0.2 else None
        row = self.gate.row(decision, id)
        what = (row[6], row[4], decision.amount // 10**9, row[7])

        def settled(submission: SimSubmission) -> None:
            if submission.error is not None:
                self.gate.refund(decision)
                return
            try:
                self.gate.settle(decision, submission.outcomes)
            except Conflict:
                self.conflicts += 1
                return
            self.acknowledge(decision, id, row, what, submission.outcomes)

        self.queue.append(SimSubmission([row], settled))

    def acknowledge(
        self,
        decision: Decision,
        id: str | None,
        row: LogRow,
        what: tuple[str, str, int, int],
        outcomes: list[Outcome] | None,
    ) -> None:
        environment = "test" if row[0] & 1 else "live"
        if outcomes is not None and outcomes[0].status == "duplicate":
            self.duplicates += 1
            assert (environment, row[1], id) in self.possible
            return
        name = f"evt_{decision.ulid}" if id is None else id
        assert (environment, row[1], name) not in self.acknowledged
        self.acknowledged[environment, row[1], name] = self.possible[environment, row[1], name] = what

    def events(self) -> None:
        environment = self.chance.choice(("live", "test"))
        batch = [self.event() for _ in range(self.chance.choice((1, 1, 2, 5)))]
        judged = self.ingest.judge(environment, batch)  # type: ignore[arg-type]
        if not judged.rows:
            self.ingest.settle(judged, [])
            return

        def settled(submission: SimSubmission) -> None:
            if submission.error is not None:
                self.ingest._take_back(judged)
                return
            results = self.ingest.settle(judged, submission.outcomes)
            accepted = {}
            outcomes = submission.outcomes or [Outcome("accepted", 0)] * len(judged.rows)
            for row, outcome, index in zip(judged.rows, outcomes, judged.indexes, strict=True):
                where = (environment, row[1], batch[index].id)
                value = row[8] if row[4] == "call" else int((batch[index].data or {}).get("tokens", 0))
                assert results[index].status == outcome.status
                if outcome.status == "accepted":
                    assert where not in self.acknowledged
                    accepted[where] = (row[6], row[4], value, row[7])
                elif outcome.status == "duplicate":
                    self.duplicates += 1
                else:
                    self.conflicts += 1
            self.acknowledged |= accepted
            self.possible |= accepted

        self.queue.append(SimSubmission(judged.rows, settled))

    def reserve(self) -> None:
        raw = self.chance.choice(list(self.keys))
        decision = self.gate.judge(
            self.gate.find(raw) or self.gate.load(raw),
            self.chance.choice(("calls", "tokens")),
            self.chance.choice((1, 2, "3", 0)),
        )
        self.reservations.hold(decision)
        if decision.reservation is not None:
            self.tokens.append(decision.reservation)
        self.refused += decision.code != "VALID"

    def settle(self) -> None:
        """Commit a reservation, of this process or of one before, perhaps not for the first time."""
        if not self.tokens:
            return
        token = self.chance.choice(self.tokens)
        number = self.chance.choice((0, 1, 1, 5))
        try:
            commit = self.reservations.begin(token, number)
        except InvalidRequest:  # older than usage may be
            self.tokens.remove(token)
            return
        row = commit.row

        def settled(submission: SimSubmission) -> None:
            if submission.error is not None:
                commit.take_back()
                return
            try:
                made = commit.settle(submission.outcomes)
            except Conflict:
                self.conflicts += 1
                return
            where = ("test" if row[0] & 1 else "live", row[1], made.event_id)
            if made.status == "duplicate":
                self.duplicates += 1
                assert where in self.possible
                return
            assert where not in self.acknowledged
            self.acknowledged[where] = self.possible[where] = (row[6], row[4], number, row[7])

        self.queue.append(SimSubmission([row], settled))

    def release(self) -> None:
        if self.tokens:
            self.reservations.release(self.chance.choice(self.tokens))
        self.reservations.lapse()

    def event(self) -> UsageEvent:
        number = self.chance.randrange(40)
        kind = self.chance.randrange(3)
        if kind == 0:
            id = f"order-{number}"
        elif kind == 1:
            id = ulid(START // 1_000_000 + number, number)
        else:
            id = f"{number:08x}-0000-4000-8000-000000000000"
        time = None
        if self.chance.random() < 0.4:
            seconds = self.chance.choice((-30 * 86400, -86400, -900, -1, 0, 60, 299))
            time = datetime.fromtimestamp(self.now // SECOND, UTC) + timedelta(seconds=seconds)
        return UsageEvent(
            id,
            self.chance.choice(("call", "llm")) if self.chance.random() < 0.3 else ("call", "llm")[number % 2],
            customer=("ann", "bob")[number // 2 % 2],
            time=time,
            data={
                "tokens": number * number % 7,
                **({"model": "abc"[number % 3]} if number % 4 else {}),
                **({"region": number % 5} if number % 2 else {}),
            },
        )

    def commit(self) -> None:
        """Some of what is queued, in order; now and then a statement fails."""
        count = self.chance.randint(1, 6)
        submissions, self.queue = self.queue[:count], self.queue[count:]
        if not submissions:
            return
        fault = self.chance.random() < 0.15
        if fault:
            self.fail_at(self.chance.randrange(8))
        try:
            answers = self.log.append([submission.rows for submission in submissions])
        except apsw.IOError as error:
            self.faults += 1
            for submission in submissions:
                submission.error = StorageUnavailable(str(error))
        else:
            for submission, outcomes in zip(submissions, answers, strict=True):
                submission.outcomes = outcomes
        finally:
            self.log._execute, self.log._executemany = self.db.execute, self.db.executemany
        for submission in submissions:
            submission.done()

    def fail_at(self, statement: int) -> None:
        left = statement

        def failing(real: Callable[..., Any]) -> Callable[..., Any]:
            def run(sql: str, *args: Any) -> Any:
                nonlocal left
                if sql != "ROLLBACK":
                    left -= 1
                    if left == 0:
                        raise apsw.IOError("disk I/O error (simulated)")
                return real(sql, *args)

            return run

        self.log._execute = failing(self.db.execute)  # type: ignore[method-assign,assignment]
        self.log._executemany = failing(self.db.executemany)  # type: ignore[method-assign,assignment]

    # corrections: the schedule has them at once, as they wait for nothing but the writer

    def seq_of(self, environment: int, source: str, id: str) -> int | None:
        try:
            return self.log.seq_of(environment, source, id)
        except apsw.IOError as error:
            raise StorageUnavailable(str(error)) from None

    def correct(self, batch: Batch_) -> Applied:
        try:
            return apply(self.log, batch)
        except apsw.IOError as error:
            self.faults += 1
            raise StorageUnavailable(str(error)) from None
        finally:
            self.log._execute, self.log._executemany = self.db.execute, self.db.executemany

    def calendar(self, environment: str, customer: str) -> tuple[int, str, str]:
        grant = self.customers[environment, customer]
        return (*grant.calendar, grant.customer.zone)

    def correct_some(self) -> None:
        """Void or amend an event or a range, perhaps not to its end; now and then a statement fails."""
        events = list(self.reader.events())
        if not events:
            return
        event = self.chance.choice(events)
        if self.chance.random() < 0.15:
            event = self.chance.choice([one for one in events if one.state == "voided"] or events)
        selection = Selection(event.id, event.source)
        if self.chance.random() < 0.4:
            start = event.time - self.chance.choice((0, 900, 86400, 20 * 86400)) * 1_000_000
            end = event.time + self.chance.choice((1, 900, 86400, 20 * 86400)) * 1_000_000
            narrower = self.chance.choice(({}, {"customer": event.customer}, {"type": event.type}, {"meter": "tokens"}))
            selection = Selection(start=start, end=end, **narrower)
        data = None
        if self.chance.random() < 0.5:
            number = self.chance.randrange(9)
            data = {"tokens": number, **({"model": "abcd"[number % 4]} if number % 3 else {})}
        asked = Asked("void" if data is None else "amend", event.environment, selection, "r", "a", data)  # type: ignore[arg-type]
        if self.chance.random() < 0.15:
            self.fail_at(self.chance.randrange(40))
        begun = self.corrections._trail.open() is not None
        try:
            tried = self.corrections.preview(asked)
            made = self.corrections.correct(asked, self.chance.choice((None, 1, 1)))
        except StorageUnavailable:
            return
        except EventVoided:
            assert begun or event.state == "voided"
            self.twice += 1
            return
        except EventCompacted:
            return
        finally:
            self.log._execute, self.log._executemany = self.db.execute, self.db.executemany
        assert begun or tried.changes == made.changes  # what was begun comes to its end first
        self.corrected += made.events

    def resume(self) -> None:
        if self.chance.random() < 0.15:
            self.fail_at(self.chance.randrange(40))
        try:
            begun = self.corrections._trail.open() is not None
            self.corrections.run_once()
            self.resumed += begun
        except StorageUnavailable:
            return
        finally:
            self.log._execute, self.log._executemany = self.db.execute, self.db.executemany

    def hold_corrections(self) -> None:
        """Each event is as the trail says, read from its beginning, once all of it has come to its end."""
        while self.corrections.run_once():
            pass
        trail = [*self.corrections.list("live", None, 1000), *self.corrections.list("test", None, 1000)]
        for event in self.reader.events():
            state, data = "active", event.data
            for one in sorted(trail, key=lambda one: one.number):
                selected = one.selection
                if state == "voided" or event.seq > one.upto or event.environment != one.environment:
                    continue
                if selected.id is None:
                    wanted = selected.start <= event.time < selected.end and (
                        selected.customer in (None, event.customer)
                        and selected.type in (None, event.type)
                        and (selected.meter is None or (event.type == "llm" and "tokens" in json.loads(data or "{}")))
                    )
                else:
                    wanted = (selected.id, selected.source) == (event.id, event.source)
                if wanted and one.action == "void":
                    state = "voided"
                elif wanted and one.data != data:
                    state, data = "amended", one.data
            assert event.state == state
            assert event.amended == (data if state == "amended" else None)

    def move(self) -> None:
        self.now += self.chance.choice((1, 10, 900, 86400, 20 * 86400)) * SECOND * self.chance.randint(0, 2)

    def crash(self) -> None:
        self.crashes += 1
        self.start()

    def apply(self) -> None:
        """Another catalog, while requests are in the queue."""
        self.meters_used = list(METERS[: self.chance.choice((FIRST - 1, FIRST, FIRST + 1, len(METERS)))])
        self.table.use(self.meters_used)
        self.gate.drop(None)

    # what must hold

    def hold(self) -> None:
        """Counted once; rollups equal the log refolded; memory equals the log and what is pending; no hard quota is passed."""
        logged = {(e.environment, e.source, e.id): e for e in self.reader.events()}
        assert len(logged) == self.db.execute("SELECT count(*) FROM events WHERE flags < 10").get
        assert self.acknowledged.keys() <= logged.keys()
        for where, (customer, type, value, time) in self.acknowledged.items():
            event = logged[where]
            assert (event.customer, event.type, event.time) == (customer, type, time)
            assert value == (event.quantity if type == "call" else json.loads(event.data or "{}").get("tokens", 0))
        self.hold_rollups()
        if not self.queue:
            self.hold_totals()

    def refold(self) -> dict[str, dict[Any, Any]]:
        """What each table holds, subjects left out, from the log and the epochs alone."""
        epochs = [
            (number, json.loads(definition), since, until or 1 << 60)
            for number, definition, since, until in self.db.execute(
                "SELECT number, definition, from_epoch, until_epoch FROM meters JOIN meter_epochs USING (number)"
            )
        ]
        folded: dict[str, dict[Any, Any]] = {"rollups": {}, "dimensions": {}, "kept": {}, "seen": {}}
        combinations: dict[Any, set[str]] = {}
        crowded = self.crowded()
        kept: dict[Any, list[Any]] = {}
        for event in self.reader.events():
            grant = self.customers[event.environment, event.customer]
            assert grant.subscription is not None
            start = period_at(grant.subscription.anchor, grant.subscription.zone, event.time)[0] // 1_000_000
            cell = max(event.time // 1_000_000 // 900 * 900, start)
            data = json.loads(event.amended or event.data or "{}")
            if event.state == "voided":
                continue
            for number, meter, since, until in epochs:
                if meter["event_type"] != event.type or not since <= event.epoch < until:
                    continue
                if not all(passes(one, data) for one in meter.get("filters", ())):
                    continue
                way = meter["aggregation"]
                value = event.quantity if way == "count" else data.get(meter["value_property"])
                if value is None:
                    continue
                key = (int(event.environment == "test"), event.customer, number, cell)
                adds = value * 10**9 if way in ("count", "sum") else 0
                add(folded["rollups"], key, adds)
                combination = ""
                if meter["group_by"]:
                    texts = [None if data.get(name) is None else str(data[name]) for name in meter["group_by"]]
                    combination = json.dumps(texts, separators=(",", ":"))
                    known = combinations.setdefault((*key[:3], start), set())
                    if (*key[:3], start) in crowded or (combination not in known and len(known) >= MOST_COMBINATIONS):
                        combination = "other"
                    else:
                        known.add(combination)
                    add(folded["dimensions"], (*key, combination), adds)
                key = (*key, combination)
                this = (value, event.time, event.seq)
                if way == "max":
                    kept.setdefault(key, []).append(((value, -event.seq), this))
                elif way == "latest":
                    kept.setdefault(key, []).append(((event.time, event.seq), this))
                elif way == "unique":
                    add(folded["seen"], (*key, str(value)), 0)
        folded["kept"] = {key: max(found)[1] for key, found in kept.items()}
        return folded

    def crowded(self) -> set[tuple[int, str, int, int]]:
        """Of which (environment, customer, meter, period) corrections may have freed places for other combinations than the first."""
        found: dict[tuple[int, str], bool] = {}
        for event in self.reader.events():
            who = (int(event.environment == "test"), event.customer)
            found[who] = found.get(who, False) or event.state != "active"
        places: set[tuple[int, str, int, int]] = set()
        for environment, customer, number, cell in self.db.execute(
            "SELECT DISTINCT environment, name, meter, cell FROM dimensions JOIN names ON number = customer"
        ):
            if found.get((environment, customer)):
                places.add((environment, customer, number, self.start_of(environment, customer, cell)))
        return places

    def start_of(self, environment: int, customer: str, cell: int) -> int:
        grant = self.customers[("live", "test")[environment], customer]
        assert grant.subscription is not None
        return period_at(grant.subscription.anchor, grant.subscription.zone, cell * 1_000_000)[0] // 1_000_000

    def stored(self) -> dict[str, dict[Any, Any]]:
        """The tables as they are."""
        who = "environment, c.name, meter, cell"
        what = f"""{who}, CASE combination WHEN 0 THEN '' WHEN -1 THEN 'other'
            ELSE (SELECT name FROM names WHERE number = combination) END"""
        read = self.db.execute
        crowded = self.crowded()

        def whole(key: list[Any]) -> tuple[Any, ...]:
            if len(key) < 5 or key[4] == "" or (*key[:3], self.start_of(*key[:2], key[3])) not in crowded:
                return tuple(key)
            return (*key[:4], "other")

        found: dict[str, dict[Any, Any]] = {"rollups": {}, "dimensions": {}, "kept": {}, "seen": {}}
        for table, columns in (("rollups", who), ("dimensions", what)):
            rows = read(f"SELECT {columns}, events, units, nanos FROM {table} JOIN names c ON c.number = customer")
            for *key, events, units, nanos in rows:
                add(found[table], whole(key), units * 10**9 + nanos, events)
        for *key, units, nanos, time, seq in read(
            f"SELECT {what}, units, nanos, time, seq FROM kept JOIN names c ON c.number = customer"
        ):
            assert nanos == 0
            kept = found["kept"].setdefault(whole(key), [])
            kept.append((units, time, seq))
        largest = {n for (n,) in read("SELECT number FROM meters WHERE key = 'largest'")}
        for key, kept in found["kept"].items():  # one for each subject
            found["kept"][key] = max(kept, key=lambda one: (one[0], -one[2]) if key[2] in largest else (one[1], one[2]))
        for *key, events in read(f"SELECT {what}, value, events FROM seen JOIN names c ON c.number = customer"):
            *place, value = key
            add(found["seen"], (*whole(place), value), 0, events)
        return found

    def hold_rollups(self) -> None:
        assert self.stored() == self.refold()

    def hold_totals(self) -> None:
        for (environment, customer), account in list(self.gate._accounts.items()):
            committed = self.reader.totals(environment, customer, account.start, account.end)
            expected = Counter(committed)
            for held in self.gate.holds._held.values():
                view = held.terms
                assert isinstance(view, MeterView)
                if held.amount and view.account is account and held.resets_at == account.end:
                    expected[view.entry.number] += held.amount
                    for other in view.others:
                        expected[other.number] += other.adds(held.amount, view.property) or 0
            kept = {meter: total.used for meter, total in account.totals.items() if total.used}
            assert kept == {meter: value for meter, value in expected.items() if value}

    def finish(self) -> None:
        while self.queue:
            self.commit()
        self.hold_corrections()
        self.hold()
        read = self.db.execute
        self.kept, self.values = (read(f"SELECT count(*) FROM {table}").get for table in ("kept", "seen"))  # type: ignore[assignment]
        self.grouped, self.overflowed = (
            read(f"SELECT count(*) FROM dimensions WHERE combination {which}").get  # type: ignore[misc]
            for which in ("> 0", "< 0")
        )
