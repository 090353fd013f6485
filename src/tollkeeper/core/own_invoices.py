"""What we invoice ourselves, without a payment provider: which periods a customer had, and what stands on the invoice of one. Pure.

Everything is charged after the period it is for. A flat price is charged for the part of its interval in which the plan was held, to the
second. Usage of a period is rated by the plan held at its end. A yearly price is charged with the month in which its year ends, or the
contract. What came in after an invoice was issued is a line of its own on the next: rate(what it comes to now) − rate(what was billed).
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
    """[start, end) on one calendar; `last`: the contract ended with it. `held` are the plans within, in order of time."""

    start: int
    end: int
    last: bool
    held: tuple[Held, ...]

    @property
    def plan(self) -> Plan:
        return self.held[-1].plan


@dataclass(frozen=True, slots=True)
class OwnLine:
    """One line. `key` is the price's; `details` are the lines of its rating. `corrects`: the start of the period it puts right."""

    key: str
    description: str
    amount: Decimal
    quantity: Decimal | None
    start: int
    end: int
    details: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    corrects: int | None = None

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
                found.append(OwnPeriod(start, end, end == over, parts))
            at = end
    return found


def lines(period: OwnPeriod, currency: str, usage: Usage) -> list[OwnLine]:
    """What is charged for a period. Raises UsageUnknown."""
    found = []
    for one in period.held:
        for price in one.plan.prices:
            if price.currency == currency and price.model == "flat":
                found += _flat(period, one, price)
    for price in period.plan.prices:
        if price.currency == currency and price.meter is not None:
            span = _interval(period, price, period.held[0].start)
            if span is not None:
                found.append(_metered(price, *span, usage))
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
        return [OwnLine(price.key, f"{one.plan.name}: {price.key}", rated.amount, None, one.start, one.start)]
    span = _interval(period, price, one.start)
    if span is None:
        return []
    start, end = max(span[0], one.start), min(span[1], one.end)
    if start >= end:
        return []
    calendar = (one.subscription.anchor, one.subscription.zone)
    whole = period_at(*calendar, span[1] - 1, "year" if price.interval == "year" else "month")
    part = Decimal(end - start) / Decimal(whole[1] - whole[0])
    amount = rated.amount if part == 1 else round_money(rated.amount * part, price.currency)
    said = f"{one.plan.name}: {price.key}" + ("" if part == 1 else " (part of the period)")
    return [OwnLine(price.key, said, amount, None, start, end)]


def _metered(price: Price, start: int, end: int, usage: Usage) -> OwnLine:
    used = usage(str(price.meter), start, end)
    if used is None:
        raise UsageUnknown(f"{price.meter} from {start} to {end}")
    rated = rate(price, used)
    return OwnLine(price.key, price.key, rated.amount, used, start, end, rated.as_dict()["lines"])


def _interval(period: OwnPeriod, price: Price, held_from: int) -> tuple[int, int] | None:
    """The interval of a price that is charged with this period: the month itself, or the year that ends with it."""
    if price.interval != "year":
        return period.start, period.end
    one = period.held[-1].subscription
    start, end = period_at(one.anchor, one.zone, period.end - 1, "year")
    if end != period.end and not period.last:
        return None
    return max(start, held_from), period.end
