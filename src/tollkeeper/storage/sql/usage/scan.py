"""What refolding reads of the usage file, and the scratch file it works in. Reads only; any process may, while another writes.

No read lasts long: the rollups are copied to the scratch file in one snapshot, and the log, which only grows at its end and shrinks at
its beginning, is read in pieces. So the write-ahead log of a busy server can be taken up meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

from tollkeeper.core.aggregation import Rank, rank
from tollkeeper.core.events import AMEND, CHECK_SOURCE
from tollkeeper.core.metering import NANOS, Meter
from tollkeeper.core.refold import OTHER_SUBJECT, Row, Uncertain
from tollkeeper.core.refold_extras import OTHER_COMBINATION, Rows, Value
from tollkeeper.storage.sql.usage.connection import connect
from tollkeeper.storage.sql.usage.read import FIRST_CORRECTION
from tollkeeper.storage.sql.usage.subjects import own_since
from tollkeeper.storage.sql.usage.touched import meter_spans

SCRATCH = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768;
"""
KEYS = {
    "rollups": "day, environment, customer, meter, subject, cell",
    "dimensions": "day, environment, customer, meter, combination, subject, cell",
    "kept": "day, environment, customer, meter, cell, combination, subject",
    "seen": "day, environment, customer, meter, cell, combination, subject, value",
    "unmatched": "day, environment, type, source",
    "own_subjects": "day, environment, customer, subject",
    "own_combinations": "start, environment, customer, meter, combination",
}
VALUES = {
    "rollups": ("events", "units", "nanos"),
    "dimensions": ("events", "units", "nanos"),
    "kept": ("first_units", "first_nanos", "second", "third_units", "third_nanos"),  # a Rank, in parts of 64 bits
    "seen": ("events",),
    "unmatched": ("events", "last_seq"),
    "own_subjects": ("first_seq",),  # in the file there is none, and 0 here
    "own_combinations": ("first_seq",),
}
ADD = "events = events + excluded.events, units = units + excluded.units, nanos = nanos + excluded.nanos"
MERGE = {
    "rollups": ADD,
    "dimensions": ADD,
    "kept": ", ".join(f"{name} = excluded.{name}" for name in VALUES["kept"])
    + " WHERE (excluded.first_units, excluded.first_nanos, excluded.second) > (first_units, first_nanos, second)",
    "seen": "events = events + excluded.events",
    "unmatched": "events = events + excluded.events, last_seq = max(last_seq, excluded.last_seq)",
    "own_subjects": "first_seq = min(first_seq, excluded.first_seq)",
    "own_combinations": "first_seq = min(first_seq, excluded.first_seq)",
}
# combinations by their text, since refolding does not know their numbers
COMBINED = f"""CASE combination WHEN 0 THEN '' WHEN -1 THEN '{OTHER_COMBINATION}'
ELSE (SELECT name FROM names WHERE number = combination) END"""  # noqa: S608 - constants only
EVENTS = f"""
SELECT seq, time, flags, source, type, subject, customer, epoch, quantity, data FROM events
WHERE seq > ? AND seq <= ? AND flags < {FIRST_CORRECTION} ORDER BY seq
"""  # noqa: S608 - constants only
# what was corrected later than the rollups that were copied is left as it was then
CORRECTED = "SELECT max(seq) FROM corrected WHERE event = e.seq AND seq <= :last"
SENT = f"""
SELECT seq, time, flags, source, type, subject, customer, epoch, quantity, data FROM events e
WHERE seq > :after AND seq <= :upto AND flags < {FIRST_CORRECTION} AND ({CORRECTED}) IS"""  # noqa: S608 - constants only
UNCORRECTED = f"{SENT} NULL ORDER BY seq"
COLUMNS = "e.time, e.flags, e.source, e.type, e.subject, e.customer, e.epoch, e.quantity, x.data"
AMENDED = f"""
SELECT e.seq, {COLUMNS} FROM events e JOIN events x ON x.seq = ({CORRECTED})
WHERE e.seq > :after AND e.seq <= :upto AND e.flags < {FIRST_CORRECTION} AND x.flags >> 1 = {AMEND} ORDER BY e.seq
"""  # noqa: S608 - constants only
AMENDMENTS = f"""
SELECT x.seq, {COLUMNS} FROM events x JOIN events e ON e.seq = x.id
WHERE x.seq > :after AND x.seq <= :upto AND x.flags >> 1 = {AMEND} ORDER BY x.seq
"""  # noqa: S608 - constants only
FOREVER = 1 << 40
REMEMBERED = 1_000


class LogScan:
    """One reading of one usage file. The scratch file is SQLite's own temporary one (in TMPDIR), gone after `close`."""

    def __init__(self, path: Path) -> None:
        self._db = connect(path, readonly=True)
        self._scratch = apsw.Connection("")
        self._scratch.execute(SCRATCH + _create()).fetchall()  # to its end: a pragma answers rows
        self._names: dict[int, str] = {}
        self._last_seq = 0
        self.corrected = False
        """Whether any event had been corrected when this began."""
        self._cuts: dict[tuple[int, int], tuple[int, ...]] = {}
        self.own_since = FOREVER
        """The first day of which it is known what has rows of its own."""
        self.check_source: int | None = None
        self._closed: dict[str, set[tuple[int, ...]]] = {}
        self._own: dict[tuple[int, ...], set[int | str]] = {}

    def close(self) -> None:
        self._db.close()
        self._scratch.close()

    def __enter__(self) -> LogScan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def info(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT key, value FROM info"))

    def name(self, number: int) -> str:
        """Of a source, type, subject or customer; "" for 0, which is none."""
        if number == 0:
            return ""
        found = self._names.get(number)
        if found is None:
            if len(self._names) >= 100_000:
                self._names.clear()
            found = self._names[number] = str(
                self._db.execute("SELECT name FROM names WHERE number = ?", (number,)).get
            )
        return found

    def meter_key(self, number: int) -> str:
        return str(self._db.execute("SELECT key FROM meters WHERE number = ?", (number,)).get)

    def meter_spans(self) -> list[tuple[int, Meter, int, int | None]]:
        """(number, meter, from_epoch, until_epoch)."""
        return meter_spans(self._db)

    def cuts(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """(environment, customer) → the instants (s) at which its cells were divided when this began, in order."""
        return self._cuts

    def _read_cuts(self) -> dict[tuple[int, int], tuple[int, ...]]:
        there: Any = self._db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'cuts'").get
        found: dict[tuple[int, int], list[int]] = {}
        if there:
            for environment, customer, at in self._db.execute("SELECT * FROM cuts ORDER BY environment, customer, at"):
                found.setdefault((environment, customer), []).append(at)
        return {where: tuple(instants) for where, instants in found.items()}

    def begin(self) -> int:
        """Copy every rollup as it is now; the sequence number of the last event they contain."""
        last_seq = 0
        with self._db, self._scratch:
            self._cuts = self._read_cuts()
            aggregations = {number: meter.aggregation for number, meter, _, _ in self.meter_spans()}
            there = {row[0] for row in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            for table in KEYS:
                if table not in there:
                    continue  # a file that no later version has opened yet
                columns = KEYS[table].replace("combination", COMBINED)
                kept = table == "kept"
                values = "units, nanos, time, seq" if kept else ", ".join(VALUES[table])
                if table in ("own_subjects", "own_combinations"):
                    values = "0"
                rows: Any = self._db.execute(f"SELECT {columns}, {values} FROM {table}")  # noqa: S608 - constants only
                if kept:
                    rows = (
                        (*key, *_parts(rank(aggregations.get(key[3], "latest"), units * NANOS + nanos, time, seq)))
                        for *key, units, nanos, time, seq in rows
                    )
                self._scratch.executemany(_insert("stored", table), rows)
            last_seq += int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").get)
            self.check_source = self._db.execute(
                "SELECT number FROM names WHERE kind = 's' AND name = ?", (CHECK_SOURCE,)
            ).get
            if "own_since" in there:
                self.own_since = own_since(self._db)
            if "corrected" in there:
                self.corrected = self._db.execute("SELECT 1 FROM corrected LIMIT 1").get is not None
        self._last_seq = last_seq
        closed: Any = self._scratch.execute(
            "SELECT day, environment, customer FROM stored_own_subjects WHERE subject = ?", (OTHER_SUBJECT,)
        )
        crowded: Any = self._scratch.execute(
            "SELECT start, environment, customer, meter FROM stored_own_combinations WHERE combination = ?",
            (OTHER_COMBINATION,),
        )
        self._closed = {"own_subjects": set(closed), "own_combinations": set(crowded)}
        return last_seq

    def subject(self, day: int, environment: int, customer: int, subject: int) -> bool:
        """Whether the file says that it has rows of its own."""
        where = (day, environment, customer)
        return where not in self._closed["own_subjects"] or subject in self._owners("own_subjects", where)

    def combination(self, start: int, environment: int, customer: int, meter: int, text: str) -> bool:
        """Whether the file says that it has rows of its own, in the period from `start` (s)."""
        where = (start, environment, customer, meter)
        return where not in self._closed["own_combinations"] or text in self._owners("own_combinations", where)

    def _owners(self, table: str, where: tuple[int, ...]) -> set[int | str]:
        """By the length of `where` it is clear of which table they are."""
        found = self._own.get(where)
        if found is None:
            if len(self._own) >= REMEMBERED:
                self._own.clear()
            *columns, what = KEYS[table].split(", ")
            sql = f"SELECT {what} FROM stored_{table} WHERE {' AND '.join(f'{name} = ?' for name in columns)}"  # noqa: S608
            rows: Any = self._scratch.execute(sql, where)
            found = self._own[where] = {row[0] for row in rows}
        return found

    def first_seq(self) -> int:
        return int(self._db.execute("SELECT coalesce(min(seq), 0) FROM events").get)

    def rows(self, after_seq: int, upto_seq: int) -> Iterator[Row]:
        """Events with after_seq < seq <= upto_seq, in order, that were not corrected when this began."""
        if self.corrected:
            return self._rows(UNCORRECTED, after_seq, upto_seq)
        found: Any = self._db.execute(EVENTS, (after_seq, upto_seq))
        return iter(found)

    def amended(self, after_seq: int, upto_seq: int) -> Iterator[Row]:
        """Those that were amended last, with the data that counts."""
        return self._rows(AMENDED, after_seq, upto_seq) if self.corrected else iter(())

    def told(self, after_seq: int, upto_seq: int) -> Iterator[Row]:
        """What the log said and may not say now: corrected events as they were sent, and each amendment by its own sequence."""
        if self.corrected:
            yield from self._rows(f"{SENT} NOT NULL ORDER BY seq", after_seq, upto_seq)
            yield from self._rows(AMENDMENTS, after_seq, upto_seq)

    def _rows(self, sql: str, after_seq: int, upto_seq: int) -> Iterator[Row]:
        values = {"after": after_seq, "upto": upto_seq, "last": self._last_seq}
        found: Any = self._db.execute(sql, {name: value for name, value in values.items() if f":{name}" in sql})
        return iter(found)

    def spill(self, taken: dict[str, Rows]) -> None:
        """Add what was refolded to the scratch file."""
        with self._scratch:
            for table, rows in taken.items():
                sql = f"{_insert('refolded', table)} ON CONFLICT DO UPDATE SET {MERGE[table]}"
                self._scratch.executemany(sql, ((*key, *_stored(table, value)) for key, value in rows))

    def uncertain(self, uncut: set[tuple[int, int]], since_of: Callable[[int, int, int], int | None]) -> Uncertain:
        """Where subjects or combinations were folded together and nobody knows which, beside what is `uncut`.

        `since_of(environment, customer, day)`: start (s) of the period that the day begins in; None when nobody knows.
        """
        capped: Any = self._scratch.execute(
            "SELECT DISTINCT day, environment, customer FROM stored_rollups WHERE subject = ? AND day < ?",
            (OTHER_SUBJECT, self.own_since),
        )
        crowded: Any = self._scratch.execute(
            "SELECT DISTINCT day, environment, customer, meter FROM stored_dimensions WHERE combination = ?",
            (OTHER_COMBINATION,),
        )
        unknown: set[tuple[int, int, int, int]] = set()
        for day, environment, customer, meter in crowded:
            start = since_of(environment, customer, day)
            if start is None or start // 86400 < self.own_since:
                unknown.add((day, environment, customer, meter))
        closed = {where[1:] for where in self._closed["own_combinations"] if where[1:3] in uncut}
        for side in ("stored", "refolded") if closed else ():
            sql = f"SELECT DISTINCT day, environment, customer, meter FROM {side}_dimensions"  # noqa: S608 - constants only
            rows: Any = self._scratch.execute(sql)
            unknown.update(row for row in rows if row[1:] in closed)
        return Uncertain(uncut, set(capped), unknown, self._cuts)

    def table(self, side: str, table: str) -> Iterator[tuple[tuple[Any, ...], Value]]:
        """The rows of one table, `stored` or `refolded`, sorted by key."""
        count = len(VALUES[table])
        for row in self._scratch.execute(f"SELECT * FROM {side}_{table} ORDER BY {KEYS[table]}"):  # noqa: S608 - constants only
            yield tuple(row[:-count]), _value(table, row[-count:])


def _create() -> str:
    return "".join(
        f"CREATE TABLE {side}_{table} ({KEYS[table]}, {', '.join(VALUES[table])}, PRIMARY KEY ({KEYS[table]})) WITHOUT ROWID;"
        for side in ("stored", "refolded")
        for table in KEYS
    )


def _insert(side: str, table: str) -> str:
    count = len(KEYS[table].split(", ")) + len(VALUES[table])
    return f"INSERT INTO {side}_{table} VALUES ({', '.join('?' * count)})"  # noqa: S608 - constants only


def _parts(kept: Rank) -> tuple[int, ...]:
    """A Rank in integers of 64 bits, in the same order."""
    first, second, third = kept
    return (*divmod(first, NANOS), second, *divmod(third, NANOS))


def _stored(table: str, value: Value) -> tuple[int, ...]:
    if table in ("rollups", "dimensions"):
        return (value[0], *divmod(value[1], NANOS))
    if table == "kept":
        first, second, third = value
        return _parts((first, second, third))
    return value


def _value(table: str, row: tuple[int, ...]) -> Value:
    if table in ("rollups", "dimensions"):
        events, units, nanos = row
        return events, units * NANOS + nanos
    if table == "kept":
        first_units, first_nanos, second, third_units, third_nanos = row
        return first_units * NANOS + first_nanos, second, third_units * NANOS + third_nanos
    return row
