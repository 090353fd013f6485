"""Runs: immutable, sorted stretches of (digest, seq) on disk, how one is written, read, made from others and removed.

A record is 21 bytes: a 16-byte digest and a 5-byte big-endian sequence number. A run is cut into segments, each a database page
full. A segment's key is the run's number and the first 36 bits of its first digest, and records that agree in those bits
are never parted, so the segment of a digest is the last one whose key is not greater: one seek, no table of boundaries.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import apsw

from tollkeeper.storage.sql.usage import filters
from tollkeeper.storage.sql.usage.filters import Filter

SCHEMA = """
CREATE TABLE id_run (
  run INTEGER PRIMARY KEY AUTOINCREMENT,
  state TEXT NOT NULL CHECK (state IN ('flushing', 'merging', 'live', 'dropped')),
  level INTEGER NOT NULL,
  records INTEGER NOT NULL,               -- what it holds, or will hold when complete
  last_seq INTEGER NOT NULL,
  upto BLOB NOT NULL DEFAULT x'',         -- the last digest written
  merged_into INTEGER REFERENCES id_run   -- a merge under way: up to that run's upto, look there
) STRICT;
CREATE TABLE id_segment (key INTEGER PRIMARY KEY, records BLOB NOT NULL) STRICT;   -- run << 36 | first 36 bits
CREATE TABLE id_filter (key INTEGER PRIMARY KEY, words BLOB NOT NULL) STRICT;      -- run << 36 | part
CREATE TABLE id_covered (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL) STRICT;
INSERT INTO id_covered VALUES (1, 0);
"""

DIGEST = 16
RECORD = 21
STEP_ROWS = 64  # of a dropped run, removed at a time

_KEY_BITS = 36
_HEAD = struct.Struct(">QBB11x")
_ONE = struct.Struct(f"{RECORD}s")


@dataclass(slots=True)
class Run:
    """A row of id_run, with its filter."""

    number: int
    state: str
    level: int
    records: int
    last_seq: int
    upto: bytes
    into: Run | None
    filter: Filter = field(repr=False)

    @property
    def base(self) -> int:
        return self.number << _KEY_BITS

    @property
    def end(self) -> int:
        return self.base | (1 << _KEY_BITS) - 1

    def key(self, digest: bytes) -> int:
        return self.base | int.from_bytes(digest[:8], "big") >> 64 - _KEY_BITS

    def load_filter(self, db: apsw.Connection) -> None:
        for (words,) in db.execute(
            "SELECT words FROM id_filter WHERE key BETWEEN ? AND ? ORDER BY key", (self.base, self.end)
        ):
            self.filter.load(words)

    def lookup(self, db: apsw.Connection, digest: bytes) -> int | None:
        """The sequence number stored with `digest`, from this run or from the one it is being merged into."""
        run = self.into if self.into is not None and digest <= self.into.upto else self
        row = db.execute(
            "SELECT records FROM id_segment WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",
            (run.base, run.key(digest)),
        ).fetchone()
        if row is None:
            return None
        records: bytes = row[0]
        at = records.find(digest)
        while at >= 0 and at % RECORD:
            at = records.find(digest, at + 1)
        return None if at < 0 else int.from_bytes(records[at + DIGEST : at + RECORD], "big")


class Writer:
    """Appends sorted records to a run: whole segments, and parts of its filter once they are final.

    What it keeps in memory (fewer records than a segment, and a part of the filter) is not on disk yet: `run.upto` says how far
    the disk is. A new Writer goes on from there.
    """

    def __init__(self, db: apsw.Connection, run: Run, segment_records: int) -> None:
        self._db = db
        self._run = run
        self._segment = segment_records
        self._rest: list[bytes] = []
        self._parts = int(
            db.execute("SELECT count(*) FROM id_filter WHERE key BETWEEN ? AND ?", (run.base, run.end)).get or 0
        )
        if run.upto:
            first = self._parts * filters.PART_WORDS << run.filter.shift >> 64 - _KEY_BITS
            segments = db.execute(
                """SELECT records FROM id_segment WHERE key BETWEEN coalesce(
                     (SELECT max(key) FROM id_segment WHERE key BETWEEN ?1 AND ?2), ?1) AND ?3 ORDER BY key""",
                (run.base, run.base | first, run.end),
            )
            for (records,) in segments:
                run.filter.add(records, _HEAD)

    def append(self, records: list[bytes]) -> None:
        """`records` are sorted, and greater than all before."""
        self._rest += records
        self._write(self._cut(last=False))

    def finish(self) -> None:
        """Writes what is left. The run is complete."""
        self._write(self._cut(last=True))
        self._run.filter.fill()
        self._save_parts(self._run.filter.size)

    def _cut(self, *, last: bool) -> list[tuple[int, bytes]]:
        """Takes whole segments off the rest; a segment ends where the next record's key differs, so that record must be known."""
        rest, run = self._rest, self._run
        rows, start, count = [], 0, len(rest)
        while start < count:
            end = start + self._segment
            while end < count and run.key(rest[end]) == run.key(rest[end - 1]):
                end += 1
            if end >= count and not last:
                break
            rows.append((run.key(rest[start]), b"".join(rest[start:end])))
            start = end
        del rest[:start]
        return rows

    def _write(self, rows: list[tuple[int, bytes]]) -> None:
        if not rows:
            return
        run = self._run
        self._db.executemany("INSERT INTO id_segment (key, records) VALUES (?, ?)", rows)
        run.filter.add(b"".join([records for _, records in rows]), _HEAD)
        run.upto = rows[-1][1][-RECORD : DIGEST - RECORD]
        self._db.execute("UPDATE id_run SET upto = ? WHERE run = ?", (run.upto, run.number))
        self._save_parts(int.from_bytes(run.upto[:8], "big") >> run.filter.shift)

    def _save_parts(self, final_words: int) -> None:
        run = self._run
        while self._parts * filters.PART_WORDS < run.filter.size and (
            (self._parts + 1) * filters.PART_WORDS <= final_words or final_words == run.filter.size
        ):
            self._db.execute(
                "INSERT INTO id_filter (key, words) VALUES (?, ?)",
                (run.base | self._parts, run.filter.part(self._parts)),
            )
            self._parts += 1


class Flush:
    """Writes ids from memory as a new run."""

    def __init__(self, db: apsw.Connection, run: Run, ids: dict[bytes, int], segment_records: int) -> None:
        self.run = run
        self._writer = Writer(db, run, segment_records)
        self._ids = iter(ids.items())
        self._unread = len(ids)
        self._parts: list[list[bytes]] = [[] for _ in range(256)]
        self._next = 0

    def step(self, records: int) -> tuple[int, bool]:
        """A piece of about `records` records: how many were handled, and whether the run is complete."""
        parts, seq_bytes = self._parts, RECORD - DIGEST
        if self._unread:
            # by first byte, so that a step sorts a few hundred at a time
            handled = min(records, self._unread)
            for digest, seq in islice(self._ids, handled):
                parts[digest[0]].append(digest + seq.to_bytes(seq_bytes, "big"))
            self._unread -= handled
            return handled, False
        piece: list[bytes] = []
        while self._next < 256 and len(piece) < records:
            piece += sorted(parts[self._next])
            parts[self._next] = []
            self._next += 1
        self._writer.append(piece)
        if self._next < 256:
            return len(piece), False
        self._writer.finish()
        return len(piece), True


class Merge:
    """Makes one run of several, front to back, and takes off the inputs what the output holds: between two steps every record
    is in exactly one place, so a merge goes on after a crash and needs no second copy on disk."""

    def __init__(self, db: apsw.Connection, output: Run, inputs: list[Run], segment_records: int) -> None:
        self.output = output
        self._writer = Writer(db, output, segment_records)
        self._inputs = [_Input(db, run, output.upto, segment_records) for run in inputs]

    def step(self, records: int) -> tuple[int, bool]:
        """A piece of about `records` records: how many were handled, and whether the run is complete."""
        for source in self._inputs:
            source.read(records // len(self._inputs))
        ends = [source.records[-1] for source in self._inputs if not source.ended]
        piece: list[bytes] = []
        for source in self._inputs:
            piece += source.take(min(ends) if ends else None)
        piece.sort()
        self._writer.append(piece)
        if not ends:
            self._writer.finish()
        for source in self._inputs:
            source.remove(self.output.upto)
        return len(piece), not ends


class _Input:
    """A run read from front to back."""

    def __init__(self, db: apsw.Connection, run: Run, after: bytes, segment_records: int) -> None:
        self._db = db
        self._run = run
        self._after = after
        self._segment = segment_records
        self._whole = struct.Struct(f"{RECORD}s" * segment_records)
        self._at = run.base - 1
        self._kept: deque[tuple[int, bytes]] = deque()  # read, not yet removed: key, last digest
        self.records: list[bytes] = []
        self.ended = False

    def read(self, records: int) -> None:
        """At least about `records` in memory, and one, unless the run ends."""
        while not self.ended and (not self.records or len(self.records) + self._segment <= records):
            segments = max((records - len(self.records)) // self._segment, 1)
            rows: list[Any] = self._db.execute(
                "SELECT key, records FROM id_segment WHERE key > ? AND key <= ? ORDER BY key LIMIT ?",
                (self._at, self._run.end, segments),
            ).fetchall()
            self.ended = len(rows) < segments
            for key, blob in rows:
                self._at = key
                self._kept.append((key, blob[-RECORD : DIGEST - RECORD]))
                records_read = self._split(blob)
                if records_read[0][:DIGEST] <= self._after:
                    records_read = records_read[bisect_right(records_read, self._after, key=_digest) :]
                self.records += records_read

    def _split(self, records: bytes) -> Sequence[bytes]:
        if len(records) == self._whole.size:
            return self._whole.unpack(records)  # several times faster
        return [record for (record,) in _ONE.iter_unpack(records)]

    def take(self, last: bytes | None) -> list[bytes]:
        """The records up to `last`, or all."""
        count = len(self.records) if last is None else bisect_right(self.records, last)
        taken = self.records[:count]
        del self.records[:count]
        return taken

    def remove(self, upto: bytes) -> None:
        """Removes the segments read that end at or before `upto`."""
        key = None
        while self._kept and self._kept[0][1] <= upto:
            key, _ = self._kept.popleft()
        if key is not None:
            self._db.execute("DELETE FROM id_segment WHERE key BETWEEN ? AND ?", (self._run.base, key))


def _digest(record: bytes) -> bytes:
    return record[:DIGEST]


def records_in_a_page(db: apsw.Connection) -> int:
    """One less than fit: a segment takes a record more when the next has the same key. https://sqlite.org/fileformat2.html, 1.6."""
    page = int(db.execute("PRAGMA page_size").get or 0)
    return (page - 35 - 4) // RECORD - 1


def read_runs(db: apsw.Connection, known: dict[int, Run]) -> dict[int, Run]:
    """All rows of id_run by number, oldest first. Runs that are `known` are the same objects brought up to date."""
    runs: dict[int, Run] = {}
    merged: list[tuple[Run, int]] = []
    for number, state, level, records, last_seq, upto, into in db.execute(
        "SELECT run, state, level, records, last_seq, upto, merged_into FROM id_run ORDER BY run"
    ):
        run = known.get(number)
        if run is None:
            run = Run(number, state, level, records, last_seq, upto, None, Filter(records))
            if state in ("live", "merging"):
                run.load_filter(db)
        run.state, run.upto, run.into = state, upto, None
        runs[number] = run
        if into is not None:
            merged.append((run, into))
    for run, into in merged:
        run.into = runs.get(into)
    return runs


def remove_piece(db: apsw.Connection, run: Run) -> int:
    """Removes up to STEP_ROWS rows of a dropped run: how many; 0 when none was left, and then the run itself is gone."""
    for table in ("id_segment", "id_filter"):
        keys = list(_keys(db, table, run))
        if keys:
            db.execute(f"DELETE FROM {table} WHERE key BETWEEN ? AND ?", (run.base, keys[-1]))  # noqa: S608
            return len(keys)
    db.execute("UPDATE id_run SET merged_into = NULL WHERE merged_into = ?", (run.number,))
    db.execute("DELETE FROM id_run WHERE run = ?", (run.number,))
    return 0


def _keys(db: apsw.Connection, table: str, run: Run) -> Iterator[int]:
    rows = db.execute(
        f"SELECT key FROM {table} WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",  # noqa: S608
        (run.base, run.end, STEP_ROWS),
    )
    return (key for (key,) in rows)
