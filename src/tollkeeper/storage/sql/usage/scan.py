"""What refolding reads of the usage file, and the scratch file it works in. Reads only; any process may, while another writes.

No read lasts long: the rollups are copied to the scratch file in one snapshot, and the log, which only grows at its end and shrinks at
its beginning, is read in pieces. So the write-ahead log of a busy server can be taken up meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from tollkeeper.core.aggregation import Rank, rank
from tollkeeper.core.events import AMEND
from tollkeeper.core.metering import NANOS, Meter
from tollkeeper.core.refold import OTHER_COMBINATION, OTHER_SUBJECT, Row, Uncertain
from tollkeeper.core.refold_extras import Rows, Value
from tollkeeper.storage.sql.usage.connection import connect
from tollkeeper.storage.sql.usage.read import FIRST_CORRECTION
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
}
VALUES = {
    "rollups": ("events", "units", "nanos"),
    "dimensions": ("events", "units", "nanos"),
    "kept": ("first_units", "first_nanos", "second", "third_units", "third_nanos"),  # a Rank, in parts of 64 bits
    "seen": ("events",),
    "unmatched": ("events", "last_seq"),
}
ADD = "events = events + excluded.events, units = units + excluded.units, nanos = nanos + excluded.nanos"
MERGE = {
    "rollups": ADD,
    "dimensions": ADD,
    "kept": ", ".join(f"{name} = excluded.{name}" for name in VALUES["kept"])
    + " WHERE (excluded.first_units, excluded.first_nanos, excluded.second) > (first_units, first_nanos, second)",
    "seen": "events = events + excluded.events",
    "unmatched": "events = events + excluded.events, last_seq = max(last_seq, excluded.last_seq)",
}
# combinations by their text, since refolding does not know their numbers
COMBINED = f"""CASE combination WHEN 0 THEN '' WHEN -1 THEN '{OTHER_COMBINATION}'
ELSE (SELECT name FROM names WHERE number = combination) END"""  # noqa: S608 - constants only
EVENTS = f"""
SELECT seq, time, flags, source, type, subject, customer, epoch, quantity, data FROM events
WHERE seq > ? AND seq <= ? AND flags < {FIRST_CORRECTION} ORDER BY seq
"""  # noqa: S608 - constants only
# what was corrected later than the rollups that were copied is left as it was then
CORRECTED_EVENTS = f"""
SELECT e.seq, e.time, e.flags, e.source, e.type, e.subject, e.customer, e.epoch, e.quantity,
    iif(x.seq IS NULL, e.data, x.data)
FROM events e LEFT JOIN events x ON x.seq = (SELECT max(seq) FROM corrected WHERE event = e.seq AND seq <= :last)
WHERE e.seq > :after AND e.seq <= :upto AND e.flags < {FIRST_CORRECTION}
    AND (x.seq IS NULL OR x.flags >> 1 = {AMEND}) ORDER BY e.seq
"""  # noqa: S608 - constants only


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
                rows: Any = self._db.execute(f"SELECT {columns}, {values} FROM {table}")  # noqa: S608 - constants only
                if kept:
                    rows = (
                        (*key, *_parts(rank(aggregations.get(key[3], "latest"), units * NANOS + nanos, time, seq)))
                        for *key, units, nanos, time, seq in rows
                    )
                self._scratch.executemany(_insert("stored", table), rows)
            last_seq += int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").get)
            if "corrected" in there:
                self.corrected = self._db.execute("SELECT 1 FROM corrected LIMIT 1").get is not None
        self._last_seq = last_seq
        return last_seq

    def first_seq(self) -> int:
        return int(self._db.execute("SELECT coalesce(min(seq), 0) FROM events").get)

    def rows(self, after_seq: int, upto_seq: int) -> Iterator[Row]:
        """Events with after_seq < seq <= upto_seq, in order, as they counted when this began: without the voided, the amended amended."""
        if self.corrected:
            values = {"after": after_seq, "upto": upto_seq, "last": self._last_seq}
            found: Any = self._db.execute(CORRECTED_EVENTS, values)
        else:
            found = self._db.execute(EVENTS, (after_seq, upto_seq))
        return iter(found)

    def spill(self, taken: dict[str, Rows]) -> None:
        """Add what was refolded to the scratch file."""
        with self._scratch:
            for table, rows in taken.items():
                sql = f"{_insert('refolded', table)} ON CONFLICT DO UPDATE SET {MERGE[table]}"
                self._scratch.executemany(sql, ((*key, *_stored(table, value)) for key, value in rows))

    def uncertain(self, uncut: set[tuple[int, int]]) -> Uncertain:
        """Where subjects or combinations were folded together, beside what is `uncut`."""
        capped: Any = self._scratch.execute(
            "SELECT DISTINCT day, environment, customer FROM stored_rollups WHERE subject = ?", (OTHER_SUBJECT,)
        )
        crowded: Any = self._scratch.execute(
            "SELECT DISTINCT day, environment, customer, meter FROM stored_dimensions WHERE combination = ?",
            (OTHER_COMBINATION,),
        )
        return Uncertain(uncut, set(capped), set(crowded), self._cuts)

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
