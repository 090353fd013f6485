"""Reads of the usage file: each thread its own connection, on the last committed state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from tollkeeper.core.aggregation import rank
from tollkeeper.core.events import AMEND, VOID, LoggedEvent, unpack_id
from tollkeeper.core.metering import NANOS, Aggregation, Meter
from tollkeeper.core.usage import OTHER, CellRow, DistinctRow, KeptRow, Touched, UnmatchedType
from tollkeeper.storage.sql.usage.connection import connect
from tollkeeper.storage.sql.usage.meters import read_definition
from tollkeeper.storage.sql.usage.touched import touched

# seek each day: with the day first in the key, a range of days would read every customer's rows
DAYS = "WITH RECURSIVE days(day) AS (SELECT :first UNION ALL SELECT day + 1 FROM days WHERE day < :last)"

# units in two parts: their sum over many cells may pass 64 bits, where SQLite raises
TOTALS = f"""{DAYS}
SELECT r.meter, sum(r.units / {NANOS}), sum(r.units % {NANOS}), sum(r.nanos) FROM days CROSS JOIN rollups r
  ON r.day = days.day AND r.environment = :environment AND r.customer = :customer
WHERE r.cell >= :start AND r.cell < :end GROUP BY r.meter
"""  # noqa: S608 - constants only

FIRST_CORRECTION = VOID << 1
"""Flags below are those of events."""
EVENTS = f"""
SELECT e.*, x.flags >> 1, (SELECT id FROM corrections WHERE number = c.correction), iif(x.flags >> 1 = {AMEND}, x.data, NULL)
FROM events e
LEFT JOIN corrected c ON c.event = e.seq AND c.seq = (SELECT max(seq) FROM corrected WHERE event = e.seq)
LEFT JOIN events x ON x.seq = c.seq
WHERE e.flags < {FIRST_CORRECTION} AND e.seq > ? ORDER BY e.seq LIMIT ?
"""  # noqa: S608 - constants only

STAYS_FIRST: dict[Aggregation, str] = {
    "max": "r.units DESC, r.nanos DESC, r.seq",
    "min": "r.units, r.nanos, r.seq",
    "latest": "r.time DESC, r.seq DESC",
}
# an array that says `other` in each of its (at most three) places
COMBINATION_TEXT = f"""CASE r.combination WHEN -1 THEN '["{OTHER}","{OTHER}","{OTHER}"]'
ELSE (SELECT name FROM names WHERE number = r.combination) END"""  # noqa: S608 - constants only


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

    def meters(self, key: str) -> list[tuple[int, Meter]]:
        """Every definition the meter has had, by number, the newest last."""
        rows = self._db().execute("SELECT number, definition FROM meters WHERE key = ? ORDER BY number", (key,))
        return [(number, read_definition(key, text)) for number, text in rows]

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
        """Usage of some meters in cells that begin in [start_s, end_s), added up by any of `cell`, `customer`, `subject`, `combination`.

        What is not asked for is `start_s` or None in the rows.
        """
        where = self._where(environment, start_s, end_s, customer, subject)
        if where is None:
            return
        group = ", ".join(f"r.{name}" for name in by)
        table = "dimensions" if "combination" in by else "rollups"
        for meter in meters:
            rows: list[Any] = (
                self._db()
                .execute(
                    f"""{DAYS}
                SELECT {where.columns(by)}, sum(r.events), sum(r.units / {NANOS}), sum(r.units % {NANOS}), sum(r.nanos)
                {where.source(table)}{f" GROUP BY {group}" if by else ""}""",
                    {**where.values, "meter": meter},
                )
                .fetchall()
            )
            for cell, customer_of, subject_of, combination, events, billions, units, nanos in rows:
                if events is not None:
                    yield CellRow(
                        start_s if cell is None else cell,
                        *where.names(customer_of, subject_of, combination),
                        events,
                        billions * NANOS + units,
                        nanos,
                    )

    def kept(
        self,
        environment: str,
        meters: list[int],
        aggregation: Aggregation,
        start_s: int,
        end_s: int,
        *,
        customer: str | None = None,
        subject: str | None = None,
        by: tuple[str, ...] = (),
    ) -> Iterator[KeptRow]:
        """The value that stays of some max, min or latest meters; otherwise as `sums`."""
        where = self._where(environment, start_s, end_s, customer, subject)
        if where is None:
            return
        parts = f"PARTITION BY {', '.join(f'r.{name}' for name in by)} " if by else ""
        for meter in meters:
            rows: list[Any] = (
                self._db()
                .execute(
                    f"""{DAYS}
                SELECT cell, customer, subject, combination, units, nanos, time, seq FROM (
                    SELECT {where.columns(by)}, r.units AS units, r.nanos AS nanos, r.time AS time, r.seq AS seq,
                        row_number() OVER ({parts}ORDER BY {STAYS_FIRST[aggregation]}) AS place
                    {where.source("kept")}
                ) WHERE place = 1""",  # noqa: S608 - constants only
                    {**where.values, "meter": meter},
                )
                .fetchall()
            )
            for cell, customer_of, subject_of, combination, units, nanos, time, seq in rows:
                yield KeptRow(
                    start_s if cell is None else cell,
                    *where.names(customer_of, subject_of, combination),
                    rank(aggregation, units * NANOS + nanos, time, seq),
                )

    def distinct(
        self,
        environment: str,
        meters: list[int],
        start_s: int,
        end_s: int,
        *,
        customer: str | None = None,
        subject: str | None = None,
        by: tuple[str, ...] = (),
        dimensions: tuple[int, ...] = (),
    ) -> Iterator[DistinctRow]:
        """How many values of each customer were seen, by any of `customer` and `subject` and by the dimensions of these places."""
        where = self._where(environment, start_s, end_s, customer, subject)
        if where is None:
            return
        texts = [f"json_extract({COMBINATION_TEXT}, '$[{place}]') AS d{place}" for place in dimensions]
        chosen = ", ".join([*(f"r.{name} AS {name}" for name in by), *texts])
        group = ", ".join([*by, *(f"d{place}" for place in dimensions)])
        columns = ", ".join(name if name in by else "NULL" for name in ("customer", "subject"))
        texts = [f", d{place}" for place in dimensions]
        for meter in meters:
            rows: list[Any] = (
                self._db()
                .execute(
                    f"""{DAYS}
                SELECT {columns}{"".join(texts)}, count(*) FROM (
                    SELECT DISTINCT {chosen}{"," if chosen else ""} r.customer AS of_customer, r.value {where.source("seen")}
                ){f" GROUP BY {group}" if group else ""}""",  # noqa: S608 - constants only
                    {**where.values, "meter": meter},
                )
                .fetchall()
            )
            for customer_of, subject_of, *values, count in rows:
                names = where.names(customer_of, subject_of, None)
                yield DistinctRow(names[0], names[1], tuple(values), count)

    def _where(
        self, environment: str, start_s: int, end_s: int, customer: str | None, subject: str | None
    ) -> _Where | None:
        """None when there is no such customer or subject, so no usage."""
        db = self._db()
        customer_number = subject_number = None
        if customer is not None and (customer_number := self._number(db, "c", customer)) is None:
            return None
        if subject is not None and (subject_number := self._number(db, "u", subject)) is None:
            return None
        return _Where(self, db, environment, start_s, end_s, customer_number, subject_number)

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
               WHERE m.environment = ? AND m.day >= ? AND m.events > 0 GROUP BY t.name, s.name ORDER BY 3 DESC, 1, 2 LIMIT 1000""",
            (int(environment == "test"), since_s // 86400),
        )
        return [UnmatchedType(*row) for row in rows]

    def events(self, after_seq: int = 0, limit: int | None = None) -> Iterator[LoggedEvent]:
        """The events of the log in order, each with what became of it since."""
        db = self._db()
        names: dict[int, str] = {}

        def name(number: int) -> str:
            if number not in names:
                if len(names) > 100_000:
                    names.clear()
                names[number] = str(db.execute("SELECT name FROM names WHERE number = ?", (number,)).get)
            return names[number]

        rows: Any = db.cursor().execute(EVENTS, (after_seq, -1 if limit is None else limit))
        for seq, time, delay, flags, source, type, subject, customer, epoch, quantity, id, data, *corrected in rows:
            kind, correction, amended = corrected
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
                {None: "active", AMEND: "amended", VOID: "voided"}[kind],
                correction,
                amended,
            )

    def touched(self, after_seq: int, most: int) -> tuple[list[Touched], int]:
        """What the rows of the log in (after_seq, after_seq + most] may have changed, corrections included; the last one looked at."""
        return touched(self._db(), after_seq, most)

    def is_cut(self, environment: int, customer: str, at: int) -> bool:
        """Whether a customer's cells are divided at an instant (s)."""
        return (
            self._db()
            .execute(
                """SELECT 1 FROM cuts WHERE environment = ? AND at = ?
                AND customer = (SELECT number FROM names WHERE kind = 'c' AND name = ?)""",
                (environment, at, customer),
            )
            .get
            is not None
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


class _Where:
    """Which rows of a table that is folded by day, and the names of what they are grouped by."""

    def __init__(
        self,
        reader: UsageReader,
        db: apsw.Connection,
        environment: str,
        start_s: int,
        end_s: int,
        customer: int | None,
        subject: int | None,
    ) -> None:
        self._name = partial(reader._name, db, {})
        self.values = {
            "first": start_s // 86400,
            "last": max(end_s - 1, start_s) // 86400,
            "environment": int(environment == "test"),
            "customer": customer,
            "subject": subject,
            "start": start_s,
            "end": end_s,
        }

    def columns(self, by: tuple[str, ...]) -> str:
        """Four of them; NULL for what is not asked for."""
        names = ("cell", "customer", "subject", "combination")
        return ", ".join(f"r.{name} AS {name}" if name in by else f"NULL AS {name}" for name in names)

    def source(self, table: str) -> str:
        seek = " AND r.customer = :customer" if self.values["customer"] is not None else ""
        also = " AND r.subject = :subject" if self.values["subject"] is not None else ""
        return f"""FROM days CROSS JOIN {table} r
            ON r.day = days.day AND r.environment = :environment{seek} AND r.meter = :meter{also}
            WHERE r.cell >= :start AND r.cell < :end"""

    def names(
        self, customer: int | None, subject: int | None, combination: int | None
    ) -> tuple[str | None, str | None, str | None]:
        return (
            self._name(customer),
            OTHER if subject == -1 else self._name(subject),
            OTHER if combination == -1 else self._name(combination),
        )
