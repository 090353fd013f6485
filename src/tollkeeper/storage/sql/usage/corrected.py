"""Corrections read: the trail, the events that may be corrected, and what a piece of the log touched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import apsw

from tollkeeper.core.corrections import Correction, PeriodChange, Selection, Stored
from tollkeeper.core.events import AMEND, GATE
from tollkeeper.core.metering import CELL_SECONDS, Meter
from tollkeeper.storage.sql.usage.read import DAYS, FIRST_CORRECTION, UsageReader
from tollkeeper.storage.sql.usage.touched import meter_spans

PIECE: Final = 50_000
CLOCK_SET_BACK_US: Final = 86_400_000_000
"""By how much a clock may have been set back for events to be found by the order in which they arrived."""

EFFECTIVE = f"""
SELECT e.seq, e.time, e.flags, e.source, e.type, e.subject, e.customer, e.epoch, e.quantity,
    iif(x.flags >> 1 = {AMEND}, x.data, e.data), coalesce(x.flags >> 1, 0)
FROM events e LEFT JOIN events x ON x.seq = (SELECT max(seq) FROM corrected WHERE event = e.seq)
WHERE e.flags < {FIRST_CORRECTION}
"""  # noqa: S608 - constants only
COLUMNS = """number, id, environment, action, selection, data, reason, author, made_at, upto, position, events, skipped,
applied_at, changes"""
VALUES = f"""{DAYS}
SELECT r.value, sum(r.events) FROM days CROSS JOIN seen r
  ON r.day = days.day AND r.environment = :environment AND r.customer = :customer AND r.meter = :meter
WHERE r.cell >= :start AND r.cell < :end AND r.value IN (SELECT value FROM json_each(:values)) GROUP BY r.value
"""  # noqa: S608 - constants only


class CorrectionReader:
    """What correcting reads, by the connections of `reader`: all on the last committed state."""

    def __init__(self, reader: UsageReader) -> None:
        self._reader = reader
        self._names: dict[int, str] = {}

    def _db(self) -> apsw.Connection:
        return self._reader._db()

    # names

    def number(self, kind: str, name: str) -> int | None:
        """Of a source (s), type (t), subject (u) or customer (c); None when no event has it."""
        return self._reader._number(self._db(), kind, name)

    def name(self, number: int) -> str:
        found = self._names.get(number)
        if found is None:
            if len(self._names) >= 100_000:
                self._names.clear()
            found = self._names[number] = str(
                self._db().execute("SELECT name FROM names WHERE number = ?", (number,)).get
            )
        return found

    def meter_spans(self) -> list[tuple[int, Meter, int, int | None]]:
        """(number, meter, from_epoch, until_epoch)."""
        return meter_spans(self._db())

    # the trail

    def correction(self, id: str) -> Correction | None:
        return next(self._corrections("WHERE id = ?", (id,)), None)

    def open(self) -> Correction | None:
        """The oldest that has not come to its end."""
        return next(self._corrections("WHERE applied_at IS NULL ORDER BY number LIMIT 1", ()), None)

    def corrections(self, environment: str, before: int | None, limit: int) -> list[Correction]:
        """The newest first, those whose number is below `before`."""
        which = "WHERE environment = ? AND number < ? ORDER BY number DESC LIMIT ?"
        return list(self._corrections(which, (int(environment == "test"), before or 1 << 62, limit)))

    def _corrections(self, which: str, arguments: tuple[Any, ...]) -> Iterator[Correction]:
        for row in self._db().execute(f"SELECT {COLUMNS} FROM corrections {which}", arguments).fetchall():  # noqa: S608
            yield _correction(row)

    def correction_of(self, seq: int) -> str | None:
        """The id of the last correction of an event."""
        sql = (
            "SELECT id FROM corrected JOIN corrections ON number = correction WHERE event = ? ORDER BY seq DESC LIMIT 1"
        )
        id = self._db().execute(sql, (seq,)).get
        return None if id is None else str(id)

    # events

    def info(self) -> dict[str, str]:
        return self._reader.info()

    def last_seq(self) -> int:
        return self._reader.last_seq()

    def event(self, seq: int) -> Stored | None:
        """With what counts of it now; None when the log does not have it any more."""
        row: Any = self._db().execute(f"{EFFECTIVE} AND e.seq = ?", (seq,)).fetchone()
        return Stored(*row) if row else None

    def gate_event(self, environment: int, id: bytes, time: int) -> int | None:
        """The sequence of an event that the gate made, by its id and its time, which is that of its admission; None if there is none."""
        db = self._db()
        sql = "SELECT seq FROM events WHERE seq > ? AND seq <= ? AND time = ? AND flags = ? AND id = ?"
        near = self.first_arrived(time - 1_000_000) - 1
        far = self.first_arrived(time - CLOCK_SET_BACK_US) - 1
        for after, upto in ((near, near + PIECE), (far, near), (near + PIECE, self.last_seq())):
            found = db.execute(sql, (after, upto, time, GATE << 1 | environment, id)).get
            if found is not None:
                return int(found)
        return None

    def first_arrived(self, instant: int) -> int:
        """The sequence from which on events arrived at `instant` or later, found by halving the log."""
        db = self._db()
        low = int(db.execute("SELECT coalesce(min(seq), 1) FROM events").get or 1)
        high = self.last_seq() + 1
        while low < high:
            middle = (low + high) // 2
            row: Any = db.execute(
                "SELECT seq, time + delay * 1000 FROM events WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)
            ).fetchone()
            if row is None or row[1] >= instant:
                high = middle
            else:
                low = row[0] + 1
        return low

    def scan(
        self, environment: int, after: int, upto: int, start: int, end: int, customer: int | None, type: int | None
    ) -> Iterator[Stored]:
        """Events of the log in (after, upto] whose time is in [start, end), as they count now; read in pieces."""
        narrower = f"{' AND e.customer = :customer' if customer else ''}{' AND e.type = :type' if type else ''}"
        sql = f"""{EFFECTIVE} AND e.seq > :after AND e.seq <= :upto AND e.time >= :start AND e.time < :end
            AND e.flags & 1 = :environment{narrower} ORDER BY e.seq"""
        values = {"start": start, "end": end, "environment": environment, "customer": customer, "type": type}
        while after < upto:
            until = min(after + PIECE, upto)
            rows: Any = self._db().execute(sql, {**values, "after": after, "upto": until}).fetchall()
            for row in rows:
                yield Stored(*row)
            after = until

    def holds(self, event: Stored, meters: Sequence[int]) -> bool:
        """Whether a value that stays, of one of these meters, is this event's."""
        day, second = event.quarter // 86400, event.quarter
        for meter in meters:
            found = self._db().execute(
                """SELECT 1 FROM kept WHERE day = ? AND environment = ? AND customer = ? AND meter = ? AND cell >= ? AND cell < ?
                   AND seq = ?""",
                (day, event.flags & 1, event.customer, meter, second, second + CELL_SECONDS, event.seq),
            )
            if found.get is not None:
                return True
        return False

    def value_events(
        self, environment: int, customer: int, meters: Sequence[int], start_s: int, end_s: int, values: Sequence[str]
    ) -> dict[str, int]:
        """How many events of a unique meter had each of these values in [start_s, end_s)."""
        found: dict[str, int] = {}
        for meter in meters:
            asked = {
                "first": start_s // 86400,
                "last": max(end_s - 1, start_s) // 86400,
                "environment": environment,
                "customer": customer,
                "meter": meter,
                "start": start_s,
                "end": end_s,
                "values": json.dumps(values),
            }
            rows: Any = self._db().execute(VALUES, asked)
            for value, events in rows:
                found[value] = found.get(value, 0) + events
        return found


def _correction(row: Any) -> Correction:
    (
        number,
        id,
        environment,
        action,
        selection,
        data,
        reason,
        author,
        made_at,
        upto,
        position,
        events,
        skipped,
        at,
        changes,
    ) = row
    return Correction(
        id=id,
        action=action,
        environment="test" if environment else "live",
        selection=Selection(**json.loads(selection)),
        data=data,
        reason=reason,
        author=author,
        made_at=made_at,
        upto=upto,
        position=position,
        events=events,
        skipped=skipped,
        applied_at=at,
        changes=tuple(PeriodChange(*one) for one in json.loads(changes)),
        number=number,
    )
