"""The log folded again, without what folded it the first time, and compared with the rollups it should equal.

Pure. Events and rollups come as the numbers the log stores, so that tens of millions can be folded; what they are named is asked
only for a difference.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeAlias

from tollkeeper.core.events import GATE
from tollkeeper.core.metering import CELL_SECONDS, NANOS, SUMMED, Meter, QuantityInvalid, split_quantity
from tollkeeper.core.refold_extras import (
    LATEST,
    LAYOUTS,
    OTHER_COMBINATION,
    DataInvalid,
    ExtraFold,
    Layout,
    Rows,
    Value,
)

Row: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, "str | None"]
"""seq, time µs, flags (environment in bit 0), source, type, subject, customer, epoch, quantity, data."""

Key: TypeAlias = tuple[int, int, int, int, int, int]
"""day, environment, customer, meter, subject, cell (its start in seconds)."""

Period: TypeAlias = Callable[[int, int, int], "tuple[int, int] | None"]
"""(environment, customer, time µs) → the period [start, end) in µs; None when nobody knows the customer any more."""

DAY_US = 86_400_000_000
CACHED_VALUES = 10_000
OTHER_SUBJECT = -1
"""Subjects beyond a day's bound, folded together."""


class Own(Protocol):
    """What has rows of its own; the others are folded together. `check_source`: the number of the source of checks, None without any."""

    @property
    def check_source(self) -> int | None: ...
    def subject(self, day: int, environment: int, customer: int, subject: int) -> bool: ...
    def combination(self, start: int, environment: int, customer: int, meter: int, text: str) -> bool:
        """`start` (s) of its period."""


class Rule(NamedTuple):
    """A meter as far as it folds. `property` None: it counts events. `extra`: the meter, when it keeps more than a number and a sum."""

    number: int
    property: str | None
    extra: Meter | None


class MeterHistory:
    """Which meters were in force in which epoch: (number, meter, from_epoch, until_epoch or None)."""

    def __init__(self, spans: Iterable[tuple[int, Meter, int, int | None]]) -> None:
        self._spans = list(spans)

    def rules(self, epoch: int, event_type: str) -> tuple[Rule, ...]:
        return tuple(
            Rule(
                number,
                None if meter.aggregation == "count" else meter.value_property,
                meter if meter.aggregation not in SUMMED or meter.group_by or meter.filters else None,
            )
            for number, meter, since, until in self._spans
            if meter.event_type == event_type and since <= epoch and (until is None or epoch < until)
        )


MOVED = (-(1 << 62), 1 << 62)
"""The period of a customer whose calendar was another one when some of the log was folded."""


class Refold:
    """Folds events in any order. `take` gives what was folded since the last call, so that memory stays bounded.

    `own` says what has rows of its own. What the log says to that is taken, too: `own_subjects` and `own_combinations` have each subject of
    a day and each combination of a period, with the first sequence that asks for rows of its own for it.

    Events of customers nobody knows any more (`unknown`), or whose periods moved, are not cut at periods; `uncut` holds both.
    `cuts`: by environment and customer the instants (s, in order) at which cells are divided besides.
    """

    def __init__(
        self,
        meters: MeterHistory,
        type_name: Callable[[int], str],
        period: Period,
        own: Own,
        cuts: Mapping[tuple[int, int], tuple[int, ...]] | None = None,
    ) -> None:
        self._cuts = cuts or {}
        self._meters = meters
        self._type_name = type_name
        self._period = period
        self._rules: dict[tuple[int, int], tuple[Rule, ...]] = {}
        self._periods: dict[tuple[int, int], tuple[int, int]] = {}
        self._values: dict[tuple[str, str], int | None] = {}
        self._rollups: dict[Key, list[int]] = {}
        self._unmatched: dict[tuple[int, int, int, int], list[int]] = {}
        self._own = own
        self._subjects: dict[tuple[int, int, int, int], int] = {}
        self._began: dict[tuple[int, int], int | None] = {}
        self._extras = ExtraFold(own.combination)
        self.uncut: set[tuple[int, int]] = set()
        self.unknown: set[tuple[int, int]] = set()
        self.events = 0

    @property
    def size(self) -> int:
        """Rows in memory."""
        return len(self._rollups) + len(self._subjects) + self._extras.size

    def take(self) -> dict[str, Rows]:
        """Rows by table, sorted; those of `unmatched` are (day, environment, type, source) → (events, last sequence)."""
        taken = self._extras.take()
        taken["rollups"] = [(key, (e, b)) for key, (e, b) in sorted(self._rollups.items())]
        taken["unmatched"] = [(key, (events, last)) for key, (events, last) in sorted(self._unmatched.items())]
        taken["own_subjects"] = [(key, (seq,)) for key, seq in sorted(self._subjects.items())]
        self._rollups.clear()
        self._unmatched.clear()
        self._subjects.clear()
        return taken

    def add(self, rows: Iterable[Row]) -> None:
        """Raises DataInvalid."""
        rollups, rules_of, periods, subjects = self._rollups, self._rules, self._periods, self._subjects
        check_source, has_rows = self._own.check_source, self._own.subject
        count = 0
        for seq, at, flags, source, type, subject, customer, epoch, quantity, data in rows:
            count += 1
            environment = flags & 1
            rules = rules_of.get((epoch, type))
            if rules is None:
                rules = rules_of[epoch, type] = self._meters.rules(epoch, self._type_name(type))
            folded = False
            if rules:
                second = at // 1_000_000
                cell = second - second % CELL_SECONDS
                period = periods.get((environment, customer))
                if period is None or not period[0] <= second < period[1]:
                    period = self._find_period(environment, customer, at)
                if cell < period[0]:
                    cell = period[0]
                whose = None
                if subject and flags >> 1 != GATE and source != check_source:
                    whose = (cell // 86400, environment, customer, subject)
                    if not has_rows(*whose):
                        subject = OTHER_SUBJECT
                for number, property, extra in rules:
                    if extra is not None:
                        place = (environment, customer, subject, cell, self._began[environment, customer])
                        billionths = self._extras.add(number, extra, place, (seq, at, quantity, data))
                    else:
                        billionths = quantity * NANOS if property is None else self._value(seq, data, property)
                    if billionths is None:
                        continue
                    folded = True
                    key = (cell // 86400, environment, customer, number, subject, cell)
                    total = rollups.get(key)
                    if total is None:
                        rollups[key] = [1, billionths]
                    else:
                        total[0] += 1
                        total[1] += billionths
                if folded and whose is not None and seq < subjects.get(whose, LATEST):
                    subjects[whose] = seq
            if not folded:
                seen = self._unmatched.setdefault((at // DAY_US, environment, type, source), [0, 0])
                seen[0] += 1
                seen[1] = max(seen[1], seq)
        self.events += count

    def _find_period(self, environment: int, customer: int, at: int) -> tuple[int, int]:
        """In seconds; boundaries are whole seconds."""
        found = self._period(environment, customer, at)
        if found is None:
            self.unknown.add((environment, customer))
        if found is None or found == MOVED:
            self.uncut.add((environment, customer))
            self._began[environment, customer] = None
            seconds = (-(1 << 62), 1 << 62)
        else:
            self._began[environment, customer] = found[0] // 1_000_000
            seconds = (found[0] // 1_000_000, found[1] // 1_000_000)
        cuts = self._cuts.get((environment, customer))
        if cuts:
            place = bisect_right(cuts, at // 1_000_000)
            start = max(seconds[0], cuts[place - 1]) if place else seconds[0]
            seconds = (start, min(seconds[1], cuts[place]) if place < len(cuts) else seconds[1])
        self._periods[environment, customer] = seconds
        return seconds

    def _value(self, seq: int, data: str | None, property: str) -> int | None:
        if data is None:
            return None
        cached = self._values.get((data, property), self)
        if cached is not self:
            return cached  # type: ignore[return-value]
        try:
            decoded: Any = json.loads(data, parse_float=Decimal)
            value = decoded.get(property)
            billionths = None
            if value is not None:
                units, nanos = split_quantity(value)
                billionths = units * NANOS + nanos
        except (ValueError, AttributeError, QuantityInvalid) as error:
            raise DataInvalid(f"event {seq}: its data cannot be folded ({error})") from None
        if len(self._values) >= CACHED_VALUES:
            self._values.clear()
        self._values[data, property] = billionths
        return billionths


class Difference(NamedTuple):
    """A row that is not what the log says. `stored` or `refolded` None: there is none."""

    key: tuple[Any, ...]
    stored: Value | None
    refolded: Value | None


class Uncertain(NamedTuple):
    """Where one side cannot know how the other divided its rows.

    `uncut`: (environment, customer) whose periods nobody knows; their `cuts` (s) are known nevertheless. `capped`: (day, environment,
    customer) with so many subjects that some were folded together. `crowded`: (day, environment, customer, meter) the same with
    combinations.
    """

    uncut: set[tuple[int, int]]
    capped: set[tuple[int, int, int]]
    crowded: set[tuple[int, int, int, int]]
    cuts: Mapping[tuple[int, int], tuple[int, ...]] = {}


def comparable(
    rows: Iterable[tuple[tuple[Any, ...], Value]], table: str, uncertain: Uncertain
) -> Iterator[tuple[tuple[Any, ...], Value]]:
    """Sorted rows, merged where they are uncertain: by quarters of an hour, without subjects, without combinations."""
    layout = LAYOUTS[table]
    for group, members in groupby(rows, lambda row: row[0][:4]):
        day, environment, customer, meter = group
        whole = (environment, customer) in uncertain.uncut
        together = (day, environment, customer) in uncertain.capped
        crowded = layout.combination is not None and (day, environment, customer, meter) in uncertain.crowded
        if not whole and not together and not crowded:
            yield from members
            continue
        merged: dict[tuple[Any, ...], Value] = {}
        cuts = uncertain.cuts.get((environment, customer), ())
        for key, value in members:
            wide = _widened(key, layout, whole, together, crowded, cuts)
            before = merged.get(wide)
            if before is None:
                merged[wide] = value
            elif layout.greater:
                merged[wide] = max(before, value)
            else:
                merged[wide] = tuple(a + b for a, b in zip(before, value, strict=True))
        # rows that a correction left in two cells may add up to nothing
        yield from sorted((key, value) for key, value in merged.items() if layout.greater or any(value))


def _widened(
    key: tuple[Any, ...], layout: Layout, whole: bool, together: bool, crowded: bool, cuts: tuple[int, ...]
) -> tuple[Any, ...]:
    parts = list(key)
    if whole:
        cell = parts[layout.cell]
        place = bisect_right(cuts, cell)
        parts[layout.cell] = max(cell - cell % CELL_SECONDS, cuts[place - 1] if place else 0)
    if together:
        parts[layout.subject] = OTHER_SUBJECT
    if crowded and layout.combination is not None:
        parts[layout.combination] = OTHER_COMBINATION
    return tuple(parts)


def differences(
    stored: Iterable[tuple[tuple[Any, ...], Value]],
    refolded: Iterable[tuple[tuple[Any, ...], Value]],
    only_more: Callable[[tuple[Any, ...]], bool],
) -> Iterator[Difference]:
    """Where two sorted streams are not the same.

    Where `only_more(key)` the log no longer holds every event (retention removed some), so there the stored row need only hold as
    much as the log still has: as many events, or a value that stays.
    """
    left, right = iter(stored), iter(refolded)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None
            if not only_more(a[0]):
                yield Difference(a[0], a[1], None)
            a = next(left, None)
        elif a is None or b[0] < a[0]:
            yield Difference(b[0], None, b[1])
            b = next(right, None)
        else:
            if a[1] != b[1] and not (only_more(a[0]) and a[1][0] >= b[1][0]):
                yield Difference(a[0], a[1], b[1])
            a, b = next(left, None), next(right, None)


def own_differences(
    stored: Iterable[tuple[tuple[Any, ...], Value]],
    refolded: Iterable[tuple[tuple[Any, ...], Value]],
    partly: Callable[[tuple[Any, ...]], bool],
) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Whose rows of its own are not what the log says: the key, and whether it has them.

    Both sorted by key, whose last part is a subject or a combination; `refolded` with the first sequence that asks for its rows. The first
    in the log have them, and as soon as one has not, OTHER stands among the stored. Where `partly(group)` the log no longer holds every
    event: there only what has no rows although none was refused is told.
    """
    left = groupby(stored, lambda row: row[0][:-1])
    right = groupby(refolded, lambda row: row[0][:-1])
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        group = min(one[0] for one in (a, b) if one is not None)
        own: set[Any] = set()
        asked: dict[Any, int] = {}
        if a is not None and a[0] == group:
            own = {key[-1] for key, _ in a[1]}
            a = next(left, None)
        if b is not None and b[0] == group:
            asked = {key[-1]: value[0] for key, value in b[1]}
            b = next(right, None)
        closed = own & {OTHER_SUBJECT, OTHER_COMBINATION}
        own -= closed
        if partly(group):
            wrong = set() if closed else asked.keys() - own
        else:
            in_order = sorted(asked, key=lambda what: asked[what])
            first = set(in_order[: len(own)] if closed else in_order)
            wrong = first ^ own
            if closed and len(in_order) <= len(own):
                wrong |= closed
        for what in sorted(wrong):
            yield (*group, what), what in own or what in closed
