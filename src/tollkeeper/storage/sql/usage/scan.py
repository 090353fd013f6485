"""What refolding reads of the usage file, and the scratch file it works in. Reads only; any process may, while another writes.

No read lasts long: the rollups are copied to the scratch file in one snapshot, and the log, which only grows at its end and shrinks at
its beginning, is read in pieces. So the write-ahead log of a busy server can be taken up meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw

from tollkeeper.core.metering import NANOS, Meter
from tollkeeper.core.refold import OTHER_SUBJECT, Key, Row, Value
from tollkeeper.storage.sql.usage.connection import connect
from tollkeeper.storage.sql.usage.meters import read_definition

SCRATCH = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768;
CREATE TABLE stored (day, environment, customer, meter, subject, cell, events, units, nanos,
  PRIMARY KEY (day, environment, customer, meter, subject, cell)) WITHOUT ROWID;
CREATE TABLE refolded (day, environment, customer, meter, subject, cell, events, units, nanos,
  PRIMARY KEY (day, environment, customer, meter, subject, cell)) WITHOUT ROWID;
CREATE TABLE stored_unmatched (day, environment, type, source, events, last_seq,
  PRIMARY KEY (day, environment, type, source)) WITHOUT ROWID;
CREATE TABLE refolded_unmatched (day, environment, type, source, events, last_seq,
  PRIMARY KEY (day, environment, type, source)) WITHOUT ROWID;
"""
SPILL = """
INSERT INTO refolded VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET events = events + excluded.events, units = units + excluded.units, nanos = nanos + excluded.nanos
"""
SPILL_UNMATCHED = """
INSERT INTO refolded_unmatched VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET events = events + excluded.events, last_seq = max(last_seq, excluded.last_seq)
"""
EVENTS = """
SELECT seq, time, flags, source, type, subject, customer, epoch, quantity, data FROM events
WHERE seq > ? AND seq <= ? ORDER BY seq
"""


class LogScan:
    """One reading of one usage file. The scratch file is SQLite's own temporary one (in TMPDIR), gone after `close`."""

    def __init__(self, path: Path) -> None:
        self._db = connect(path, readonly=True)
        self._scratch = apsw.Connection("")
        self._scratch.execute(SCRATCH).fetchall()  # to its end: a pragma answers rows
        self._names: dict[int, str] = {}

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
        rows = self._db.execute(
            "SELECT number, key, definition, from_epoch, until_epoch FROM meters JOIN meter_epochs USING (number)"
        )
        return [(number, read_definition(key, text), since, until) for number, key, text, since, until in rows]

    def begin(self) -> int:
        """Copy every rollup as it is now; the sequence number of the last event they contain."""
        last_seq = 0
        with self._db, self._scratch:
            self._scratch.executemany(
                "INSERT INTO stored VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self._db.execute("SELECT * FROM rollups")
            )
            self._scratch.executemany(
                "INSERT INTO stored_unmatched VALUES (?, ?, ?, ?, ?, ?)",
                self._db.execute("SELECT day, environment, type, source, events, last_seq FROM unmatched"),
            )
            last_seq += int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").get)
        return last_seq

    def first_seq(self) -> int:
        return int(self._db.execute("SELECT coalesce(min(seq), 0) FROM events").get)

    def rows(self, after_seq: int, upto_seq: int) -> Iterator[Row]:
        """Events with after_seq < seq <= upto_seq, in order."""
        found: Any = self._db.execute(EVENTS, (after_seq, upto_seq))
        return iter(found)

    def spill(
        self,
        rollups: Iterable[tuple[Key, Value]],
        unmatched: Iterable[tuple[tuple[int, int, int, int], Value]],
    ) -> None:
        """Add what was refolded to the scratch file."""
        with self._scratch:
            self._scratch.executemany(
                SPILL, ((*key, e, *divmod(billionths, NANOS)) for key, (e, billionths) in rollups)
            )
            self._scratch.executemany(SPILL_UNMATCHED, ((*key, *value) for key, value in unmatched))

    def capped(self) -> set[tuple[int, int, int]]:
        """(day, environment, customer) where subjects were folded together."""
        rows = self._scratch.execute(
            "SELECT DISTINCT day, environment, customer FROM stored WHERE subject = ?", (OTHER_SUBJECT,)
        )
        return {(day, environment, customer) for day, environment, customer in rows}

    def rollups(self, table: str) -> Iterator[tuple[Key, Value]]:
        """Of `stored` or `refolded`, sorted by key."""
        for *key, events, units, nanos in self._scratch.execute(_select(table, "cell")):
            yield tuple(key), (events, units * NANOS + nanos)

    def unmatched(self, table: str) -> Iterator[tuple[tuple[int, ...], Value]]:
        """Of `stored` or `refolded`, sorted by (day, environment, type, source)."""
        for *key, events, last_seq in self._scratch.execute(_select(f"{table}_unmatched", "source")):
            yield tuple(key), (events, last_seq)


def _select(table: str, last: str) -> str:
    keys = "day, environment, customer, meter, subject, cell" if last == "cell" else "day, environment, type, source"
    return f"SELECT * FROM {table} ORDER BY {keys}"  # noqa: S608 - constants only
