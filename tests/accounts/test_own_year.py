"""A year without a provider: the invoices we issue ourselves are the accountant's, in every zone and whatever comes late."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from accounts.accountant import cost, later, minor, part, rounded
from accounts.contracts import TYPES, Event, Plan, catalog, plans, used_of
from spine import Spine
from tollkeeper.core.corrections import Selection
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.invoices import Invoice
from tollkeeper.services.corrections import Asked
from tollkeeper.services.invoicing import Invoicing

SOAK = bool(os.environ.get("TOLLKEEPER_SOAK"))
SEEDS = range(1, 31) if SOAK else range(1, 4)
CUSTOMERS, MONTHS = (12, 13) if SOAK else (5, 13)
ZONES = ["UTC", "Asia/Kathmandu", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]
BEGIN = datetime(2027, 1, 29, 1, 37, 12, tzinfo=UTC)


@dataclass
class Held:
    plan: Plan
    start: datetime
    end: datetime | None = None


@dataclass
class Period:
    """What of a month was billed of each price, by span."""

    number: int
    start: datetime
    end: datetime
    lines: Counter[int]


@dataclass
class Buyer:
    id: str
    currency: str
    zone: str
    anchor: datetime
    held: list[Held]
    events: dict[str, Event] = field(default_factory=dict)
    billed: dict[tuple[datetime, datetime, str, int], tuple[Any, Fraction]] = field(default_factory=dict)
    expected: list[Period] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def edge(self, months: int) -> datetime:
        """The instant so many months after the anchor, by the clocks of the zone."""
        local = self.anchor.astimezone(ZoneInfo(self.zone)).replace(tzinfo=None)
        if not months:
            return self.anchor
        return later(local, months).replace(tzinfo=ZoneInfo(self.zone)).astimezone(UTC)

    def close(self, number: int) -> None:
        """The month between two edges is invoiced with what is known now."""
        start, end = self.edge(number), self.edge(number + 1)
        year = number // 12 * 12
        found: list[int] = []
        within = [one for one in self.held if one.start < end and (one.end is None or one.end > start)]
        for one in within:
            flat = [price for price in one.plan.of(self.currency) if price["model"] == "flat"]
            found += [self._fee(price, one, number, start, end, year) for price in flat]
        for place, one in enumerate(within):
            for price in one.plan.of(self.currency):
                if price["model"] != "flat" and place == len(within) - 1:
                    used = used_of(self.events.values(), price["meter"], start, end)
                    self.billed[start, end, price["key"], id(price)] = (price, used)
                    found.append(cost(price, used, self.currency))
        for where, (price, before) in list(self.billed.items()):
            since, until = where[:2]
            now = used_of(self.events.values(), price["meter"], since, until)
            if now != before and since < start and until >= end - timedelta(days=70):
                self.billed[where] = (price, now)
                found.append(cost(price, now, self.currency) - cost(price, before, self.currency))
                self.story.append(f"{price['key']} of {since}: {before} -> {now}")
        self.expected.append(Period(number, start, end, Counter(amount for amount in found if amount)))

    def _fee(self, price: Any, one: Held, number: int, start: datetime, end: datetime, year: int) -> int:
        amount = rounded(minor(price["flat_amount"], self.currency))
        over = end if one.end is None else min(one.end, end)
        if price.get("interval") == "year":
            if over == one.end or number % 12 == 11:
                begin, finish = self.edge(year), self.edge(year + 12)
                return part(amount, _seconds(max(begin, one.start), over), _seconds(begin, finish))
            return 0
        return part(amount, _seconds(max(start, one.start), over), _seconds(start, end))


def amounts(invoice: Invoice, buyer: Buyer) -> Counter[int]:
    """The lines that are not nothing."""
    found = (int(minor(line["amount"], buyer.currency)) for line in invoice.document["lines"])
    return Counter(amount for amount in found if amount)


def _seconds(start: datetime, end: datetime) -> Fraction:
    return Fraction(int((end - start).total_seconds()))


class Books:
    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.plans = plans(self.chance)
        for plan in self.plans:
            plan.trial_days = 0
        self.spine = Spine(folder, catalog(self.plans))
        self.toll = self.spine.app
        self.at(BEGIN)
        self.invoicing = Invoicing(self.toll.database, self.toll.usage, self.toll.clock)
        self.invoicing.run_once()
        self.numbers = iter(range(10**9))
        self.buyers: list[Buyer] = []
        self.shown: dict[tuple[str, int], tuple[Counter[int], list[str], int]] = {}
        self.previewed = 0

    def at(self, when: datetime) -> None:
        self.spine.time.now = int(when.timestamp()) * 10**9

    def live(self) -> None:
        """Everybody's months one after the other, each customer's stops in order of time."""
        stops: list[tuple[datetime, int, str, Buyer, int]] = []
        for number in range(CUSTOMERS):
            begin = BEGIN + timedelta(seconds=self.chance.randrange(3 * 86_400))
            stops.append((begin, number, "buy", Buyer("", "", "", begin, []), 0))
        for at, number, _, buyer, _ in stops[:]:
            buyer.id, buyer.anchor = f"b{number}", at
            buyer.currency = self.chance.choice(["usd", "jpy", "kwd"])
            buyer.zone = self.chance.choice(ZONES)
            for month in range(MONTHS):
                start, end = buyer.edge(month), buyer.edge(month + 1)
                for _ in range(self.chance.choice([0, 1, 2, 3])):
                    when = start + self.chance.random() * (end - start)
                    what = self.chance.choices(["use", "correct", "move"], [6, 2, 1])[0]
                    stops.append((when.replace(microsecond=0), next(self.numbers), what, buyer, month))
                stops.append((end - timedelta(seconds=1), next(self.numbers), "before", buyer, month))
                stops.append((end + timedelta(seconds=3601), next(self.numbers), "close", buyer, month))
        for at, _, what, buyer, month in sorted(stops, key=lambda stop: stop[:2]):
            self.at(at)
            getattr(self, f"_{what}")(buyer, at, month)

    def _buy(self, buyer: Buyer, at: datetime, _: int) -> None:
        plan = self.chance.choice([plan for plan in self.plans if plan.of(buyer.currency)])
        self.toll.customers.create(id=buyer.id, name="Ann", plan=plan.key, currency=buyer.currency, zone=buyer.zone)
        buyer.held = [Held(plan, at)]
        self.buyers.append(buyer)
        buyer.story.append(f"{at} {plan.key} {buyer.zone} {buyer.currency}")

    def _use(self, buyer: Buyer, at: datetime, _: int) -> None:
        sent = []
        for _number in range(self.chance.randint(1, 20)):
            back = self.chance.choice([0, 0, 3600, 9 * 86_400, 33 * 86_400])
            meter = self.chance.choice(sorted(TYPES))
            value = {"calls": None, "tokens": f"{self.chance.random() * 5:.3f}", "peak": "7", "users": "u1"}[meter]
            when = at - timedelta(seconds=back * self.chance.random())
            event = Event(f"e{next(self.numbers)}", meter, when, value)
            data = None if value is None else {{"tokens": "tokens", "peak": "seats", "users": "user"}[meter]: value}
            if when >= buyer.anchor:
                sent.append(UsageEvent(event.id, TYPES[meter], "t", customer=buyer.id, time=when, data=data))
                buyer.events[event.id] = event
        assert {one.status for one in self.toll.ingest.ingest_wait("live", sent)} <= {"accepted"}

    def _correct(self, buyer: Buyer, at: datetime, _: int) -> None:
        recent = [one for one in buyer.events.values() if at - one.at < timedelta(days=33)]
        if recent:
            event = self.chance.choice(recent)
            del buyer.events[event.id]
            asked = Asked("void", "live", Selection(id=event.id, source="t"), "a test", "ada", None)
            self.toll.corrections.correct(asked)

    def _move(self, buyer: Buyer, at: datetime, _: int) -> None:
        plan = self.chance.choice([plan for plan in self.plans if plan.of(buyer.currency)])
        if plan is buyer.held[-1].plan or at <= buyer.held[-1].start:
            return
        self.toll.customers.move(buyer.id, plan.key)
        buyer.held[-1].end = at
        buyer.held.append(Held(plan, at))
        buyer.story.append(f"{at} -> {plan.key}")

    def _before(self, buyer: Buyer, at: datetime, month: int) -> None:
        """What the preview says in the last second."""
        shown = self.invoicing.preview(buyer.id)
        assert shown.period_end == int(buyer.edge(month + 1).timestamp()) * 10**6
        self.shown[buyer.id, month] = (amounts(shown, buyer), sorted(buyer.events), len(buyer.held))

    def _close(self, buyer: Buyer, at: datetime, month: int) -> None:
        while self.invoicing.run_once():
            pass
        buyer.close(month)
        lines, *then = self.shown[buyer.id, month]
        if then == [sorted(buyer.events), len(buyer.held)]:  # nothing came meanwhile
            assert lines == buyer.expected[-1].lines
            self.previewed += 1

    def differences(self) -> list[str]:
        found = []
        for buyer in self.buyers:
            issued = list(self.invoicing.page("live", buyer.id, limit=100).items)[::-1]
            actual = {one.period_end: amounts(one, buyer) for one in issued}
            for period in buyer.expected:
                got = actual.pop(int(period.end.timestamp()) * 10**6, Counter())
                if got != period.lines:
                    found.append(f"{buyer.id} {period}: got {got}\n" + "\n".join(buyer.story))
            found += [f"{buyer.id} beyond: {one}" for one in actual.values() if one]
        return found


@pytest.mark.parametrize("seed", SEEDS)
def test_every_invoice_of_a_year_without_a_provider_is_the_one_foreseen(tmp_path: Path, seed: int) -> None:
    books = Books(tmp_path, seed)
    try:
        books.live()
        assert books.differences() == []
        assert books.previewed > 20
        assert sum(bool(period.lines) for buyer in books.buyers for period in buyer.expected) > 20
    finally:
        books.toll.close()
