"""Corrections written: a bounded batch is one transaction, with how far the whole is. Used by the writer thread alone.

What adds up (rollups, dimensions, values seen) is taken from the rows it was folded into. A value that stays (max, min, latest) cannot be
taken away: where the event that holds one is corrected, the meter's quarter of an hour is folded again from its events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final

from tollkeeper.core.aggregation import KEPT, Rank, rank, ranked
from tollkeeper.core.corrections import Applied, Batch, Change, Correction, Delta, Neighbour, Part, Place, Stored
from tollkeeper.core.errors import StorageMismatch
from tollkeeper.core.events import AMEND, CHECK_SOURCE, GATE, VOID, Extra
from tollkeeper.core.metering import CELL_SECONDS, NANOS, SUMMED, Aggregation
from tollkeeper.storage.sql.usage.extras import STAYS, UPSERT_DIMENSION, UPSERT_KEPT, UPSERT_SEEN
from tollkeeper.storage.sql.usage.log import DAY_US, INSERT_EVENT, UPSERT_ROLLUP, UsageLog

OTHER: Final = -1
INSERT_CORRECTION = "INSERT INTO corrections VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, NULL, ?)"
PROGRESS = """
UPDATE corrections SET position = ?, events = events + ?, skipped = skipped + ?, applied_at = ? WHERE number = ?
"""
EMPTY = f"events = 0 AND units + nanos / {NANOS} = 0 AND nanos % {NANOS} = 0"
FIND_ROLLUP = """
SELECT cell, subject FROM rollups WHERE day = ? AND environment = ? AND customer = ? AND meter = ? AND subject IN (?, ?)
AND cell >= ? AND cell <= ?
"""
FIND_SEEN = """
SELECT cell, combination, subject FROM seen WHERE day = ? AND environment = ? AND customer = ? AND meter = ? AND cell >= ? AND cell <= ?
AND combination IN (?, ?, ?) AND subject IN (?, ?) AND value = ?
"""
DIMENSION = (
    "day = ? AND environment = ? AND customer = ? AND meter = ? AND combination = ? AND subject = ? AND cell = ?"
)
LATER = f"""
SELECT seq, time, flags, source, type, subject, customer, epoch, quantity, data, 0 FROM events
WHERE seq > ? AND time >= ? AND time < ? AND flags & 1 = ? AND flags < {VOID << 1} AND customer = ?
"""  # noqa: S608 - constants only
CELLS = "day = ? AND environment = ? AND customer = ? AND meter = ? AND cell >= ? AND cell < ?"
UPSERT_UNMATCHED = """
INSERT INTO unmatched VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
SET events = events + excluded.events, last_seq = max(last_seq, excluded.last_seq)
"""


def apply(log: UsageLog, batch: Batch) -> Applied:
    """All of a batch or nothing of it. Raises apsw errors as they come."""
    with log.transaction():
        applied = _Work(log, batch, log._now_us()).run()
    log.corrected(applied.last_seq)
    return applied


class _Work:
    """One transaction."""

    def __init__(self, log: UsageLog, batch: Batch, now_us: int) -> None:
        self._log = log
        self._execute = log._execute
        self._batch = batch
        self._now = now_us
        self._environment = int(batch.correction.environment == "test")
        self._check_source = self._one("SELECT number FROM names WHERE kind = 's' AND name = ?", (CHECK_SOURCE,))
        self._refold: dict[tuple[int, int, int], Aggregation] = {}  # (customer, meter, quarter)
        self._changed: dict[int, Change] = {}
        self._applied = Applied(batch.correction.number, log.last_seq)

    def run(self) -> Applied:
        batch, applied = self._batch, self._applied
        if applied.number == 0:
            applied.number = self._begin(batch.correction)
        amends = batch.correction.action == "amend"
        compacted = self._one("SELECT value FROM info WHERE key = 'compacted_until'")
        for change in batch.changes:
            event = change.event
            too_old = compacted is not None and event.quarter * 1_000_000 <= int(compacted)
            if too_old or self._one("SELECT 1 FROM events WHERE seq = ?", (event.seq,)) is None:
                applied.gone += 1
                continue
            applied.last_seq += 1
            self._append(event, applied.last_seq, AMEND if amends else VOID)
            self._change(change)
            applied.events += 1
        for (customer, meter, quarter), aggregation in self._refold.items():
            self._refold_kept(customer, meter, quarter, aggregation)
        self._execute(
            PROGRESS,
            (
                batch.position,
                applied.events,
                batch.skipped + applied.gone,
                self._now if batch.done else None,
                applied.number,
            ),
        )
        return applied

    def _one(self, sql: str, arguments: tuple[Any, ...] = ()) -> Any:
        row = self._execute(sql, arguments).fetchone()
        return row[0] if row else None

    def _begin(self, correction: Correction) -> int:
        self._execute(
            INSERT_CORRECTION,
            (
                correction.id,
                self._environment,
                correction.action,
                json.dumps(asdict(correction.selection)),
                correction.data,
                correction.reason,
                correction.author,
                correction.made_at,
                correction.upto,
                json.dumps(correction.changes),
            ),
        )
        return int(self._log.db.last_insert_rowid())

    def _append(self, event: Stored, seq: int, kind: int) -> None:
        """A row of the log that has the event's time, type and customer, and says when it was corrected."""
        delay = (self._now - event.time) // 1000
        flags = kind << 1 | self._environment
        whose = (event.source, event.type, event.subject, event.customer, event.epoch, event.quantity)
        self._execute(INSERT_EVENT, (seq, event.time, delay, flags, *whose, event.seq, self._batch.correction.data))
        self._execute("INSERT INTO corrected VALUES (?, ?, ?)", (event.seq, seq, self._applied.number))

    # one event

    def _change(self, change: Change) -> None:
        event = change.event
        self._changed[event.seq] = change
        where: tuple[int, int] | None = None
        for part in change.old:
            where = self._take(event, change.place, part)
        for part in change.new:
            self._give(event, change.place, part, where)
        if self._batch.correction.action == "void":
            if not change.old:
                self._unmatched(event, -1)
        elif not change.new:
            self._unmatched(event, 1 if change.old else 0)
        elif not change.old:
            self._unmatched(event, -1)

    def _take(self, event: Stored, place: Place, part: Part) -> tuple[int, int]:
        """Out of every row it was folded into; gives the cell and the subject of these."""
        cell, subject = self._rollup_of(event, place, part.meter)
        self._add(event, part, cell, subject, -1)
        number = self._combination_of(event, place, part, cell, subject)
        key = (cell // 86400, self._environment, event.customer, part.meter)
        if part.combination is not None:
            self._add_dimension(event, part, number, cell, subject, -1)
        if part.value is not None:
            self._unsee(event, part, cell, number, subject)
        elif part.aggregation in KEPT:
            quarter = (event.customer, part.meter, event.quarter)
            held = f"SELECT 1 FROM kept WHERE {CELLS} AND seq = ?"  # noqa: S608 - constants only
            until = event.quarter + CELL_SECONDS
            if quarter not in self._refold and self._one(held, (*key, event.quarter, until, event.seq)):
                self._refold[quarter] = part.aggregation
        return cell, subject

    def _give(self, event: Stored, place: Place, part: Part, where: tuple[int, int] | None) -> None:
        """Into the rows beside those it was taken from; where no meter counted it, into those a new event would get."""
        if where is None:
            cell, subject = self._cell(event, place), event.subject
            if not self._own_subject(event):
                subject = self._log._subjects.fold(cell // 86400, self._environment, event.customer, subject)
        else:
            cell, subject = where
        self._add(event, part, cell, subject, 1)
        number = 0
        if part.combination is not None:
            extra = Extra(part.meter, cell, part.aggregation, 0, 0, None, part.combination, place.start, place.end)
            number = self._log._combinations.fold(self._environment, event.customer, extra, self._log._number)
            self._add_dimension(event, part, number, cell, subject, 1)
        key = (cell // 86400, self._environment, event.customer, part.meter, cell, number, subject)
        if part.value is not None:
            self._execute(UPSERT_SEEN, (*key, part.value, 1))
        elif part.aggregation in KEPT and (event.customer, part.meter, event.quarter) not in self._refold:
            sql = UPSERT_KEPT.format(stays=STAYS[part.aggregation])
            self._execute(sql, (*key, part.units, part.nanos, event.time, event.seq))

    def _cell(self, event: Stored, place: Place) -> int:
        """The start of the cell that the event is in: of its calendar, or of a cut within it."""
        return max(place.cell, self._log.cut_of(self._environment, event.customer, event.time // 1_000_000))

    def _own_subject(self, event: Stored) -> bool:
        """Whether its rollups always bear its own subject, however many there are."""
        return event.subject == 0 or event.flags >> 1 == GATE or event.source == self._check_source

    def _rollup_of(self, event: Stored, place: Place, meter: int) -> tuple[int, int]:
        """The cell and the subject of the rollup that has the event.

        A customer's calendar may have been another one when it was folded: then it is in the one row there is. Were there two (both
        calendars cut this quarter of an hour), it is taken from the one of today's calendar; then another event may be left in a later cell
        than its own.
        """
        preferred = self._cell(event, place)
        day, second = event.quarter // 86400, event.time // 1_000_000
        key = (day, self._environment, event.customer, meter)
        subjects = (event.subject, OTHER)
        own = event.subject
        if self._own_subject(event):
            subjects = (own, own)
        else:
            own = self._log._subjects.place(day, self._environment, event.customer, own)
        rows: Any = self._execute(
            FIND_ROLLUP, (*key, *subjects, event.quarter, event.quarter + CELL_SECONDS - 1)
        ).fetchall()
        if not rows:
            raise StorageMismatch(
                f"Event {event.seq} of the usage log is in no rollup; nothing was corrected. Run `tollkeeper verify`."
            )
        cell, subject = min(rows, key=lambda row: (row[1] != own, row[0] > second, row[0] != preferred, -row[0]))
        return cell, subject

    def _combination_of(self, event: Stored, place: Place, part: Part, cell: int, subject: int) -> int:
        """The number under which the event's combination was folded there; 0 without one."""
        if part.combination is None:
            return 0
        whose = (self._environment, event.customer, part.meter)
        found = self._log._combinations.place(*whose, place.start, place.end, part.combination)
        if found is None or not self._has(whose, found, subject, cell):  # its calendar was another one
            named = self._one("SELECT number FROM names WHERE kind = 'd' AND name = ?", (part.combination,))
            there = [
                number for number in (named, OTHER) if number is not None and self._has(whose, number, subject, cell)
            ]
            found = next((number for number in (*there, found, named) if number is not None), OTHER)
        return int(found)

    def _has(self, whose: tuple[int, int, int], combination: int, subject: int, cell: int) -> bool:
        key = (cell // 86400, *whose, combination, subject, cell)
        return self._one(f"SELECT 1 FROM dimensions WHERE {DIMENSION}", key) is not None  # noqa: S608 - constants only

    def _add(self, event: Stored, part: Part, cell: int, subject: int, sign: int) -> None:
        key = (cell // 86400, self._environment, event.customer, part.meter, subject, cell)
        billionths = sign * _summed(part)
        self._execute(UPSERT_ROLLUP, (*key, sign, *divmod(billionths, NANOS)))
        self._applied.deltas.append(Delta(event.customer, part.meter, cell, billionths))
        if sign < 0:
            where = "day = ? AND environment = ? AND customer = ? AND meter = ? AND subject = ? AND cell = ?"
            self._execute(f"DELETE FROM rollups WHERE {where} AND {EMPTY}", key)  # noqa: S608 - constants only

    def _add_dimension(self, event: Stored, part: Part, number: int, cell: int, subject: int, sign: int) -> None:
        key = (cell // 86400, self._environment, event.customer, part.meter, number, subject, cell)
        self._execute(UPSERT_DIMENSION, (*key, sign, *divmod(sign * _summed(part), NANOS)))
        if sign < 0:
            self._execute(f"DELETE FROM dimensions WHERE {DIMENSION} AND {EMPTY}", key)  # noqa: S608 - constants only

    def _unsee(self, event: Stored, part: Part, cell: int, number: int, subject: int) -> None:
        """One event less had its value. Where the calendar was another one it may stand in another cell than the rollup, or beside it."""
        whose = (event.quarter // 86400, self._environment, event.customer, part.meter)
        named = self._one("SELECT number FROM names WHERE kind = 'd' AND name = ?", (part.combination,))
        subjects = (subject, subject) if self._own_subject(event) else (event.subject, OTHER)
        span = (event.quarter, event.quarter + CELL_SECONDS - 1)
        rows = self._execute(FIND_SEEN, (*whose, *span, number, named, OTHER, *subjects, part.value)).fetchall()
        if not rows:
            raise StorageMismatch(
                "A value of the usage log is not among those seen; nothing was corrected. Run `tollkeeper verify`."
            )
        found = min(rows, key=lambda row: (row[0] != cell, row[2] != subject, row[1] != number, row[1] == OTHER, row))
        where = "day = ? AND environment = ? AND customer = ? AND meter = ? AND cell = ?"
        whole = f"{where} AND combination = ? AND subject = ? AND value = ?"
        key = (*whose, *found, part.value)
        self._execute(f"UPDATE seen SET events = events - 1 WHERE {whole}", key)  # noqa: S608 - constants only
        self._execute(f"DELETE FROM seen WHERE {whole} AND events = 0", key)  # noqa: S608 - constants only

    def _unmatched(self, event: Stored, sign: int) -> None:
        key = (event.time // DAY_US, self._environment, event.type, event.source)
        self._execute(UPSERT_UNMATCHED, (*key, sign, event.seq if sign < 0 else self._applied.last_seq))

    # values that stay

    def _refold_kept(self, customer: int, meter: int, quarter: int, aggregation: Aggregation) -> None:
        key = (quarter // 86400, self._environment, customer, meter)
        kept: dict[tuple[int, int, int], Rank] = {}
        find: dict[tuple[int, bool, str | None, int], tuple[int, int, int]] = {}
        for event, place, part in self._live(customer, quarter, meter):
            at = self._cell(event, place)
            known = (event.subject, self._own_subject(event), part.combination, at)
            where = find.get(known)
            if where is None:
                cell, subject = self._rollup_of(event, place, meter)
                where = (cell, self._combination_of(event, place, part, cell, subject), subject)
                if cell == at:
                    find[known] = where
            this = rank(aggregation, part.units * NANOS + part.nanos, event.time, event.seq)
            kept[where] = max(this, kept.get(where, this))
        self._execute(f"DELETE FROM kept WHERE {CELLS}", (*key, quarter, quarter + CELL_SECONDS))  # noqa: S608
        sql = UPSERT_KEPT.format(stays=STAYS[aggregation])
        for (cell, combination, subject), stays in sorted(kept.items()):
            billionths, time, seq = ranked(aggregation, stays)
            self._execute(sql, (*key, cell, combination, subject, *divmod(billionths, NANOS), time, seq))

    def _live(self, customer: int, quarter: int, meter: int) -> Iterator[tuple[Stored, Place, Part]]:
        """The events of a quarter of an hour that the meter counts once this batch is through."""
        batch = self._batch
        neighbours, fold = batch.neighbours, batch.fold
        assert neighbours is not None  # whoever holds a value was asked for before
        assert fold is not None
        for event, place, parts in self._with_later(neighbours.get((customer, quarter), ()), customer, quarter, fold):
            change = self._changed.get(event.seq)
            for part in parts if change is None else change.new:
                if part.meter == meter:
                    yield event, place, part

    def _with_later(
        self, neighbours: Any, customer: int, quarter: int, fold: Callable[[Stored], Neighbour]
    ) -> Iterator[Neighbour]:
        yield from neighbours
        start = quarter * 1_000_000
        span = (self._batch.scanned, start, start + CELL_SECONDS * 1_000_000, self._environment, customer)
        rows: Any = self._execute(LATER, span).fetchall()
        for row in rows:
            yield fold(Stored(*row))


def _summed(part: Part) -> int:
    return part.units * NANOS + part.nanos if part.aggregation in SUMMED else 0
