"""What a correction would change, before it is made: per customer, meter and period the value before, after, and the difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tollkeeper.core.aggregation import KEPT, Rank, average, rank, ranked
from tollkeeper.core.corrections import Change, Part, PeriodChange
from tollkeeper.core.customers import Environment
from tollkeeper.core.metering import CELL_SECONDS, NANOS, SUMMED, Aggregation, Meter, format_quantity, join_quantity
from tollkeeper.services.corrections_plan import Plan, Trail
from tollkeeper.services.usage_values import Asked, Cells, values_of


@dataclass(slots=True)
class _Effect:
    """On one meter of one customer in one period."""

    events: int = 0
    billionths: int = 0
    values: Counter[str] = field(default_factory=Counter)
    gained: list[Rank] = field(default_factory=list)
    quarters: set[int] = field(default_factory=set)

    def add(self, part: Part, change: Change, sign: int) -> None:
        self.events += sign
        amount = part.units * NANOS + part.nanos
        if part.aggregation in SUMMED:
            self.billionths += sign * amount
        if part.value is not None:
            self.values[part.value] += sign
        if part.aggregation in KEPT:
            self.quarters.add(change.event.quarter)
            if sign > 0:
                self.gained.append(rank(part.aggregation, amount, change.event.time, change.event.seq))


def reckon(cells: Cells, trail: Trail, plan: Plan) -> list[PeriodChange]:
    """In order of customer, meter and period."""
    meters = {number: meter for number, meter, _, _ in plan.folding.spans}
    effects: dict[tuple[int, str, Aggregation, tuple[str, ...], int, int], _Effect] = {}
    for change in plan.changes:
        for sign, parts in ((-1, change.old), (1, change.new)):
            for part in parts:
                meter = meters[part.meter]
                place = change.place
                way = (meter.key, meter.aggregation, meter.group_by)
                where = (change.event.customer, *way, place.start, place.end)
                effects.setdefault(where, _Effect()).add(part, change, sign)
    found = []
    for (customer, key, aggregation, group_by, start, end), effect in effects.items():
        of_key = [
            (number, meter)
            for number, meter in meters.items()
            if (meter.key, meter.aggregation, meter.group_by) == (key, aggregation, group_by)
        ]
        numbers = [number for number, _ in of_key]
        one = _Period(cells, trail, plan, of_key[-1][1], numbers, customer, start, end)
        before, after = one.before(), one.after(effect)
        difference = None if before is None or after is None else format_quantity(after - before)
        name = trail.name(customer)
        span = (start * 1_000_000, end * 1_000_000)
        found.append(PeriodChange(name, key, *span, _text(before), _text(after), difference, effect.events))
    return sorted(found, key=lambda change: (change.customer, change.meter, change.start))


class _Period:
    """One meter of one customer in the period [start, end) in seconds."""

    def __init__(
        self,
        cells: Cells,
        trail: Trail,
        plan: Plan,
        meter: Meter,
        numbers: Sequence[int],
        customer: int,
        start: int,
        end: int,
    ) -> None:
        self._cells = cells
        self._trail = trail
        self._plan = plan
        self._meter = meter
        self._numbers = list(numbers)
        self._customer = customer
        self._name = trail.name(customer)
        self._span = (start, end)
        self._before: Decimal | None = None

    @property
    def _environment(self) -> Environment:
        return self._plan.environment

    def before(self) -> Decimal | None:
        start, end = self._span
        edges = [(start * 1_000_000, end * 1_000_000)]
        asked = Asked(self._meter, self._numbers, self._environment, self._name, None, edges, ())
        self._before = values_of(self._cells, asked).total
        return self._before

    def after(self, effect: _Effect) -> Decimal | None:
        """What `before` gives once the correction is made."""
        aggregation = self._meter.aggregation
        if aggregation in ("count", "sum"):
            return (self._before or Decimal(0)) + join_quantity(0, effect.billionths)
        if aggregation == "avg":
            rows = list(self._cells.sums(self._environment, self._numbers, *self._span, customer=self._name))
            events = sum(row.events for row in rows) + effect.events
            total = sum(row.units * NANOS + row.nanos for row in rows) + effect.billionths
            return average(join_quantity(0, total), events) if events else None
        if aggregation == "unique":
            return (self._before or Decimal(0)) + self._more_values(effect.values)
        kept = self._kept(effect, aggregation)
        return None if kept is None else join_quantity(0, ranked(aggregation, kept)[0])

    def _more_values(self, changed: Counter[str]) -> int:
        flag = int(self._environment == "test")
        now = self._trail.value_events(flag, self._customer, self._numbers, *self._span, list(changed))
        return sum((now.get(value, 0) + more > 0) - (now.get(value, 0) > 0) for value, more in changed.items())

    def _kept(self, effect: _Effect, aggregation: Aggregation) -> Rank | None:
        neighbours = self._plan.neighbours
        refolded = set() if neighbours is None else effect.quarters
        rows = self._cells.kept(
            self._environment, self._numbers, aggregation, *self._span, customer=self._name, by=("cell",)
        )
        kept = [row.kept for row in rows if row.cell - row.cell % CELL_SECONDS not in refolded]
        if neighbours is None:
            return max([*kept, *effect.gained], default=None)
        changed = {change.event.seq: change for change in self._plan.changes}
        for quarter in refolded:
            for one in neighbours.get((self._customer, quarter), ()):
                change = changed.get(one.event.seq)
                for part in one.parts if change is None else change.new:
                    if part.meter in self._numbers and one.place.start == self._span[0]:
                        amount = part.units * NANOS + part.nanos
                        kept.append(rank(aggregation, amount, one.event.time, one.event.seq))
        return max([*kept, *effect.gained], default=None)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format_quantity(value)
