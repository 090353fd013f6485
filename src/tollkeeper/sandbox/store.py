"""What the sandbox keeps: objects by kind in memory, written through to a SQLite file when one is given.

An object is a mapping with "object" (its kind) and "id", as Stripe shows it. Names that begin with an underscore are the sandbox's own
and are never shown. Meter events and idempotency keys are too many for memory: they stand in tables of the same database,
which without a file is a
private temporary one that SQLite spills to disk.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Object = dict[str, Any]

_TABLES = """
CREATE TABLE IF NOT EXISTS objects (
  sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (kind, id));
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_CACHE_KIB = 65_536


class Table:
    """The objects of one kind in the order in which they were made."""

    def __init__(self) -> None:
        self._rows: dict[str, Object] = {}
        self._order: list[tuple[int, str]] = []
        self._indexes: dict[str, dict[Any, dict[str, None]]] = {}
        self._indexed: dict[str, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Object]:
        """Oldest first. Objects may be added or removed meanwhile."""
        for _, id in list(self._order):
            row = self._rows.get(id)
            if row is not None:
                yield row

    def get(self, id: str) -> Object | None:
        return self._rows.get(id)

    def put(self, row: Object, sequence: int) -> None:
        if row["id"] not in self._rows:
            self._order.append((sequence, row["id"]))
            row["_sequence"] = sequence
        self._rows[row["id"]] = row
        for field in self._indexes:
            self._index(field, row)

    def remove(self, id: str) -> None:
        row = self._rows.pop(id, None)
        if row is not None:
            place = bisect_left(self._order, (row["_sequence"], id))
            del self._order[place]
            for field, index in self._indexes.items():
                del index[self._indexed[field].pop(id)][id]

    def of(self, field: str, value: str) -> list[Object]:
        """The objects with this text in a field, oldest first, as they were saved last; the first question makes an index of it."""
        if field not in self._indexes:
            self._indexes[field], self._indexed[field] = {}, {}
            for row in self._rows.values():
                self._index(field, row)
        found = [self._rows[id] for id in self._indexes[field].get(value, ())]
        return sorted(found, key=lambda row: row["_sequence"])

    def _index(self, field: str, row: Object) -> None:
        given = row.get(field)
        value = given if isinstance(given, str) else None
        index, indexed, id = self._indexes[field], self._indexed[field], row["id"]
        if id in indexed:
            if indexed[id] == value:
                return
            del index[indexed[id]][id]
        index.setdefault(value, {})[id] = None
        indexed[id] = value

    def newest(self, before: Object | None = None) -> Iterator[Object]:
        """Newest first, from the object older than `before` on."""
        place = len(self._order) if before is None else bisect_left(self._order, (before["_sequence"], before["id"]))
        for index in range(place - 1, -1, -1):
            yield self._rows[self._order[index][1]]

    def first(self, count: int) -> list[Object]:
        """The oldest few."""
        return [self._rows[id] for _, id in self._order[:count]]

    def oldest(self, after: Object) -> Iterator[Object]:
        """Oldest first, from the object newer than `after` on."""
        place = bisect_left(self._order, (after["_sequence"], after["id"])) + 1
        for index in range(place, len(self._order)):
            yield self._rows[self._order[index][1]]


class Store:
    """Tables of objects and one SQLite database. For one thread at a time.

    Args:
        file: keeps everything across restarts; None keeps it for as long as the process runs.
    """

    def __init__(self, file: Path | str | None = None) -> None:
        self.database = sqlite3.connect(str(file or ""), check_same_thread=False, isolation_level=None)
        self._durable = file is not None
        self._tables: dict[str, Table] = {}
        self._last = 0
        self.database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if self._durable:
            self.database.execute("PRAGMA journal_mode = WAL")
            self.database.execute("PRAGMA wal_autocheckpoint = 10000")
            self.database.execute("PRAGMA synchronous = OFF")  # kept through a kill, not through a power cut
        else:
            self.database.execute("PRAGMA journal_mode = OFF")
            self.database.execute("PRAGMA synchronous = OFF")
        self.database.executescript(_TABLES)
        for sequence, kind, body in self.database.execute("SELECT sequence, kind, body FROM objects ORDER BY sequence"):
            self._last = sequence
            self.table(kind).put(json.loads(body), sequence)

    def table(self, kind: str) -> Table:
        found = self._tables.get(kind)
        if found is None:
            found = self._tables[kind] = Table()
        return found

    def kinds(self) -> list[str]:
        return sorted(self._tables)

    def get(self, kind: str, id: str) -> Object | None:
        return self.table(kind).get(id)

    def find(self, id: str) -> Object | None:
        """The object with this id, of whatever kind."""
        return next((row for table in self._tables.values() if (row := table.get(id)) is not None), None)

    def save(self, row: Object) -> Object:
        """Keep a new object, or what has changed in one."""
        table = self.table(row["object"])
        if "_sequence" not in row:
            self._last += 1
            table.put(row, self._last)
        else:
            table.put(row, row["_sequence"])
        if self._durable:
            self._begin()
            self.database.execute(
                "INSERT INTO objects VALUES (?, ?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                (row["_sequence"], row["object"], row["id"], json.dumps(row, separators=(",", ":"))),
            )
        return row

    def remove(self, row: Object) -> None:
        self.table(row["object"]).remove(row["id"])
        if self._durable:
            self._begin()
            self.database.execute("DELETE FROM objects WHERE kind = ? AND id = ?", (row["object"], row["id"]))

    def setting(self, name: str) -> Any:
        """A value of the sandbox's own, or None."""
        row = self.database.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_setting(self, name: str, value: Any) -> None:
        self._begin()
        self.database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))

    def write(self, statement: str, values: tuple[Any, ...]) -> None:
        """A statement that changes a table of the database, inside the transaction of this call."""
        self._begin()
        self.database.execute(statement, values)

    def _begin(self) -> None:
        if not self.database.in_transaction:
            self.database.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Everything since the last commit is in the file. Without a file one transaction lasts for ever: each end of one would look
        through all changed pages."""
        if self._durable and self.database.in_transaction:
            self.database.execute("COMMIT")

    def close(self) -> None:
        self.commit()
        self.database.close()
