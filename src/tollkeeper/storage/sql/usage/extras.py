"""What is folded for meters that declare more than a number and a sum: dimensions, kept values (max, min, latest), values seen (unique).

All of it belongs to the transaction that appends the events. Meters that declare nothing of it never come here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import apsw

from tollkeeper.core.aggregation import KEPT, Rank, rank, ranked
from tollkeeper.core.events import Extra
from tollkeeper.core.metering import NANOS, SUMMED, Aggregation

OTHER: Final = -1
MOST_COMBINATIONS: Final = 1_000
REMEMBERED: Final = 10_000

UPSERT_DIMENSION = """
INSERT INTO dimensions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET events = events + excluded.events, units = units + excluded.units, nanos = nanos + excluded.nanos
"""
UPSERT_KEPT = """
INSERT INTO kept VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
SET units = excluded.units, nanos = excluded.nanos, time = excluded.time, seq = excluded.seq WHERE {stays}
"""
# a later event replaces an equal value only in `latest`, so of equal values the first in the log is kept
STAYS: Final[dict[Aggregation, str]] = {
    "max": "(excluded.units, excluded.nanos) > (units, nanos)",
    "min": "(excluded.units, excluded.nanos) < (units, nanos)",
    "latest": "(excluded.time, excluded.seq) > (time, seq)",
}
UPSERT_SEEN = """
INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events
"""
COMBINATIONS = """
WITH RECURSIVE days(day) AS (SELECT ? UNION ALL SELECT day + 1 FROM days WHERE day < ?)
SELECT DISTINCT n.name, d.combination FROM days CROSS JOIN dimensions d
  ON d.day = days.day AND d.environment = ? AND d.customer = ? AND d.meter = ?
JOIN names n ON n.number = d.combination WHERE d.cell >= ? AND d.cell < ?
"""

Number = Callable[[str, str], int]
"""(kind, name) → the number of a text that repeats."""


class CombinationCap:
    """How many combinations of dimensions of one customer, meter and period have rows of their own; the others are folded together.

    The first of a period, in the order of the log, keep theirs. Totals are exact either way.
    """

    def __init__(self, db: apsw.Connection, most: int = MOST_COMBINATIONS) -> None:
        self._db = db
        self._most = most
        self._seen: dict[tuple[int, int, int, int], dict[str, int]] = {}

    def fold(self, environment: int, customer: int, extra: Extra, number: Number) -> int:
        """The combination's number for its rows, or OTHER; 0 when the meter has no dimensions."""
        combination = extra.combination
        if combination is None:
            return 0
        where = (environment, customer, extra.meter, extra.start)
        seen = self._seen.get(where)
        if seen is None:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            days = (extra.start // 86400, (extra.end - 1) // 86400)
            rows: Any = self._db.execute(COMBINATIONS, (*days, *where, extra.end))
            seen = self._seen[where] = dict(rows)
        found = seen.get(combination)
        if found is None:
            if len(seen) >= self._most:
                return OTHER
            found = seen[combination] = number("d", combination)
        return found

    def forget(self) -> None:
        """The transaction failed."""
        self._seen.clear()


class Extras:
    """The extras of one transaction, merged."""

    def __init__(self, cap: CombinationCap, number: Number) -> None:
        self._cap = cap
        self._number = number
        self._dimensions: dict[tuple[int, ...], list[int]] = {}
        self._kept: dict[Aggregation, dict[tuple[int, ...], Rank]] = {aggregation: {} for aggregation in KEPT}
        self._seen: dict[tuple[Any, ...], int] = {}

    def add(self, environment: int, customer: int, subject: int, time: int, seq: int, extras: Iterable[Extra]) -> None:
        """Of one event; `subject` is that of its rollups."""
        for extra in extras:
            meter, cell, aggregation, units, nanos, value, combination, _, _ = extra
            number = self._cap.fold(environment, customer, extra, self._number)
            day = cell // 86400
            if combination is not None:
                where = (day, environment, customer, meter, number, subject, cell)
                total = self._dimensions.setdefault(where, [0, 0, 0])
                total[0] += 1
                if aggregation in SUMMED:
                    total[1] += units
                    total[2] += nanos
            key = (day, environment, customer, meter, cell, number, subject)
            if value is not None:
                self._seen[*key, value] = self._seen.get((*key, value), 0) + 1
            elif aggregation in self._kept:
                kept = self._kept[aggregation]
                this = rank(aggregation, units * NANOS + nanos, time, seq)
                if key not in kept or this > kept[key]:
                    kept[key] = this

    def write(self, executemany: Callable[[str, list[tuple[Any, ...]]], Any]) -> None:
        """In the order of the keys, so that each page is touched once."""
        if self._dimensions:
            executemany(
                UPSERT_DIMENSION,
                [(*key, e, u + n // NANOS, n % NANOS) for key, (e, u, n) in sorted(self._dimensions.items())],
            )
        for aggregation, kept in self._kept.items():
            if kept:
                executemany(
                    UPSERT_KEPT.format(stays=STAYS[aggregation]),
                    [(*key, *_split(aggregation, this)) for key, this in sorted(kept.items())],
                )
        if self._seen:
            executemany(UPSERT_SEEN, [(*key, events) for key, events in sorted(self._seen.items())])


def _split(aggregation: Aggregation, kept: Rank) -> tuple[int, int, int, int]:
    """units, nanos, time, seq."""
    billionths, time, seq = ranked(aggregation, kept)
    return (*divmod(billionths, NANOS), time, seq)
