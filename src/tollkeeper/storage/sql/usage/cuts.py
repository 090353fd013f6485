"""Cells divided at instants that were learned after usage had been folded: the bounds of billing periods.

A cut is kept, and from then on no row of that customer holds usage from both sides of it: the quarter of an hour is folded again from the
log when the cut is made, and what comes later is put on its side by the log (`UsageLog._append`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tollkeeper.core.aggregation import Rank, ranked
from tollkeeper.core.events import CHECK_SOURCE, VOID
from tollkeeper.core.metering import CELL_SECONDS, NANOS
from tollkeeper.core.refold import MeterHistory, Refold, Row
from tollkeeper.core.refold_extras import OTHER_COMBINATION, Rows
from tollkeeper.storage.sql.usage.corrected import EFFECTIVE, CorrectionReader
from tollkeeper.storage.sql.usage.log import UsageLog
from tollkeeper.storage.sql.usage.read import FIRST_CORRECTION, UsageReader
from tollkeeper.storage.sql.usage.subjects import OTHER
from tollkeeper.storage.sql.usage.touched import meter_spans
from tollkeeper.storage.sql.usage.writer import UsageWriter

SECOND_US: Final = 1_000_000
NEAR_US: Final = 600 * SECOND_US
"""How long before their time events may arrive: five minutes, and as much again for clocks."""
FAR_US: Final = 86_400 * SECOND_US
"""The same after a clock was set back."""
TABLES: Final = ("rollups", "dimensions", "kept", "seen")
EVENTS: Final = f"""{EFFECTIVE}
AND e.seq > ? AND e.customer = ? AND e.time >= ? AND e.time < ? AND e.flags & 1 = ? ORDER BY e.seq
"""
BEGAN: Final = """
SELECT max(start) FROM own_combinations WHERE environment = ? AND customer = ? AND meter = ? AND start <= ?
"""
QUARTER: Final = "day = ? AND environment = ? AND customer = ? AND cell >= ? AND cell < ?"


class Cuts:
    """Makes cuts; safe in any thread."""

    def __init__(self, reader: UsageReader, writer: UsageWriter) -> None:
        self._reader = reader
        self._writer = writer

    def cut(self, environment: str, customer: str, instant: int) -> bool:
        """Divide the cell of `instant` (µs, a whole second) there. False: single events of that time are no longer kept, so it cannot be.

        Returns at once where a quarter of an hour begins, and where it was cut before.
        """
        at = -(-instant // SECOND_US)
        flag = int(environment == "test")
        if at % CELL_SECONDS == 0 or self._reader.is_cut(flag, customer, at):
            return True
        for early in (NEAR_US, NEAR_US, FAR_US):
            rows, scanned = self._events(flag, customer, at - at % CELL_SECONDS, early)
            if self._writer.call(lambda log: _cut(log, flag, customer, at, rows, scanned)):  # noqa: B023 - called at once
                return True
        return False

    def _events(self, environment: int, customer: str, quarter: int, early: int) -> tuple[list[Row], int]:
        """The events of a customer's quarter of an hour, and up to which sequence the log was read. Off the writer's thread."""
        corrections = CorrectionReader(self._reader)
        last = corrections.last_seq()
        number = corrections.number("c", customer)
        if number is None:
            return [], last
        start = quarter * SECOND_US
        after = corrections.first_arrived(start - early) - 1
        end = start + CELL_SECONDS * SECOND_US
        return _live(corrections.scan(environment, after, last, start, end, number, None)), last


def _live(events: Iterable[Sequence[Any]]) -> list[Row]:
    """Without what was voided."""
    rows: Any = [tuple(event[:10]) for event in events if event[10] != VOID]
    return list(rows)


def _cut(log: UsageLog, environment: int, customer: str, at: int, rows: Sequence[Row], scanned: int) -> bool:
    """On the writer's thread: all of it or nothing. False when the events are not all that was folded."""
    with log.transaction():
        number = log._number("c", customer)
        quarter = at - at % CELL_SECONDS
        if log._one("SELECT 1 FROM events WHERE seq > ? AND flags >= ? LIMIT 1", (scanned, FIRST_CORRECTION)):
            return False  # something was corrected while the log was read
        start = quarter * SECOND_US
        span = (scanned, number, start, start + CELL_SECONDS * SECOND_US, environment)
        events = [*rows, *_live(log.db.execute(EVENTS, span).fetchall())]
        done = _Division(log, environment, number, quarter, at).run(events)
        if done:
            log.db.execute("INSERT INTO cuts VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (environment, number, at))
    if done:
        log.cut_made(quarter)
    return done


class _Division:
    """One customer's quarter of an hour folded again, cut at `at` as well as wherever it was cut already."""

    def __init__(self, log: UsageLog, environment: int, customer: int, quarter: int, at: int) -> None:
        self._log = log
        self._db = log.db
        self._span = (quarter // 86400, environment, customer, quarter, quarter + CELL_SECONDS)
        self._stored = {table: self._rows(table) for table in TABLES}
        cell = {"rollups": 5, "dimensions": 6, "kept": 4, "seen": 4}
        known = {row[cell[table]] for table, found in self._stored.items() for row in found}
        cuts = self._db.execute(
            "SELECT at FROM cuts WHERE environment = ? AND customer = ? AND at >= ? AND at < ?",
            (environment, customer, quarter, quarter + CELL_SECONDS),
        )
        self._bounds = sorted({quarter, at, *known, *(row[0] for row in cuts)})

    def run(self, events: Sequence[Row]) -> bool:
        if not any(self._stored.values()):
            return True
        taken = self._refold(events)
        if not self._same(taken):
            return False
        for table in TABLES:
            self._db.execute(f"DELETE FROM {table} WHERE {QUARTER}", self._span)  # noqa: S608 - constants only
        self._write(taken)
        return True

    def _rows(self, table: str) -> list[tuple[Any, ...]]:
        found: Any = self._db.execute(f"SELECT * FROM {table} WHERE {QUARTER}", self._span)  # noqa: S608 - constants only
        return list(found)

    def _refold(self, events: Sequence[Row]) -> dict[str, Rows]:
        spans = meter_spans(self._db)
        combinations = {row[4] for row in self._stored["dimensions"]}
        refold = Refold(MeterHistory(spans), self._type_name, self._bounds_at, _Rows(self._log, combinations))
        refold.add(events)
        return refold.take()

    def _bounds_at(self, _environment: int, _customer: int, at: int) -> tuple[int, int]:
        second = at // SECOND_US
        place = bisect_right(self._bounds, second)
        end = self._bounds[place] if place < len(self._bounds) else self._bounds[0] + CELL_SECONDS
        return self._bounds[place - 1] * SECOND_US, end * SECOND_US

    def _type_name(self, number: int) -> str:
        return str(self._db.execute("SELECT name FROM names WHERE number = ?", (number,)).get)

    def _same(self, taken: dict[str, Rows]) -> bool:
        """Whether the events come to what is stored of each meter: retention may have removed some."""
        stored: dict[int, list[int]] = {}
        for _, _, _, meter, _, _, events, units, nanos in self._stored["rollups"]:
            total = stored.setdefault(meter, [0, 0])
            total[0] += events
            total[1] += units * NANOS + nanos
        refolded: dict[int, list[int]] = {}
        for key, (events, billionths) in taken["rollups"]:
            total = refolded.setdefault(key[3], [0, 0])
            total[0] += events
            total[1] += billionths
        return stored == refolded

    def _write(self, taken: dict[str, Rows]) -> None:
        aggregations = {number: meter.aggregation for number, meter, _, _ in meter_spans(self._db)}

        def number(text: str) -> int:
            if not text:
                return 0
            return OTHER if text == OTHER_COMBINATION else self._log._number("d", text)

        rollups = [(*key, e, *divmod(b, NANOS)) for key, (e, b) in taken["rollups"]]
        dimensions: dict[tuple[int, ...], list[int]] = {}
        for (day, env, customer, meter, text, subject, cell), (events, billionths) in taken["dimensions"]:
            total = dimensions.setdefault((day, env, customer, meter, number(text), subject, cell), [0, 0])
            total[0] += events
            total[1] += billionths
        kept: dict[tuple[int, ...], Rank] = {}
        for (day, env, customer, meter, cell, text, subject), value in taken["kept"]:
            where = (day, env, customer, meter, cell, number(text), subject)
            this = (value[0], value[1], value[2])
            kept[where] = max(this, kept.get(where, this))
        seen: dict[tuple[Any, ...], int] = {}
        for (day, env, customer, meter, cell, text, subject, value), (events,) in taken["seen"]:
            place = (day, env, customer, meter, cell, number(text), subject, value)
            seen[place] = seen.get(place, 0) + events
        self._put("rollups", 9, rollups)
        self._put("dimensions", 10, ((*key, e, *divmod(b, NANOS)) for key, (e, b) in dimensions.items()))
        self._put("kept", 11, ((*key, *_split(ranked(aggregations[key[3]], value))) for key, value in kept.items()))
        self._put("seen", 9, ((*key, events) for key, events in seen.items()))

    def _put(self, table: str, columns: int, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * columns)
        self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", sorted(rows))  # noqa: S608 - constants only


class _Rows:
    """What has rows of its own, as the writer knows it (an `Own` of refolding). `combinations` have rows in this quarter of an hour."""

    def __init__(self, log: UsageLog, combinations: set[int]) -> None:
        self._log = log
        self.check_source: int | None = log._one(
            "SELECT number FROM names WHERE kind = 's' AND name = ?", (CHECK_SOURCE,)
        )
        self._combinations = combinations

    def subject(self, day: int, environment: int, customer: int, subject: int) -> bool:
        return self._log._subjects.place(day, environment, customer, subject) == subject

    def combination(self, start: int, environment: int, customer: int, meter: int, text: str) -> bool:
        """`start` is that of a cell: its period is the last one that began before, since cells are cut there."""
        whose = (environment, customer, meter)
        began = self._log._one(BEGAN, (*whose, start))
        if began is not None:
            return self._log._combinations.place(*whose, began, start + 1, text) != OTHER
        number = self._log._one("SELECT number FROM names WHERE kind = 'd' AND name = ?", (text,))
        return OTHER not in self._combinations or number in self._combinations  # from before it was kept


def _split(value: Rank) -> tuple[int, int, int, int]:
    """units, nanos, time, seq."""
    billionths, time, seq = value
    return (*divmod(billionths, NANOS), time, seq)
