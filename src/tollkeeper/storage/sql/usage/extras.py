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
from tollkeeper.storage.sql.usage.subjects import OTHER, REMEMBERED, own_since

MOST_COMBINATIONS: Final = 1_000

UPSERT_DIMENSION = """
INSERT INTO dimensions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET events = events + excluded.events, units = units + excluded.units, nanos = nanos + excluded.nanos
"""
UPSERT_KEPT = """
INSERT INTO kept VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
SET units = excluded.units, nanos = excluded.nanos, time = excluded.time, seq = excluded.seq WHERE {stays}
"""
# of equal values that of the first event in the log is kept, also where an amendment brings it later
STAYS: Final[dict[Aggregation, str]] = {
    "max": "(excluded.units, excluded.nanos, -excluded.seq) > (units, nanos, -seq)",
    "min": "(excluded.units, excluded.nanos, excluded.seq) < (units, nanos, seq)",
    "latest": "(excluded.time, excluded.seq) > (time, seq)",
}
UPSERT_SEEN = """
INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events
"""
INSERT_COMBINATION = "INSERT INTO own_combinations VALUES (?, ?, ?, ?, ?)"
COMBINATIONS = """
SELECT n.name, o.combination FROM own_combinations o LEFT JOIN names n ON n.number = o.combination
WHERE o.environment = ? AND o.customer = ? AND o.meter = ? AND o.start = ?
"""
ADOPT = """
WITH RECURSIVE days(day) AS (SELECT :start / 86400 UNION ALL SELECT day + 1 FROM days WHERE day < (:end - 1) / 86400)
INSERT INTO own_combinations
SELECT DISTINCT d.environment, d.customer, d.meter, :start, d.combination FROM days CROSS JOIN dimensions d
  ON d.day = days.day AND d.environment = :environment AND d.customer = :customer AND d.meter = :meter
WHERE d.cell >= :start AND d.cell < :end
"""

Number = Callable[[str, str], int]
"""(kind, name) → the number of a text that repeats."""


class CombinationCap:
    """How many combinations of dimensions of one customer, meter and period have rows of their own; the others are folded together.

    The first of a period, in the order of the log, have theirs, by the rule that holds for subjects (`SubjectCap`). Totals are exact either
    way.
    """

    def __init__(self, db: apsw.Connection, most: int = MOST_COMBINATIONS) -> None:
        self._db = db
        self._most = most
        self._own: dict[tuple[int, int, int, int], dict[str | None, int]] = {}  # None: OTHER, once one was refused

    def fold(self, environment: int, customer: int, extra: Extra, number: Number) -> int:
        """The combination's number for its rows, or OTHER; 0 when the meter has no dimensions. It has rows of its own from now on."""
        combination = extra.combination
        if combination is None:
            return 0
        where = (environment, customer, extra.meter, extra.start)
        own = self._own.get(where)
        if own is None:
            own = self._read(where, extra.end)
        found = own.get(combination)
        if found is not None:
            return found
        if None in own:
            return OTHER
        room = len(own) < self._most
        found = number("d", combination) if room else OTHER
        self._db.execute(INSERT_COMBINATION, (*where, found))
        own[combination if room else None] = found
        return found

    def place(self, environment: int, customer: int, meter: int, start: int, end: int, combination: str) -> int | None:
        """Where the rows of a combination are in the period [start, end): its number, or OTHER. None: that period has none of it."""
        where = (environment, customer, meter, start)
        own = self._own.get(where)
        if own is None:
            own = self._read(where, end)
        return own.get(combination, own.get(None))

    def _read(self, where: tuple[int, int, int, int], end: int) -> dict[str | None, int]:
        if len(self._own) >= REMEMBERED:
            self._own.clear()
        own: dict[str | None, int] = dict(self._db.execute(COMBINATIONS, where))
        environment, customer, meter, start = where
        if not own and start // 86400 < own_since(self._db):
            span = {"start": start, "end": end, "environment": environment, "customer": customer, "meter": meter}
            self._db.execute(ADOPT, span)
            own = dict(self._db.execute(COMBINATIONS, where))
        self._own[where] = own
        return own

    def forget(self) -> None:
        """The transaction failed."""
        self._own.clear()


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
