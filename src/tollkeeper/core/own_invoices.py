"""What we invoice ourselves, without a payment provider: which periods a customer had, and what stands on the invoice of one. Pure.

Everything is charged after the period it is for. A flat price is charged for the part of its interval in which the plan was held, to the
second. Usage of a period is rated by the plan held at its end. A yearly price is charged with the month in which its year ends, or in
which its plan is left. What came in after an invoice was issued is a line of its own on the next: rate(what it comes to now) − rate(what
was billed).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tollkeeper.core.customers import Subscription
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.money import round_money
from tollkeeper.core.periods import period_at
from tollkeeper.core.plans import Plan, Price
from tollkeeper.core.rating import rate


@dataclass(frozen=True, slots=True)
class Held:
    """A subscription with its plan, for [start, end)."""

    subscription: Subscription
    plan: Plan
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class OwnPeriod:
    """[start, end) on one calendar. `held` are the plans within, in order of time, each with all of the time that it was held."""

    start: int
    end: int
    held: tuple[Held, ...]

    @property
    def plan(self) -> Plan:
        return self.held[-1].plan


@dataclass(frozen=True, slots=True)
class OwnLine:
    """One line. `key` is the price's, of `plan`; `details` are the lines of its rating. `corrects`: the start of the period put right."""

    key: str
    description: str
    amount: Decimal
    quantity: Decimal | None
    start: int
    end: int
    details: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    corrects: int | None = None
    plan: Plan | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "description": self.description,
            "amount": format(self.amount, "f"),
            "quantity": None if self.quantity is None else format_quantity(self.quantity),
            "period_start": self.start,
            "period_end": self.end,
            "details": list(self.details),
            "corrects": self.corrects,
            "plan": self.plan.key if self.plan is not None else None,
            "version": self.plan.version if self.plan is not None else None,
        }


Usage = Callable[[str, int, int], Decimal | None]
"""What a meter comes to in [start, end); None: it is not known."""


class UsageUnknown(Exception):
    """An invoice cannot be made: usage of a meter is not known, and that is no zero."""


def periods(held: Sequence[Held], after: int, until: int) -> list[OwnPeriod]:
    """The months that end after `after` and at or before `until`, of plans held in order of time.

    Plans on one calendar (anchor and zone) make one run of months; another calendar begins anew. A month is as long as it was held.
    """
    found: list[OwnPeriod] = []
    runs: list[list[Held]] = []
    for one in held:
        calendar = (one.subscription.anchor, one.subscription.zone)
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and last.end == one.start
            and (last.subscription.anchor, last.subscription.zone) == calendar
        ):
            runs[-1].append(one)
        else:
            runs.append([one])
    for run in runs:
        anchor, zone = run[0].subscription.anchor, run[0].subscription.zone
        over = run[-1].end
        at = max(run[0].start, min(after, over - 1))
        while at < over:
            start, end = period_at(anchor, zone, at)
            start, end = max(start, run[0].start), min(end, over)
            if end > until:
                break
            parts = tuple(one for one in run if one.start < end and one.end > start)
            if end > after and parts:
                found.append(OwnPeriod(start, end, parts))
            at = end
    return found


def lines(period: OwnPeriod, currency: str, usage: Usage) -> list[OwnLine]:
    """What is charged for a period. Raises UsageUnknown."""
    found = []
    for one in period.held:
        for price in one.plan.prices:
            if price.currency == currency and price.model == "flat":
                found += _flat(period, one, price)
    for one in period.held:
        for price in one.plan.prices:
            span = _metered_span(period, one, price) if price.currency == currency and price.meter is not None else None
            if span is not None:
                found.append(_metered(one.plan, price, *span, usage))
    return found


def corrections(
    billed: Mapping[tuple[int, int, str], Decimal], prices: Mapping[tuple[int, int, str], Price], usage: Usage
) -> list[OwnLine]:
    """Lines for what usage that was billed (by start, end and price key) comes to now. What is not known is left for the next time."""
    found = []
    for (start, end, key), before in sorted(billed.items()):
        price = prices[start, end, key]
        now = usage(str(price.meter), start, end)
        if now is None or now == before:
            continue
        amount = rate(price, now).amount - rate(price, before).amount
        said = f"{key}: correction, {format_quantity(now)} instead of {format_quantity(before)}"
        found.append(OwnLine(key, said, amount, now, start, end, corrects=start))
    return found


def _flat(period: OwnPeriod, one: Held, price: Price) -> list[OwnLine]:
    rated = rate(price, 0)
    if price.interval == "once":
        if not period.start <= one.start < period.end:
            return []
        return [_flat_line(one, price, rated.amount, "", one.start, one.start)]
    over = min(one.end, period.end)
    calendar = (one.subscription.anchor, one.subscription.zone)
    whole = period_at(*calendar, over - 1, price.interval)
    if price.interval == "year" and over < whole[1] and one.end > period.end:
        return []  # neither the year nor the plan ends
    since = whole[0] if price.interval == "year" else period.start
    start = max(since, one.start)
    if start >= over:
        return []
    part = Decimal(over - start) / Decimal(whole[1] - whole[0])
    amount = rated.amount if part == 1 else round_money(rated.amount * part, price.currency)
    return [_flat_line(one, price, amount, "" if part == 1 else " (part of the period)", start, over)]


def _flat_line(one: Held, price: Price, amount: Decimal, said: str, start: int, end: int) -> OwnLine:
    return OwnLine(price.key, f"{one.plan.name}: {price.key}{said}", amount, None, start, end, plan=one.plan)


def _metered(plan: Plan, price: Price, start: int, end: int, usage: Usage) -> OwnLine:
    used = usage(str(price.meter), start, end)
    if used is None:
        raise UsageUnknown(f"{price.meter} from {start} to {end}")
    rated = rate(price, used)
    return OwnLine(price.key, price.key, rated.amount, used, start, end, rated.as_dict()["lines"], plan=plan)


def _metered_span(period: OwnPeriod, one: Held, price: Price) -> tuple[int, int] | None:
    """The months whose usage is charged with this period: itself, or those of the year that is over, or that its plan was held.

    A month's usage is that of the plan at its end, so one that is left within a month has the months before it.
    """
    last = one is period.held[-1]
    if price.interval != "year":
        return (period.start, period.end) if last else None
    until = period.end if last else period.start
    calendar = (one.subscription.anchor, one.subscription.zone)
    start, end = period_at(*calendar, until - 1, "year")
    if last and until < end and one.end > period.end:
        return None  # neither the year nor the plan ends
    if not last and until == end:
        return None  # charged with the month before
    first = period.start if one.start >= period.start else period_at(*calendar, one.start)[0]
    start = max(start, first)
    return (start, until) if start < until else None
