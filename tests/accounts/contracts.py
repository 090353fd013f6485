"""Plans by chance, and what their customers owe: each invoice foreseen from what was done, by the accountant's arithmetic alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from accounts.accountant import DIGITS, charged, cost, later, lines, minor, part, percent, rounded

METERS = """
[meters.calls]
event_type = "call"
aggregation = "count"
[meters.tokens]
event_type = "llm"
aggregation = "sum"
value_property = "tokens"
[meters.peak]
event_type = "seats"
aggregation = "max"
value_property = "seats"
[meters.users]
event_type = "login"
aggregation = "unique"
value_property = "user"
"""
CURRENCIES = ("usd", "jpy", "kwd")
TYPES = {"calls": "call", "tokens": "llm", "peak": "seats", "users": "login"}
Price = dict[str, Any]


@dataclass
class Plan:
    key: str
    prices: list[Price]
    trial_days: int = 0

    def of(self, currency: str) -> list[Price]:
        return [price for price in self.prices if price["currency"] == currency]


@dataclass
class Event:
    id: str
    meter: str
    at: datetime
    value: Any


def used_of(events: Iterable[Event], meter: str, start: datetime, end: datetime) -> Fraction:
    values = [event.value for event in events if event.meter == meter and start <= event.at < end]
    if meter == "calls":
        return Fraction(len(values))
    if meter == "users":
        return Fraction(len(set(values)))
    numbers = [Fraction(value) for value in values]
    return max(numbers, default=Fraction(0)) if meter == "peak" else sum(numbers, Fraction(0))


@dataclass
class Closed:
    """A period whose invoice is final, with what that (and what came after it) billed of each price."""

    start: datetime
    end: datetime
    billed: dict[str, Fraction | None]
    prices: list[Price]
    contract: int


@dataclass
class Foreseen:
    """An invoice as it has to be: lines that are not nothing, what a coupon takes off, the sum."""

    at: datetime
    lines: Counter[int]
    off: int = 0

    @property
    def total(self) -> int:
        return sum(amount * times for amount, times in self.lines.items()) - self.off


@dataclass
class Coupon:
    id: str
    kind: str
    percent: str | None
    amount: int | None
    months: int | None = None
    since: datetime | None = None
    spent: bool = False

    def holds(self, at: datetime) -> bool:
        assert self.since is not None
        if self.kind == "once":
            return not self.spent
        return self.kind == "forever" or at < later(self.since, self.months or 0)

    def off(self, amounts: list[int]) -> int:
        """Of lines that can be discounted."""
        return percent(amounts, self.percent) if self.percent else min(self.amount or 0, sum(amounts))


@dataclass
class Fee:
    """A flat price that was paid ahead for [start, end)."""

    price: Price
    amount: int
    start: datetime
    end: datetime


@dataclass
class Account:
    """One customer. What happens is told to it in order; `expected` are the invoices that follow."""

    id: str
    currency: str
    plan: Plan | None = None
    anchor: datetime | None = None
    months: int = 0
    trial: bool = False
    start: datetime | None = None
    end: datetime | None = None
    next_plan: Plan | None = None
    ending: bool = False
    coupon: Coupon | None = None
    fees: list[Fee] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)
    closed: list[Closed] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    expected: list[Foreseen] = field(default_factory=list)
    draft: tuple[Foreseen, list[int], datetime, datetime, Plan, bool] | None = None
    contract: int = 0
    after: int = 0
    spans: list[tuple[datetime, datetime, Plan]] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def used(self, meter: str, start: datetime, end: datetime) -> Fraction:
        return used_of(self.events.values(), meter, start, end)

    def _amounts(self, price: Price, used: Fraction) -> list[int]:
        found = lines(price, used, self.currency)
        if rated_here(price):
            whole = charged(sum(found), self.currency)
            return [whole] if whole else []
        return found

    def _flat(self, plan: Plan, at: datetime, fresh: bool) -> list[int]:
        """The fees of the time that begins, paid ahead."""
        found = []
        assert self.anchor is not None
        for price in plan.of(self.currency):
            if price["model"] != "flat":
                continue
            every = 12 if price.get("interval") == "year" else 1
            if not fresh and self.months % every:
                continue
            amount = rounded(minor(price["flat_amount"], self.currency))
            self.fees = [fee for fee in self.fees if fee.price is not price]
            self.fees.append(Fee(price, amount, at, later(self.anchor, self.months + every)))
            found.append(amount)
        return found

    def _invoice(self, at: datetime, discountable: list[int], others: list[int]) -> Foreseen:
        found = Foreseen(at, Counter(amount for amount in (*discountable, *others) if amount))
        positive = [amount for amount in discountable if amount > 0]
        if self.coupon is not None and self.coupon.holds(at):
            found.off = self.coupon.off(positive)
            self.coupon.spent = True
            for fee in self.fees:
                if fee.start == at and self.coupon.percent:
                    fee.amount -= percent([fee.amount], self.coupon.percent)
        self.expected.append(found)
        return found

    # what happens

    def buy(self, plan: Plan, at: datetime, coupon: Coupon | None = None) -> None:
        self.plan, self.anchor, self.months, self.fees = plan, at, 0, []
        self.next_plan, self.ending, self.coupon, self.start = None, False, coupon, at
        self.trial = bool(plan.trial_days) and not self.spans
        self.contract += 1
        if coupon is not None:
            coupon.since = at
        self.story.append(f"{at} buys {plan.key} {coupon or ''}")
        taken, self.pending = self.pending, []
        assert not taken, "tested by sum only"
        if self.trial:
            self.anchor = self.end = at + timedelta(days=plan.trial_days)
            self.months = -1
            self._invoice(at, [], [])
        else:
            self.end = later(at, 1)
            fees = self._flat(plan, at, True)
            if fees or not self._is_billed(plan):  # of usage alone there is nothing to say yet
                self._invoice(at, fees, [])

    def _is_billed(self, plan: Plan) -> bool:
        """Whether Stripe bills usage of it."""
        return any(price["model"] != "flat" and not rated_here(price) for price in plan.of(self.currency))

    def reach_end(self) -> None:
        """The clock passes the end of the period: the draft is made."""
        assert self.plan is not None
        assert self.end is not None
        assert self.start is not None
        assert self.anchor is not None
        at, plan, was_trial = self.end, self.plan, self.trial
        self.spans.append((self.start, at, plan))
        taken, self.pending = self.pending, []
        self.story.append(f"{at} period of {plan.key} ends")
        self.trial = False
        ahead: list[int] = []
        yearly = any(price.get("interval") == "year" for price in plan.prices)
        if self.ending and not (yearly and (self.months + 1) % 12):  # of several periods the longest counts
            self.plan = None
        else:
            fresh = was_trial or self.next_plan is not None
            self.plan, self.next_plan = self.next_plan or plan, None
            self.months += 1
            self.fees = [fee for fee in self.fees if fee.end > at]
            ahead = self._flat(self.plan, at, fresh)
        self.draft = (Foreseen(at, Counter()), [*taken, *ahead], self.start, at, plan, was_trial)
        self.start, self.end = at, later(self.anchor, self.months + 1)

    def finalise(self) -> None:
        """What is known now is on the invoice of the draft."""
        assert self.draft is not None
        made, amounts, start, end, plan, free = self.draft
        self.draft = None
        if self.plan is None and not self._is_billed(plan) and not amounts:  # Stripe has nothing to invoice
            self._close(plan, start, end, rated=False)
            return
        for price in plan.of(self.currency):
            if price["model"] != "flat" and not free:
                amounts += self._amounts(price, self.used(price["meter"], start, end))
        self._invoice(made.at, [a for a in amounts if a > 0], [a for a in amounts if a <= 0])
        if not free:
            self._close(plan, start, end, rated=True)

    def _close(self, plan: Plan, start: datetime, end: datetime, *, rated: bool) -> None:
        prices = [price for price in plan.of(self.currency) if price["model"] != "flat"]
        billed: dict[str, Fraction | None] = {price["key"]: self.used(price["meter"], start, end) for price in prices}
        closed = Closed(start, end, billed, prices, self.contract)
        if not rated:  # what the provider cannot rate was not on the invoice that came at once
            for price in prices:
                if rated_here(price):
                    closed.billed[price["key"]] = None
        self.closed.append(closed)

    def upgrade(self, plan: Plan, at: datetime) -> None:
        assert self.plan is not None
        assert self.start is not None
        old = self.plan
        self.story.append(f"{at} {old.key} -> {plan.key}")
        back = [-part(fee.amount, _seconds(at, fee.end), _seconds(fee.start, fee.end)) for fee in self.fees]
        usage = self._native(old, at)
        taken, self.pending = self.pending, []
        self.spans.append((self.start, at, old))
        self._close(old, self.start, at, rated=False)
        self.anchor, self.months, self.fees, self.plan, self.start = at, 0, [], plan, at
        self.end = later(at, 1)
        amounts = [*usage, *taken, *self._flat(plan, at, True)]
        self._invoice(at, [a for a in amounts if a > 0], [*back, *(a for a in amounts if a <= 0)])

    def downgrade(self, plan: Plan) -> None:
        self.next_plan = plan
        self.story.append(f"at {self.end} -> {plan.key}")

    def cancel(self, at: datetime) -> None:
        assert self.plan is not None
        assert self.start is not None
        self.story.append(f"{at} cancels")
        usage = self._native(self.plan, at)
        taken, self.pending = self.pending, []
        amounts = [*usage, *taken]
        self._invoice(at, [a for a in amounts if a > 0], [a for a in amounts if a <= 0])
        self.spans.append((self.start, at, self.plan))
        self._close(self.plan, self.start, at, rated=False)
        self.plan = None

    def _native(self, plan: Plan, at: datetime) -> list[int]:
        assert self.start is not None
        found = []
        for price in plan.of(self.currency):
            if price["model"] != "flat" and not rated_here(price):
                found += self._amounts(price, self.used(price["meter"], self.start, at))
        return found

    def settled(self) -> None:
        """What changed in periods that are invoiced is owed, or given back: rate(total) − rate(billed)."""
        for period in self.closed:
            for price in period.prices:
                now, before = self.used(price["meter"], period.start, period.end), period.billed[price["key"]]
                if now == before:
                    continue
                paid = 0 if before is None else charged(cost(price, before, self.currency), self.currency)
                owed = charged(cost(price, now, self.currency), self.currency) - paid
                period.billed[price["key"]] = now
                if not owed:
                    continue
                self.story.append(f"   {price['key']} of {period.start}: {before} -> {now}: {owed}")
                if self.draft is not None and self.draft[2] != period.start and period.contract == self.contract:
                    self.draft[1].append(owed)
                elif self.plan is None:
                    self.after += owed
                else:
                    self.pending.append(owed)


def rated_here(price: Mapping[str, Any]) -> bool:
    """What Stripe's prices cannot say (https://docs.stripe.com/api/prices): one line of its own."""
    if DIGITS[price["currency"]] == 3:
        return True
    if any(name in price for name in ("minimum", "maximum", "quantity_round")):
        return True
    if price["model"] in ("volume", "package") and "included" in price:
        return True
    return price.get("zero_usage_flat_fee") is False


def _seconds(start: datetime, end: datetime) -> Fraction:
    return Fraction(int((end - start).total_seconds()))


# plans by chance


def plans(chance: random.Random) -> list[Plan]:
    found = []
    for number in range(6):
        fee = chance.choice([0, 5, 9.99, 30, 49, 120])
        found.append(Plan(f"p{number}", _prices(chance, fee + number)))
    found[1].trial_days = 7
    found[5].prices = found[5].of("usd") + found[5].of("jpy")  # usage that is rated here has the interval of its plan
    for price in found[5].prices:
        if price["model"] == "flat":
            price["interval"] = "year"
        for name in ("minimum", "maximum", "included", "quantity_round", "zero_usage_flat_fee"):
            price.pop(name, None)
    return found


def _money(chance: random.Random, currency: str, big: float) -> str:
    places = (
        {"usd": 4, "jpy": 2, "kwd": 5}[currency] if chance.random() < 0.5 else {"usd": 2, "jpy": 0, "kwd": 3}[currency]
    )
    scale = 100 if currency == "jpy" else 1
    return f"{chance.uniform(0, big) * scale:.{places}f}"


def _prices(chance: random.Random, fee: float) -> list[Price]:
    found: list[Price] = []
    billed = chance.sample(sorted(TYPES), chance.randint(1, 3))
    shapes = {
        meter: (chance.choice(["per_unit", "graduated", "graduated", "volume", "package"]), chance.random())
        for meter in billed
    }
    for currency in CURRENCIES:
        if fee:
            amount = {"usd": f"{fee:.2f}", "jpy": str(round(fee * 150)), "kwd": f"{fee * 0.307:.2f}"}[currency]
            found.append({"key": f"fee_{currency}", "model": "flat", "currency": currency, "flat_amount": amount})
        for meter, (model, kind) in shapes.items():
            found.append(_metered(chance, f"{meter}_{currency}", meter, model, kind, currency))
    return found


def _metered(chance: random.Random, key: str, meter: str, model: str, kind: float, currency: str) -> Price:
    price: Price = {"key": key, "model": model, "currency": currency, "meter": meter}
    if model == "per_unit":
        price["unit_amount"] = _money(chance, currency, 0.7)
    elif model == "package":
        price |= {"package_size": str(chance.choice([3, 7, 10])), "package_amount": _money(chance, currency, 2)}
        price["package_round"] = chance.choice(["up", "down"])
    else:
        ends = sorted(chance.sample(range(1, 40), chance.randint(1, 3)))
        price["tiers"] = []
        for end in [*ends, "inf"]:
            tier = {"up_to": str(end), "unit_amount": _money(chance, currency, 0.7)}
            if chance.random() < 0.4:
                tier["flat_amount"] = {"usd": "1.25", "jpy": "130", "kwd": "0.385"}[currency]
            price["tiers"].append(tier)
        if chance.random() < 0.4:
            price["tiers"][0] = {"up_to": price["tiers"][0]["up_to"], "unit_amount": "0"}
        if price["tiers"][0].get("flat_amount") and chance.random() < 0.3:
            price["zero_usage_flat_fee"] = False
    if kind < 0.15:
        price["minimum"] = {"usd": "5", "jpy": "600", "kwd": "1.5"}[currency]
    elif kind < 0.3:
        price["maximum"] = {"usd": "8", "jpy": "900", "kwd": "2.5"}[currency]
    elif kind < 0.45:
        if "flat_amount" not in price.get("tiers", [{}])[0]:
            price["included"] = "4"
    elif kind < 0.55:
        price["quantity_round"] = chance.choice(["up", "down"])
    return price


def catalog(found: list[Plan]) -> str:
    text = ['currency = "usd"\nfallback = "free"\n', METERS, '[plans.free]\nproduct = "api"\n']
    for plan in found:
        text.append(f'[plans.{plan.key}]\nproduct = "api"\ntrial_days = {plan.trial_days}\n')
        text += [
            f"[[plans.{plan.key}.prices]]\n" + "".join(f"{name} = {_toml(value)}\n" for name, value in price.items())
            for price in plan.prices
        ]
    return "".join(text)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return (
            "[" + ", ".join("{" + ", ".join(f"{n} = {_toml(v)}" for n, v in one.items()) + "}" for one in value) + "]"
        )
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'
