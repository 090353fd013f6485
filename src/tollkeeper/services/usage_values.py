"""What a question about usage comes to: rows of the usage file gathered into windows and groups, by the meter's aggregation."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, TypeAlias

from tollkeeper.core.aggregation import Rank, average, ranked
from tollkeeper.core.customers import Environment
from tollkeeper.core.events import LoggedEvent
from tollkeeper.core.metering import Aggregation, Meter, join_quantity
from tollkeeper.core.usage import OTHER, CellRow, DistinctRow, KeptRow, UnmatchedType

FEW_WINDOWS = 100

Group: TypeAlias = "tuple[str | None, ...]"
"""A value for each name of `group_by`."""

Where: TypeAlias = "tuple[int, Group]"
"""The index of a window, and the group."""


class Cells(Protocol):
    """What the usage file answers."""

    def info(self) -> dict[str, str]: ...
    def meters(self, key: str) -> list[tuple[int, Meter]]: ...
    def sums(
        self,
        environment: str,
        meters: list[int],
        start_s: int,
        end_s: int,
        *,
        customer: str | None = None,
        subject: str | None = None,
        by: tuple[str, ...] = (),
    ) -> Iterator[CellRow]: ...
    def kept(
        self,
        environment: str,
        meters: list[int],
        aggregation: Aggregation,
        start_s: int,
        end_s: int,
        *,
        customer: str | None = None,
        subject: str | None = None,
        by: tuple[str, ...] = (),
    ) -> Iterator[KeptRow]: ...
    def distinct(
        self,
        environment: str,
        meters: list[int],
        start_s: int,
        end_s: int,
        *,
        customer: str | None = None,
        subject: str | None = None,
        by: tuple[str, ...] = (),
        dimensions: tuple[int, ...] = (),
    ) -> Iterator[DistinctRow]: ...
    def unmatched(self, environment: str, since_s: int) -> list[UnmatchedType]: ...
    def events(self, after_seq: int = 0, limit: int | None = None) -> Iterator[LoggedEvent]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A question whose parts are known to exist. `edges` are windows [start, end) in µs, in order; `customer`, `key` None: all."""

    meter: Meter
    numbers: list[int]
    environment: Environment
    customer: str | None
    key: str | None
    edges: list[tuple[int, int]]
    group_by: tuple[str, ...]

    @property
    def by(self) -> tuple[str, ...]:
        """What is grouped by, as the usage file calls it."""
        names = [{"customer": "customer", "key": "subject"}.get(name, "combination") for name in self.group_by]
        return tuple(dict.fromkeys(names))

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The places, in a combination, of the dimensions that are grouped by."""
        return tuple(self.meter.group_by.index(name) for name in self.group_by if name in self.meter.group_by)


class Values(NamedTuple):
    """By window and group: how many events, and the value. What is in neither had none. `total`: of all windows and groups together."""

    events: dict[Where, int]
    values: dict[Where, Decimal]
    total: Decimal | None
    nothing: Decimal | None
    """The value without events: 0, or None where there is none to take."""


def values_of(cells: Cells, asked: Asked) -> Values:
    sums = _sums(cells, asked)
    events = {where: total[0] for where, total in sums.items()}
    aggregation = asked.meter.aggregation
    nothing = Decimal(0) if aggregation in ("count", "sum", "unique") else None
    if aggregation in ("count", "sum"):
        added = {where: join_quantity(units, nanos) for where, (_, units, nanos) in sums.items()}
        units, nanos = (sum(total[place] for total in sums.values()) for place in (1, 2))
        return Values(events, added, join_quantity(units, nanos), nothing)
    if aggregation == "avg":
        means = {where: average(join_quantity(u, n), e) for where, (e, u, n) in sums.items()}
        e, u, n = (sum(total[place] for total in sums.values()) for place in (0, 1, 2))
        return Values(events, means, average(join_quantity(u, n), e) if e else None, nothing)
    if aggregation == "unique":
        return Values(events, *_distinct(cells, asked), nothing)
    kept = _kept(cells, asked)
    last = max(kept.values(), default=None)
    shown = {where: _value(aggregation, rank) for where, rank in kept.items()}
    return Values(events, shown, None if last is None else _value(aggregation, last), nothing)


def _sums(cells: Cells, asked: Asked) -> dict[Where, list[int]]:
    place = _Places(asked)
    sums: dict[Where, list[int]] = {}
    for start, end, by in place.spans():
        for row in cells.sums(
            asked.environment, asked.numbers, start, end, customer=asked.customer, subject=asked.key, by=by
        ):
            total = sums.setdefault(place.of(row), [0, 0, 0])
            total[0] += row.events
            total[1] += row.units
            total[2] += row.nanos
    return sums


def _kept(cells: Cells, asked: Asked) -> dict[Where, Rank]:
    place = _Places(asked)
    kept: dict[Where, Rank] = {}
    aggregation = asked.meter.aggregation
    for start, end, by in place.spans():
        for row in cells.kept(
            asked.environment,
            asked.numbers,
            aggregation,
            start,
            end,
            customer=asked.customer,
            subject=asked.key,
            by=by,
        ):
            where = place.of(row)
            kept[where] = max(row.kept, kept.get(where, row.kept))
    return kept


def _value(aggregation: Aggregation, kept: Rank) -> Decimal:
    return join_quantity(0, ranked(aggregation, kept)[0])


def _distinct(cells: Cells, asked: Asked) -> tuple[dict[Where, Decimal], Decimal]:
    """Windows and groups share values, so each is asked for by itself, and the total, too."""
    by = tuple(name for name in asked.by if name != "combination")
    names = [name for name in asked.group_by if name in asked.meter.group_by]

    def ask(start: int, end: int, by: tuple[str, ...], dimensions: tuple[int, ...]) -> Iterator[DistinctRow]:
        first, last = _seconds(start, end)
        return cells.distinct(
            asked.environment,
            asked.numbers,
            first,
            last,
            customer=asked.customer,
            subject=asked.key,
            by=by,
            dimensions=dimensions,
        )

    found: dict[Where, Decimal] = {}
    for index, (start, end) in enumerate(asked.edges):
        for row in ask(start, end, by, asked.dimensions):
            known = {"customer": row.customer, "key": row.subject, **dict(zip(names, row.dimensions, strict=True))}
            found[index, tuple(known[name] for name in asked.group_by)] = Decimal(row.values)
    total = sum(row.values for row in ask(asked.edges[0][0], asked.edges[-1][1], (), ()))
    return found, Decimal(total)


def _seconds(start: int, end: int) -> tuple[int, int]:
    return start // 1_000_000, -(-end // 1_000_000)


class _Places:
    """Where a row of the usage file belongs."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._starts = [start for start, _ in asked.edges]
        self._combinations: dict[str | None, dict[str, str | None]] = {None: {}}

    def spans(self) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        """What to ask, in seconds: added up where the data is, by window when they are few, by cell when they are many."""
        edges, by = self._asked.edges, self._asked.by
        if len(edges) > FEW_WINDOWS:
            edges, by = [(edges[0][0], edges[-1][1])], ("cell", *by)
        for start, end in edges:
            yield (*_seconds(start, end), by)

    def of(self, row: CellRow | KeptRow) -> Where:
        dimensions = self._combinations.get(row.combination)
        if dimensions is None:
            dimensions = self._combinations[row.combination] = self._read(str(row.combination))
        known = {"customer": row.customer, "key": row.subject, **dimensions}
        group = tuple(known[name] for name in self._asked.group_by)
        return bisect_right(self._starts, row.cell * 1_000_000) - 1, group

    def _read(self, combination: str) -> dict[str, str | None]:
        names = self._asked.meter.group_by
        if combination == OTHER:
            return dict.fromkeys(names, OTHER)
        values: list[Any] = json.loads(combination)
        return dict(zip(names, values, strict=True))
