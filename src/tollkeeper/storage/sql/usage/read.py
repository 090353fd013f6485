"""Reads of the usage file: each thread its own connection, on the last committed state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

from tollkeeper.core.events import LoggedEvent, unpack_id
from tollkeeper.core.metering import NANOS
from tollkeeper.core.usage import CellRow, UnmatchedType
from tollkeeper.storage.sql.usage.connection import connect

# seek each day: with the day first in the key, a range of days would read every customer's rows
DAYS = "WITH RECURSIVE days(day) AS (SELECT :first UNION ALL SELECT day + 1 FROM days WHERE day < :last)"

# units in two parts: their sum over many cells may pass 64 bits, where SQLite raises
TOTALS = f"""{DAYS}
SELECT r.meter, sum(r.units / {NANOS}), sum(r.units % {NANOS}), sum(r.nanos) FROM days CROSS JOIN rollups r
  ON r.day = days.day AND r.environment = :environment AND r.customer = :customer
WHERE r.cell >= :start AND r.cell < :end GROUP BY r.meter
"""  # noqa: S608 - constants only


class UsageReader:
    """`environment` is "live" or "test"; instants are µs unless named `_s`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._all: list[apsw.Connection] = []
        self._lock = threading.Lock()

    def _db(self) -> apsw.Connection:
        db: apsw.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = connect(self.path, readonly=True)
            with self._lock:
                self._all.append(db)
        return db

    def close(self) -> None:
        with self._lock:
            for db in self._all:
                db.close()
            self._all.clear()

    def info(self) -> dict[str, str]:
        return dict(self._db().execute("SELECT key, value FROM info"))

    def _number(self, db: apsw.Connection, kind: str, name: str) -> int | None:
        row = db.execute("SELECT number FROM names WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return row[0] if row else None

    def meter_numbers(self, key: str) -> list[int]:
        """Every definition the meter has had."""
        return [row[0] for row in self._db().execute("SELECT number FROM meters WHERE key = ?", (key,))]

    def totals(self, environment: str, customer: str, start: int, end: int) -> dict[int, int]:
        """Meter number → billionths, for cells that begin in [start, end)."""
        db = self._db()
        number = self._number(db, "c", customer)
        if number is None:
            return {}
        start_s, end_s = start // 1_000_000, end // 1_000_000
        rows = db.execute(
            TOTALS,
            {
                "first": start_s // 86400,
                "last": (end_s - 1) // 86400,
                "environment": int(environment == "test"),
                "customer": number,
                "start": start_s,
                "end": end_s,
            },
        )
        return {meter: (billions * NANOS + units) * NANOS + nanos for meter, billions, units, nanos in rows}

    def sums(
        self,
        environment: str,
        meters: list[int],
        start_s: int,
        end_s: int,
        *,
        customer: str | None = None,
        subject: str | None = None,
        by: tuple[str, ...] = (),
    ) -> Iterator[CellRow]:
        """Rollups of some meters, for cells that begin in [start_s, end_s), added up by any of `cell`, `customer` and `subject`.

        What is not asked for is `start_s` or None in the rows.
        """
        db = self._db()
        customer_number = subject_number = None
        if customer is not None and (customer_number := self._number(db, "c", customer)) is None:
            return
        if subject is not None and (subject_number := self._number(db, "u", subject)) is None:
            return
        seek = " AND r.customer = :customer" if customer is not None else ""
        also = " AND r.subject = :subject" if subject is not None else ""
        group = ", ".join(f"r.{name}" for name in by)
        chosen = ", ".join(f"r.{name}" if name in by else "NULL" for name in ("cell", "customer", "subject"))
        names: dict[int, str] = {}
        for meter in meters:
            rows: list[Any] = db.execute(
                f"""{DAYS}
                SELECT {chosen}, sum(r.events), sum(r.units / {NANOS}), sum(r.units % {NANOS}), sum(r.nanos)
                FROM days CROSS JOIN rollups r
                  ON r.day = days.day AND r.environment = :environment{seek} AND r.meter = :meter{also}
                WHERE r.cell >= :start AND r.cell < :end{f" GROUP BY {group}" if by else ""}""",  # noqa: S608 - constants only
                {
                    "first": start_s // 86400,
                    "last": max(end_s - 1, start_s) // 86400,
                    "environment": int(environment == "test"),
                    "customer": customer_number,
                    "subject": subject_number,
                    "meter": meter,
                    "start": start_s,
                    "end": end_s,
                },
            ).fetchall()
            for cell, customer_of, subject_of, events, billions, units, nanos in rows:
                if events is not None:
                    yield CellRow(
                        start_s if cell is None else cell,
                        self._name(db, names, customer_of),
                        "other" if subject_of == -1 else self._name(db, names, subject_of),
                        events,
                        billions * NANOS + units,
                        nanos,
                    )

    def _name(self, db: apsw.Connection, known: dict[int, str], number: int | None) -> str | None:
        if not number:
            return None
        if number not in known:
            known[number] = str(db.execute("SELECT name FROM names WHERE number = ?", (number,)).get)
        return known[number]

    def unmatched(self, environment: str, since_s: int) -> list[UnmatchedType]:
        """Types that no meter counts, by source, most events first."""
        rows = self._db().execute(
            """SELECT t.name, s.name, sum(m.events), max(m.last_seq) FROM unmatched m
               JOIN names t ON t.number = m.type JOIN names s ON s.number = m.source
               WHERE m.environment = ? AND m.day >= ? GROUP BY t.name, s.name ORDER BY 3 DESC, 1, 2 LIMIT 1000""",
            (int(environment == "test"), since_s // 86400),
        )
        return [UnmatchedType(*row) for row in rows]

    def events(self, after_seq: int = 0, limit: int | None = None) -> Iterator[LoggedEvent]:
        """The log in order."""
        db = self._db()
        names: dict[int, str] = {}

        def name(number: int) -> str:
            if number not in names:
                if len(names) > 100_000:
                    names.clear()
                names[number] = str(db.execute("SELECT name FROM names WHERE number = ?", (number,)).get)
            return names[number]

        for seq, time, delay, flags, source, type, subject, customer, epoch, quantity, id, data in db.cursor().execute(
            "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, -1 if limit is None else limit)
        ):
            yield LoggedEvent(
                seq,
                "test" if flags & 1 else "live",
                name(source),
                unpack_id(flags >> 1, id),
                name(type),
                name(subject) if subject else None,
                name(customer),
                time,
                time + delay * 1000,
                epoch,
                quantity,
                data,
            )

    def free_bytes(self) -> int:
        """Pages of the file that nothing stands in."""
        db = self._db()
        return int(db.pragma("freelist_count")) * int(db.pragma("page_size"))

    def last_seq(self) -> int:
        return int(self._db().execute("SELECT coalesce(max(seq), 0) FROM events").get or 0)

    def snapshot(self, work: Callable[[], Any]) -> Any:
        """Run several reads of this thread on one committed state."""
        db = self._db()
        with db:
            return work()
