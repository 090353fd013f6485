"""Usage received through meter events: identifiers, exact sums by hour, and single events for what an hour does not answer.

Everything stands in SQLite (store.py): two million events cost disk, not memory. Values are decimals, kept as text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Context, Decimal

from tollkeeper.sandbox.store import Store

HOUR = 3_600
IDENTIFIER_SECONDS = 86_400
EXACT = Context(prec=60)
_TABLES = """
CREATE TABLE IF NOT EXISTS meter_events (
  sequence INTEGER PRIMARY KEY, identifier BLOB NOT NULL, received INTEGER NOT NULL, meter TEXT NOT NULL, customer TEXT NOT NULL,
  timestamp INTEGER NOT NULL, value TEXT NOT NULL, cancelled INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS meter_events_identifier ON meter_events (identifier);
CREATE INDEX IF NOT EXISTS meter_events_usage ON meter_events (customer, meter, timestamp);
CREATE TABLE IF NOT EXISTS meter_hours (
  customer TEXT NOT NULL, meter TEXT NOT NULL, hour INTEGER NOT NULL, events INTEGER NOT NULL, total TEXT NOT NULL,
  last_at INTEGER NOT NULL, last_sequence INTEGER NOT NULL, last TEXT NOT NULL,
  PRIMARY KEY (customer, meter, hour)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a meter counted for a customer in a span: `last` is the value of the latest event, None without events."""

    events: int = 0
    total: Decimal = Decimal(0)
    last: Decimal | None = None

    def by(self, formula: str) -> Decimal:
        """The aggregated value by a meter's formula: sum, count or last."""
        if formula == "count":
            return Decimal(self.events)
        return self.total if formula == "sum" else (self.last or Decimal(0))


class MeterLedger:
    """Adds, cancels and sums meter events. A meter or customer that was not found is kept as "": its identifier is taken all the same."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._query = store.database.execute
        store.database.executescript(_TABLES)

    @staticmethod
    def _digest(identifier: str) -> bytes:
        return hashlib.blake2b(identifier.encode(), digest_size=16).digest()

    def known(self, identifier: str, now: int) -> bool:
        """Whether an event with this identifier arrived within the last 24 hours."""
        row = self._query(
            "SELECT 1 FROM meter_events WHERE identifier = ? AND received > ?",
            (self._digest(identifier), now - IDENTIFIER_SECONDS),
        ).fetchone()
        return row is not None

    def add(self, identifier: str, now: int, meter: str, customer: str, timestamp: int, value: str) -> None:
        """Count one event; `value` is a decimal as text."""
        self._store.write(
            "INSERT INTO meter_events (identifier, received, meter, customer, timestamp, value) VALUES (?, ?, ?, ?, ?, ?)",
            (self._digest(identifier), now, meter, customer, timestamp, value),
        )
        if meter and customer:
            sequence = self._query("SELECT last_insert_rowid()").fetchone()[0]
            self._fold(meter, customer, timestamp, sequence, value)

    def _fold(self, meter: str, customer: str, timestamp: int, sequence: int, value: str) -> None:
        hour = timestamp - timestamp % HOUR
        row = self._query(
            "SELECT events, total, last_at, last_sequence, last FROM meter_hours WHERE customer = ? AND meter = ? AND hour = ?",
            (customer, meter, hour),
        ).fetchone()
        events, total, last = 1, value, (timestamp, sequence, value)
        if row is not None:
            events = row[0] + 1
            total = format(EXACT.add(Decimal(row[1]), Decimal(value)), "f")
            last = max(last, (row[2], row[3], row[4]), key=lambda item: item[:2])
        self._store.write(
            "INSERT OR REPLACE INTO meter_hours VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (customer, meter, hour, events, total, *last),
        )

    def cancel(self, meter: str, identifier: str, now: int) -> str | None:
        """Take an event back. None when done; otherwise why not: "unknown", "too_old" or "cancelled"."""
        row = self._query(
            "SELECT sequence, received, customer, timestamp, cancelled FROM meter_events WHERE identifier = ? AND meter = ? "
            "ORDER BY sequence DESC LIMIT 1",
            (self._digest(identifier), meter),
        ).fetchone()
        if row is None:
            return "unknown"
        sequence, received, customer, timestamp, cancelled = row
        if cancelled:
            return "cancelled"
        if received <= now - IDENTIFIER_SECONDS:
            return "too_old"
        self._store.write("UPDATE meter_events SET cancelled = 1 WHERE sequence = ?", (sequence,))
        self._refold(meter, customer, timestamp - timestamp % HOUR)
        return None

    def _refold(self, meter: str, customer: str, hour: int) -> None:
        rows = self._rows(meter, customer, hour, hour + HOUR)
        self._store.write(
            "DELETE FROM meter_hours WHERE customer = ? AND meter = ? AND hour = ?", (customer, meter, hour)
        )
        for sequence, timestamp, value in rows:
            self._fold(meter, customer, timestamp, sequence, value)

    def _rows(self, meter: str, customer: str, start: int, end: int) -> list[tuple[int, int, str]]:
        return self._query(
            "SELECT sequence, timestamp, value FROM meter_events WHERE customer = ? AND meter = ? AND timestamp >= ? "
            "AND timestamp < ? AND NOT cancelled ORDER BY timestamp, sequence",
            (customer, meter, start, end),
        ).fetchall()

    def usage(self, meter: str, customer: str, start: int, end: int) -> Usage:
        """What was counted in [start, end), in seconds since 1970: whole hours from their sums, the edges from single events."""
        first, last = -(-start // HOUR) * HOUR, end // HOUR * HOUR
        if first >= last:
            return self._of_rows(self._rows(meter, customer, start, end))
        before = self._of_rows(self._rows(meter, customer, start, first))
        after = self._of_rows(self._rows(meter, customer, last, end))
        hours = self._query(
            "SELECT events, total, last FROM meter_hours WHERE customer = ? AND meter = ? AND hour >= ? AND hour < ? ORDER BY hour",
            (customer, meter, first, last),
        ).fetchall()
        total = before.total
        for row in hours:
            total = EXACT.add(total, Decimal(row[1]))
        latest = after.last if after.events else (Decimal(hours[-1][2]) if hours else before.last)
        events = before.events + after.events + sum(row[0] for row in hours)
        return Usage(events, EXACT.add(total, after.total), latest)

    @staticmethod
    def _of_rows(rows: list[tuple[int, int, str]]) -> Usage:
        total = Decimal(0)
        for row in rows:
            total = EXACT.add(total, Decimal(row[2]))
        return Usage(len(rows), total, Decimal(rows[-1][2]) if rows else None)

    def hours(self, meter: str, customer: str, start: int, end: int) -> list[int]:
        """The hours of [start, end) in which anything was counted, oldest first."""
        return [
            row[0]
            for row in self._query(
                "SELECT hour FROM meter_hours WHERE customer = ? AND meter = ? AND hour >= ? AND hour < ? ORDER BY hour",
                (customer, meter, start, end),
            )
        ]

    def recent(self, most: int) -> list[tuple[str, str, int, str, int]]:
        """The hours counted last: customer, meter, events, sum, hour."""
        return self._query(
            "SELECT h.customer, h.meter, h.events, h.total, h.hour FROM "
            "(SELECT DISTINCT customer, meter, timestamp - timestamp % 3600 AS hour FROM "
            "(SELECT customer, meter, timestamp FROM meter_events WHERE meter != '' ORDER BY sequence DESC LIMIT 500)) AS r "
            "JOIN meter_hours AS h ON h.customer = r.customer AND h.meter = r.meter AND h.hour = r.hour "
            "ORDER BY h.hour DESC LIMIT ?",
            (most,),
        ).fetchall()

    def count(self) -> int:
        """All events ever received."""
        return int(self._query("SELECT coalesce(max(sequence), 0) FROM meter_events").fetchone()[0])
