"""Any order of requests, changes, time, restarts, crashes and restores leaves what a plain list of events says."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spine import SECOND, START, ManualClock
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.corrections import EventVoided, Selection
from tollkeeper.core.errors import Conflict, NotFound
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.usage import Window
from tollkeeper.services.corrections import Asked
from tollkeeper.upkeep import backups

from .model import DAY_US, METERS, Buyer, OwnKey, Reference
from .recount import refolded_log, stored_rollups

SOAK = bool(os.environ.get("TOLLKEEPER_SOAK"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CATALOG = """
currency = "usd"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[meters.tokens]
event_type = "llm.completion"
aggregation = "sum"
value_property = "tokens"
{more}
[plans.free]
product = "api"
quotas = [{{meter = "api_calls", limit = "{free}", kind = "hard"}}, {{meter = "tokens", limit = "10.5", kind = "hard"}}]
[plans.pro]
product = "api"
quotas = [{{meter = "api_calls", limit = "20", kind = "soft"}}, {{meter = "tokens", limit = "{pro}", kind = "hard"}}]
"""
CATALOGS = (
    CATALOG.format(more="", free=12, pro=30),
    CATALOG.format(more='[meters.llm_calls]\nevent_type = "llm.completion"\naggregation = "count"', free=15, pro=25),
)
ZONES = {"ann": ("free", "UTC"), "bob": ("pro", "Asia/Kathmandu"), "cid": (None, "America/New_York")}
IDS = st.one_of(
    st.integers(0, 5).map("order-{}".format),
    st.integers(0, 5).map("0000000{}-0000-4000-8000-000000000000".format),
    st.integers(0, 5).map("019a0000-000{}-7000-8000-000000000000".format),
    st.integers(0, 5).map("01JD3V5E6QN8Z4V9W1T7B2X3Y{}".format),
)
COSTS = st.sampled_from(("1", "1", "1", "2", "5", "0"))
AGES = st.sampled_from((None, None, 0, 1, 900, 86_400, 34 * 86_400, 36 * 86_400, -60, -299, -301))
VALUES = st.sampled_from((1, 2, "2.5", Decimal("0.000000001"), 4, -1))


class Interleaving(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tollkeeper-model-"))
        self.number = 0
        self.time = ManualClock(START)
        self.created = self.now
        self.saved: tuple[Path, Reference] | None = None
        self.open()

    @property
    def url(self) -> str:
        return str(self.folder / str(self.number) / "toll.db")

    @property
    def now(self) -> int:
        return self.time.now // 1000

    def open(self) -> None:
        Path(self.url).parent.mkdir(exist_ok=True)
        self.app = Tollkeeper(self.url, clock=self.time.clock())

    def teardown(self) -> None:
        try:
            assert stored_rollups(self.app) == refolded_log(self.app)
        finally:
            self.app.close()
            shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        self.reference = Reference()
        self.app.catalog.apply(CATALOGS[0])
        for customer, (plan, zone) in ZONES.items():
            self.time.move(1234 * SECOND)
            self.app.customers.create(id=customer, name=customer, plan=plan, zone=zone)
            for environment in ("live", "test"):
                quotas = None if plan is None else self.reference.quotas(plan)
                anchor = self.now // 1_000_000 * 1_000_000
                self.reference.buyers[environment, customer] = Buyer(anchor, zone, quotas)
            self.new_key(customer, "live")
        self.new_key("ann", "test")
        self.time.move(10 * SECOND)

    def new_key(self, customer: str, environment: Any) -> None:
        made = self.app.keys.create(customer=customer, environment=environment)
        self.reference.keys[made.key] = OwnKey(made.id, customer, environment)

    # requests

    def a_key(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(list(self.reference.keys)), label="key")

    @rule(data=st.data(), meter=st.sampled_from(tuple(METERS)), cost=COSTS, id=st.one_of(st.none(), IDS))
    def check(self, data: st.DataObject, meter: str, cost: str, id: str | None) -> None:
        raw = self.a_key(data)
        due = self.reference.check(raw, meter, cost, id, self.now)
        try:
            decision = self.app.gate.check(raw, meter, cost, id=id)
        except Conflict:
            found = "conflict"
        except NotFound:
            found = "no such meter"
        else:
            found = decision.code
            if found == "VALID" and cost != "0":
                found = "accepted" if decision.event_id else "duplicate"
        assert found == due

    @rule(raw=st.sampled_from(("", "tk_live_no", "tk_live_4fQz0000000000000000000000000000001bXk")))
    def check_with_junk(self, raw: str) -> None:
        assert self.app.gate.check(raw, "api_calls").code == "NOT_FOUND"

    @rule(data=st.data(), environment=st.sampled_from(("live", "live", "test")), count=st.integers(1, 4))
    def ingest(self, data: st.DataObject, environment: Any, count: int) -> None:
        batch: list[UsageEvent] = []
        due: list[str] = []
        for _ in range(count):
            event, customer, at = self.an_event(data, environment)
            batch.append(event)
            if at is None:
                due.append("rejected")
            else:
                due.append(self.reference.event(environment, event, customer, at))
        results = self.app.ingest.ingest_wait(environment, batch)
        assert [result.status for result in results] == due

    def an_event(self, data: st.DataObject, environment: str) -> tuple[UsageEvent, str, int | None]:
        """An event, whose it is, and its time; None when it is to be refused for it."""
        id, age = data.draw(IDS), data.draw(AGES)
        # a first purchase moves the periods' boundaries; usage from before it is left to another test
        buyers = [
            name for (where, name), buyer in self.reference.buyers.items() if where == environment and buyer.quotas
        ]
        customer = data.draw(st.sampled_from(buyers))
        type = data.draw(st.sampled_from(("api.call", "llm.completion", "llm.completion", "other")))
        source = data.draw(st.sampled_from(("default", "default", "other")))
        fields: dict[str, Any] = {}
        if type != "api.call" and data.draw(st.booleans()):
            fields["data"] = {"tokens": data.draw(VALUES)}
        keys = [key for key in self.reference.keys.values() if key.customer == customer]
        if keys and data.draw(st.booleans()):
            fields["subject"] = data.draw(st.sampled_from(keys)).id
        else:
            fields["customer"] = customer
        at: int | None = self.now
        if age is not None:
            at = self.now - age * 1_000_000
            fields["time"] = EPOCH + timedelta(microseconds=at)
            if not -300 <= age <= 35 * 86_400:
                at = None
        return UsageEvent(id, type, source, **fields), customer, at

    # corrections

    def sent(self, environment: str | None = None) -> list[tuple[str, str, str]]:
        """Events that a caller gave the id of, and that are not older than what may be corrected."""
        kept = self.now - 400 * DAY_US + 900_000_000
        return [
            where
            for where, event in self.reference.events.items()
            if not where[2].startswith("gate ") and event.at > kept and environment in (None, where[0])
        ]

    @precondition(lambda self: self.sent())
    @rule(data=st.data(), amends=st.booleans(), value=VALUES)
    def correct(self, data: st.DataObject, amends: bool, value: Any) -> None:
        where = data.draw(st.sampled_from(self.sent()), label="event")
        event = self.reference.events[where]
        new = {"tokens": value} if amends and where[1] != "tollkeeper:check" else None
        asked = Asked("void" if new is None else "amend", where[0], Selection(where[2], where[1]), "r", "a", new)  # type: ignore[arg-type]
        try:
            self.app.corrections.correct(asked)
        except EventVoided:
            assert event.voided
            return
        assert not event.voided
        if new is None:
            self.reference.void(where)
        else:
            self.reference.amend(where, new)

    @rule(
        environment=st.sampled_from(("live", "test")),
        customer=st.sampled_from(tuple(ZONES)),
        days=st.sampled_from((0, 1, 40)),
    )
    def void_a_range(self, environment: Any, customer: str, days: int) -> None:
        start, end = self.now - days * DAY_US, self.now + 1
        asked = Asked(
            "void", environment, Selection(start=start, end=end, customer=customer, source="default"), "r", "a"
        )
        self.app.corrections.correct(asked)
        for where, event in self.reference.events.items():
            if where[:2] == (environment, "default") and event.customer == customer and start <= event.at < end:
                self.reference.void(where)

    # changes

    @rule(data=st.data(), overlap=st.sampled_from((0, 3600)))
    def rotate(self, data: st.DataObject, overlap: int) -> None:
        raw = self.a_key(data)
        key = self.reference.keys[raw]
        dead = key.revoked or key.rotated or (key.expires is not None and key.expires <= self.now)
        try:
            made = self.app.keys.rotate(key.id, overlap)
        except Conflict:
            assert dead
            return
        assert not dead
        end = self.now + overlap * 1_000_000
        self.reference.keys[made.key] = OwnKey(made.id, key.customer, key.environment, expires=key.expires)
        key.rotated, key.expires = True, end if key.expires is None else min(end, key.expires)

    @precondition(lambda self: sum(not key.revoked for key in self.reference.keys.values()) > 2)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        key = self.reference.keys[self.a_key(data)]
        self.app.keys.revoke(key.id)
        key.revoked = True

    @rule(customer=st.sampled_from(tuple(ZONES)), plan=st.sampled_from(("free", "pro")))
    def move_plan(self, customer: str, plan: str) -> None:
        self.app.customers.move(customer, plan)
        for environment in ("live", "test"):
            buyer = self.reference.buyers[environment, customer]
            if buyer.quotas is None:  # the first purchase is where periods begin
                buyer.anchor = self.now // 1_000_000 * 1_000_000
            buyer.quotas = self.reference.quotas(plan)

    @rule(version=st.integers(0, 1))
    def apply(self, version: int) -> None:
        self.app.catalog.apply(CATALOGS[version])
        self.reference.version = version

    @rule(seconds=st.sampled_from((0.001, 1, 61, 900, 3600, 86_400, 11 * 86_400, 31 * 86_400)))
    def move_time(self, seconds: float) -> None:
        self.time.move(int(seconds * SECOND))

    @rule(data=st.data(), microseconds=st.sampled_from((-1_000, 0, 1_000)))
    def move_to_the_end_of_a_period(self, data: st.DataObject, microseconds: int) -> None:
        customer = data.draw(st.sampled_from(tuple(ZONES)))
        end = self.reference.period("live", customer, self.now)[1]
        self.time.now = max(self.time.now, (end + microseconds) * 1000)

    # processes and files

    @rule()
    def reopen(self) -> None:
        self.app.close()
        self.open()

    @rule()
    def crash(self) -> None:
        """What SIGKILL leaves: the files as they are, write-ahead logs included; nothing of the process."""
        left = Path(self.url).parent
        self.number += 1
        shutil.copytree(left, Path(self.url).parent, ignore=shutil.ignore_patterns("*.lock", "*-shm"))
        self.app.close()
        shutil.rmtree(left)
        self.open()

    @rule()
    def back_up(self) -> None:
        self.number += 1
        place = self.folder / f"backup-{self.number}"
        self.number -= 1
        shutil.rmtree(place, ignore_errors=True)
        backups(self.url).make(place)
        self.saved = (place, copy.deepcopy(self.reference))

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        assert self.saved is not None
        self.app.close()
        self.number += 1
        Path(self.url).parent.mkdir()
        backups(self.url).restore(self.saved[0])
        self.reference = copy.deepcopy(self.saved[1])
        self.open()

    # what must hold after each step

    @invariant()
    def usage_is_what_the_list_says(self) -> None:
        if not hasattr(self, "reference"):
            return
        start, end = START // 1000 - 40 * DAY_US, self.now + 600_000_000
        for environment, customer in self.reference.buyers:
            for meter in self.reference.meters:
                window: Window = "day" if len(meter) % 2 else "period"
                self.compare(environment, customer, meter, start, end, window)

    def compare(self, environment: Any, customer: str, meter: str, start: int, end: int, window: Window) -> None:
        total = self.reference.total
        answer = self.app.usage.query(
            meter, environment=environment, customer=customer, start=start, end=end, window=window, group_by=("key",)
        )
        assert Decimal(answer.total) == total(environment, meter, 0, 1 << 60, customer=customer)
        edges = {(row.start, row.end) for row in answer.data}
        for row in answer.data:
            subject = row.group["key"]
            # before the files were there nothing is known, and nothing can have been taken
            assert (row.value is None) == (row.end <= self.created - 35 * DAY_US)
            assert Decimal(row.value or 0) == total(
                environment, meter, row.start, row.end, customer=customer, subject=subject
            )
        if window == "period":
            for first, last in sorted(edges)[1:-1]:
                assert (first, last) == self.reference.period(environment, customer, first)

    @invariant()
    def quotas_are_what_the_list_says(self) -> None:
        if not hasattr(self, "reference"):
            return
        gate = self.app.gate
        for raw, key in self.reference.keys.items():
            for meter in self.reference.meters:
                decision = gate.judge(gate.find(raw) or gate.load(raw), meter, 0)
                quotas = self.reference.buyers[key.environment, key.customer].quotas
                assert decision.code == self.reference.check(raw, meter, "0", None, self.now)
                if decision.code != "VALID" or quotas is None or meter not in quotas:
                    continue
                quota = decision.quota
                assert quota is not None
                assert (Decimal(quota.limit), quota.kind == "hard") == quotas[meter]
                assert Decimal(quota.used) == self.reference.used(key.environment, key.customer, meter, self.now)

    @invariant()
    def what_is_in_memory_is_what_the_rollups_say(self) -> None:
        for (environment, customer), account in list(self.app.gate._accounts.items()):
            stored = self.app.usage_file.reader.totals(environment, customer, account.start, account.end)
            kept = {meter: total.used for meter, total in account.totals.items() if total.used}
            assert kept == {meter: used for meter, used in stored.items() if used}


Interleaving.TestCase.settings = settings(
    max_examples=400 if SOAK else 15, stateful_step_count=60 if SOAK else 30, deadline=None, phases=[Phase.generate]
)
TestAnyOrder = Interleaving.TestCase
