"""What the calls that `services.whatif` read would have earned: for each plan, month and caller, rated by `core.rating`.

A caller is billed for each month in which at least one of its calls would have counted, as though it had bought the plan on the
month's first day: a flat price, a minimum and a quota are whole, in months that the log has in part, too. Prices by the year are
charged by calendar year, in the caller's first month of it; prices once in its first month of all.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from tollkeeper.core.money import round_money
from tollkeeper.core.periods import SECOND_US, find_zone, period_at
from tollkeeper.core.plans import Plan, Price
from tollkeeper.core.rating import rate
from tollkeeper.services.whatif import BY_LIMIT, BY_QUOTA, CALLS, COUNTABLE, FIRST, WIDTH, Caller, WhatIf

DAY_US: Final = 86_400 * SECOND_US
_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class OfPlan:
    """One plan for one caller, over the whole log. `over`: months in which it used more than a soft quota."""

    amount: Decimal
    used: int
    by_limit: int
    by_quota: int
    over: int


@dataclass(frozen=True, slots=True)
class OfCaller:
    """One caller. `fits`: index of the cheapest of the plans that refuse the fewest calls by quota."""

    label: str
    calls: int
    countable: int
    plans: tuple[OfPlan, ...]
    fits: int


@dataclass(slots=True)
class PlanTotal:
    """All callers on one plan. `hit_…`: callers; `by_…`: calls that would have been refused. `amounts`: what each payer pays, falling."""

    key: str
    name: str
    earned: Decimal
    months: dict[str, Decimal] = field(default_factory=dict)
    used: int = 0
    payers: int = 0
    hit_limit: int = 0
    hit_quota: int = 0
    over_quota: int = 0
    by_limit: int = 0
    by_quota: int = 0
    picked: int = 0
    amounts: list[Decimal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month of the zone. `partly`: the log begins or ends within it, by more than a day."""

    key: str
    calls: int
    partly: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Amounts are in `currency`. `billed`: callers with a call that counts. `left_out`: prices that are not in the amounts, and why.

    `best`: each caller on the plan that `fits`; `best_amounts`: what each payer pays then, falling.
    `top`: who would pay most; `refused`: who would be refused most, or goes past a soft quota.
    """

    currency: str
    plans: tuple[PlanTotal, ...]
    best: Decimal
    best_amounts: list[Decimal]
    months: tuple[Month, ...]
    callers: int
    billed: int
    top: tuple[OfCaller, ...]
    refused: tuple[OfCaller, ...]
    left_out: tuple[str, ...]


class _Prices:
    """The prices of a plan that a log can tell the usage of, and their amounts, each looked up once."""

    def __init__(self, plan: Plan, meter: str, currency: str) -> None:
        self.left_out: list[str] = []
        self.prices: list[Price] = []
        for price in plan.prices:
            if price.currency != currency:
                self.left_out.append(f"{plan.key}.{price.key}: it is in {price.currency}, the catalog in {currency}")
            elif price.meter not in (None, meter):
                self.left_out.append(f"{plan.key}.{price.key}: it is for the meter {price.meter}")
            else:
                self.prices.append(price)
        self._known: dict[tuple[int, int], Decimal] = {}

    def amounts(self, used: dict[str, int]) -> dict[str, Decimal]:
        """What each month costs; `used` has the months, "2026-11", in order."""
        owed = dict.fromkeys(used, _ZERO)
        for i, price in enumerate(self.prices):
            for month, quantity in _charges(price, used):
                owed[month] += self._amount(i, quantity)
        return owed

    def _amount(self, index: int, quantity: int) -> Decimal:
        known = self._known.get((index, quantity))
        if known is None:
            known = self._known[index, quantity] = rate(self.prices[index], quantity).amount
        return known


def _charges(price: Price, used: dict[str, int]) -> Iterable[tuple[str, int]]:
    """The months in which a price is charged, each with the quantity."""
    if price.interval == "month":
        return used.items()
    if price.interval == "once":
        return [(next(iter(used)), 0)] if used else []
    first: dict[str, str] = {}
    totals: dict[str, int] = {}
    for month, quantity in used.items():
        at = first.setdefault(month[:4], month)
        totals[at] = totals.get(at, 0) + quantity
    return totals.items()


def report(found: WhatIf, currency: str, top: int) -> Report:
    """`top`: how many callers are named in each list; 0 is all of them. Raises AmountTooLarge, UnpricedUsage."""
    reckoning = _Reckoning(found, currency)
    paying, refused = _Top(top), _Top(top)
    for caller in found.callers.values():
        one = reckoning.add(caller)
        most = max(plan.amount for plan in one.plans)
        paying.add((most, one.countable, one.calls), one)
        turned_away = max(plan.by_limit + plan.by_quota for plan in one.plans)
        if turned_away or any(plan.over for plan in one.plans):
            refused.add((turned_away, most, one.calls), one)
    for total in reckoning.totals:
        total.amounts.sort(reverse=True)
    return Report(
        currency,
        tuple(reckoning.totals),
        reckoning.best,
        sorted(reckoning.best_amounts, reverse=True),
        tuple(_months(found, reckoning.names)),
        len(found.callers),
        reckoning.billed,
        tuple(paying.falling()),
        tuple(refused.falling()),
        tuple(line for prices in reckoning.prices for line in prices.left_out),
    )


class _Reckoning:
    """The sums over callers."""

    def __init__(self, found: WhatIf, currency: str) -> None:
        question = found.question
        meter = question.meter.key
        rules = find_zone(question.zone)
        starts = sorted({start for caller in found.callers.values() for start in caller.cells})
        self.names = {start: datetime.fromtimestamp(start // SECOND_US, rules).strftime("%Y-%m") for start in starts}
        self.zero = round_money(_ZERO, currency)
        self.prices = [_Prices(plan, meter, currency) for plan in question.plans]
        self.totals = [PlanTotal(plan.key, plan.name, self.zero) for plan in question.plans]
        self.soft = [
            quota.limit if (quota := plan.quota(meter)) and quota.kind == "soft" else None for plan in question.plans
        ]
        self.best, self.billed = self.zero, 0
        self.best_amounts: list[Decimal] = []

    def add(self, caller: Caller) -> OfCaller:
        cells = [(self.names[start], cell) for start, cell in sorted(caller.cells.items())]
        outcomes = tuple(self._of_plan(i, cells) for i in range(len(self.totals)))
        fits = min(range(len(outcomes)), key=lambda i: (outcomes[i].by_quota, outcomes[i].amount))
        if any(cell[COUNTABLE] for _, cell in cells):
            self.billed += 1
            self.totals[fits].picked += 1
            self.best += outcomes[fits].amount
            if outcomes[fits].amount > 0:
                self.best_amounts.append(outcomes[fits].amount)
        calls, countable = sum(cell[CALLS] for _, cell in cells), sum(cell[COUNTABLE] for _, cell in cells)
        return OfCaller(caller.label, calls, countable, outcomes, fits)

    def _of_plan(self, i: int, cells: list[tuple[str, list[int]]]) -> OfPlan:
        total, soft, slot = self.totals[i], self.soft[i], FIRST + WIDTH * i
        owed = self.prices[i].amounts({month: cell[slot] for month, cell in cells if cell[COUNTABLE]})
        one = OfPlan(
            sum(owed.values(), self.zero),
            sum(cell[slot] for _, cell in cells),
            sum(cell[slot + BY_LIMIT] for _, cell in cells),
            sum(cell[slot + BY_QUOTA] for _, cell in cells),
            sum(1 for _, cell in cells if soft is not None and cell[slot] > soft),
        )
        for month, amount in owed.items():
            total.months[month] = total.months.get(month, self.zero) + amount
        total.earned += one.amount
        total.used += one.used
        total.by_limit += one.by_limit
        total.by_quota += one.by_quota
        total.hit_limit += one.by_limit > 0
        total.hit_quota += one.by_quota > 0
        total.over_quota += one.over > 0
        if one.amount > 0:
            total.payers += 1
            total.amounts.append(one.amount)
        return one


class _Top:
    """The `most` greatest, 0: all; the earlier of equals."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[tuple[Decimal | int, ...], int, OfCaller]] = []
        self._seen = 0

    def add(self, rank: tuple[Decimal | int, ...], caller: OfCaller) -> None:
        self._seen += 1
        entry = (rank, -self._seen, caller)
        if not self._most or len(self._kept) < self._most:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    def falling(self) -> list[OfCaller]:
        return [caller for _, _, caller in sorted(self._kept, key=lambda entry: entry[:2], reverse=True)]


def _months(found: WhatIf, names: dict[int, str]) -> Iterator[Month]:
    calls = dict.fromkeys(names, 0)
    for caller in found.callers.values():
        for start, cell in caller.cells.items():
            calls[start] += cell[CALLS]
    assert not names or (found.first is not None and found.last is not None)
    for start, name in names.items():
        end = period_at(start, found.question.zone, start)[1]
        partly = (found.first or 0) > start + DAY_US or (found.last or 0) < end - DAY_US
        yield Month(name, calls[start], partly)
