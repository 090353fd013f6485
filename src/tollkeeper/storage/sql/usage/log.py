"""The usage log: dedupe, append and fold in one transaction. Used by the writer thread alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from tollkeeper.core.events import (
    AMEND,
    CHECK_SOURCE,
    GATE,
    TEXT,
    UUID_RANDOM,
    Extra,
    FoldTuple,
    LogRow,
    Outcome,
    digest_id,
    pack_id,
    unpack_id,
)
from tollkeeper.core.metering import CELL_SECONDS, NANOS
from tollkeeper.storage.sql.usage.extras import CombinationCap, Extras
from tollkeeper.storage.sql.usage.random_ids import RandomIds
from tollkeeper.storage.sql.usage.subjects import SubjectCap

INSERT_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_TIMED = "INSERT INTO timed_ids VALUES (?, ?) ON CONFLICT DO NOTHING"
UPSERT_ROLLUP = """
INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET events = events + excluded.events, units = units + excluded.units, nanos = nanos + excluded.nanos
"""
UPSERT_UNMATCHED = """
INSERT INTO unmatched VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET events = events + excluded.events, last_seq = excluded.last_seq
"""
# what counts of it now may be sent again, as what was sent at first may
AMENDED_TO = f"""
SELECT 1 FROM corrected c JOIN events x ON x.seq = c.seq WHERE c.event = ? AND x.flags >> 1 = {AMEND} AND x.data = ?
"""  # noqa: S608 - constants only
DAY_US = 86_400_000_000
QUARTER_US = CELL_SECONDS * 1_000_000

NamesCache = dict[str, int]


def timed_key(id: bytes, source: int, flags: int) -> bytes:
    """The key in `timed_ids` of an id that carries its time."""
    suffix = source << 4 | flags
    return id + suffix.to_bytes((suffix.bit_length() + 7) // 8 or 1, "big")


class UsageLog:
    """Appends groups of rows. `append` is one transaction: either every answer in it holds for ever, or it raises and nothing happened."""

    def __init__(
        self,
        db: apsw.Connection,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        random_ids: RandomIds | None = None,
    ) -> None:
        self.db = db
        self._now_us = now_us
        self._execute = db.execute
        self._executemany = db.executemany
        self._names: dict[str, NamesCache] = {"s": {}, "t": {}, "u": {}, "c": {}, "d": {}}
        self._random = random_ids or RandomIds(db)
        self._subjects = SubjectCap(db)
        self._combinations = CombinationCap(db)
        self._cut_quarters: set[int] = set()
        if self._one("SELECT 1 FROM sqlite_schema WHERE name = 'cuts'"):
            rows = self._execute(f"SELECT DISTINCT at / {CELL_SECONDS} FROM cuts")  # noqa: S608 - constants only
            self._cut_quarters.update(row[0] for row in rows)
        self._transaction_rows: list[LogRow] = []
        self.last_seq: int = self._one("SELECT coalesce(max(seq), 0) FROM events")
        self._replay_tail()

    def _one(self, sql: str, args: Sequence[Any] = ()) -> Any:
        row = self._execute(sql, args).fetchone()
        return row[0] if row else None

    def _replay_tail(self) -> None:
        """Random ids that were logged but are in no run yet: the log is their only record."""
        sources: dict[int, str] = dict(self._execute("SELECT number, name FROM names WHERE kind = 's'"))
        rows = self._execute(
            "SELECT seq, flags, source, id FROM events WHERE seq > ? ORDER BY seq", (self._random.covered_seq,)
        )
        self._random.replay(
            (
                (digest_id(flags & 1, sources[source], unpack_id(flags >> 1, id)), seq)
                for seq, flags, source, id in rows
                if flags >> 1 in (TEXT, UUID_RANDOM)
            ),
            self.last_seq,
        )

    # names

    def _number(self, kind: str, name: str | None) -> int:
        if name is None:
            return 0
        cache = self._names[kind]
        number = cache.get(name)
        if number is None:
            number = self._one("SELECT number FROM names WHERE kind = ? AND name = ?", (kind, name))
            if number is None:
                self._execute("INSERT INTO names (kind, name) VALUES (?, ?)", (kind, name))
                number = self.db.last_insert_rowid()
            if len(cache) > 200_000:
                cache.clear()
            cache[name] = number
        return int(number)

    # the transaction

    def append(self, groups: Sequence[Sequence[LogRow]]) -> list[list[Outcome] | None]:
        """Dedupe, log and fold the rows of every group; the answers in the same shape, None for a group that was accepted whole.

        Raises apsw errors as they come; then nothing was written and nothing is remembered.
        """
        self._execute("BEGIN IMMEDIATE")
        try:
            answers, last_seq = self._append(groups)
            while self._random.step():
                pass
            self._execute("COMMIT")
        except BaseException:
            self._forget()
            raise
        self.last_seq = last_seq
        self._random.committed(last_seq)
        return answers

    @contextmanager
    def transaction(self) -> Iterator[RandomIds]:
        """Other work on the log's tables, all of it or none. Gives the index of random ids, which is part of it."""
        self._execute("BEGIN IMMEDIATE")
        try:
            yield self._random
            self._execute("COMMIT")
        except BaseException:
            self._forget()
            raise

    def corrected(self, last_seq: int) -> None:
        """A transaction of corrections is durable; `last_seq` is the log's last sequence number now."""
        self.last_seq = last_seq
        self._random.committed(last_seq)

    def _forget(self) -> None:
        for cache in self._names.values():
            cache.clear()  # numbers given in the lost transaction
        self._subjects.forget()
        self._combinations.forget()
        if self.db.in_transaction:
            self._execute("ROLLBACK")
        self._random.rolled_back()

    def _append(self, groups: Sequence[Sequence[LogRow]]) -> tuple[list[list[Outcome] | None], int]:
        number = self._number
        names = self._names
        sources, types, subjects, customers = names["s"], names["t"], names["u"], names["c"]
        now = self._now_us()
        seq = self.last_seq
        events: list[tuple[Any, ...]] = []
        kept: list[LogRow] = []
        self._transaction_rows = kept
        rollups: dict[tuple[int, int, int, int, int, int], list[int]] = {}
        unmatched: dict[tuple[int, int, int, int], list[int]] = {}
        more: Extras | None = None
        answers: list[list[Outcome] | None] = []
        cut_quarters = self._cut_quarters
        for rows in groups:
            fresh: list[Outcome] | None = None
            if rows and rows[0][0] >> 1 != GATE:
                fresh, rows = self._dedupe(rows, seq)
            else:
                kept.extend(rows)
            answers.append(fresh)
            for flags, source, id, _, type, subject, customer, at, quantity, data, folds, epoch, extras in rows:
                seq += 1
                source_number = sources.get(source) or number("s", source)
                type_number = types.get(type) or number("t", type)
                subject_number = 0 if subject is None else subjects.get(subject) or number("u", subject)
                customer_number = customers.get(customer) or number("c", customer)
                events.append(
                    (
                        seq,
                        at,
                        (now - at) // 1000,
                        flags,
                        source_number,
                        type_number,
                        subject_number,
                        customer_number,
                        epoch,
                        quantity,
                        id,
                        data,
                    )
                )
                if cut_quarters and at // QUARTER_US in cut_quarters and folds:
                    folds, extras = self._divided(flags & 1, customer_number, at, folds, extras)
                if not folds:
                    where = (at // DAY_US, flags & 1, type_number, source_number)
                    seen = unmatched.setdefault(where, [0, 0])
                    seen[0] += 1
                    seen[1] = seq
                if subject_number and flags >> 1 != GATE and folds and source != CHECK_SOURCE:
                    day = folds[0][1] // 86400
                    subject_number = self._subjects.fold(day, flags & 1, customer_number, subject_number)
                for meter, cell, units, nanos in folds:
                    key = (cell // 86400, flags & 1, customer_number, meter, subject_number, cell)
                    total = rollups.get(key)
                    if total is None:
                        rollups[key] = [1, units, nanos]
                    else:
                        total[0] += 1
                        total[1] += units
                        total[2] += nanos
                if extras:
                    if more is None:
                        more = Extras(self._combinations, number)
                    more.add(flags & 1, customer_number, subject_number, at, seq, extras)
        if events:
            self._executemany(INSERT_EVENT, events)
            self._executemany(
                UPSERT_ROLLUP, [(*key, e, u + n // NANOS, n % NANOS) for key, (e, u, n) in sorted(rollups.items())]
            )
            if more is not None:
                more.write(self._executemany)
            if unmatched:
                self._executemany(UPSERT_UNMATCHED, [(*key, *seen) for key, seen in unmatched.items()])
        return answers, seq

    def cut_of(self, environment: int, customer: int, second: int) -> int:
        """The last instant (s) at or before `second`, in its quarter of an hour, at which a customer's cells are divided; 0: none."""
        quarter = second - second % CELL_SECONDS
        if quarter // CELL_SECONDS not in self._cut_quarters:
            return 0
        sql = "SELECT max(at) FROM cuts WHERE environment = ? AND customer = ? AND at > ? AND at <= ?"
        return int(self._one(sql, (environment, customer, quarter, second)) or 0)

    def _divided(
        self,
        environment: int,
        customer: int,
        at: int,
        folds: tuple[FoldTuple, ...],
        extras: tuple[Extra, ...],
    ) -> tuple[tuple[FoldTuple, ...], tuple[Extra, ...]]:
        """What an event adds, in the cell on its side of its customer's cuts."""
        cut = self.cut_of(environment, customer, at // 1_000_000)
        if not cut:
            return folds, extras
        return (
            tuple((meter, max(cell, cut), units, nanos) for meter, cell, units, nanos in folds),
            tuple(extra._replace(cell=max(extra.cell, cut)) for extra in extras),
        )

    def cut_made(self, quarter: int) -> None:
        """A customer's cells are divided within the quarter of an hour that begins at `quarter` (s)."""
        self._cut_quarters.add(quarter // CELL_SECONDS)

    # dedupe

    def _dedupe(self, rows: Sequence[LogRow], last_seq: int) -> tuple[list[Outcome] | None, Sequence[LogRow]]:
        """Answer each row of one batch (None: all accepted) and keep those that count. Sequences are given in order after `last_seq`."""
        sources = self._names["s"]
        timed: list[tuple[bytes, int]] = []
        seq = last_seq
        plain = True
        for row in rows:
            if row[3] is not None:
                plain = False
                break
            seq += 1
            timed.append((self._timed_key(row, sources), seq))
        if plain:
            # the common case: nothing seen before, so one statement both asks and records
            before = self.db.total_changes()
            self._execute("SAVEPOINT timed")
            self._executemany(INSERT_TIMED, timed)
            if self.db.total_changes() - before == len(timed):
                self._execute("RELEASE timed")
                self._transaction_rows.extend(rows)
                return None, rows
            self._execute("ROLLBACK TO timed")
            self._execute("RELEASE timed")
        return self._dedupe_each(rows, last_seq)

    def _timed_key(self, row: LogRow, sources: NamesCache) -> bytes:
        id = row[2]
        assert isinstance(id, bytes)
        return timed_key(id, sources.get(row[1]) or self._number("s", row[1]), row[0])

    def _dedupe_each(self, rows: Sequence[LogRow], last_seq: int) -> tuple[list[Outcome], list[LogRow]]:
        outcomes: list[Outcome] = []
        kept: list[LogRow] = []
        transaction_rows = self._transaction_rows
        sources = self._names["s"]
        digests = [row[3] for row in rows if row[3] is not None]
        random_known = self._random.find_many(digests)
        seq = last_seq
        for row in rows:
            digest = row[3]
            if digest is not None:
                known = random_known.get(digest)
                key = digest
            else:
                key = self._timed_key(row, sources)
                known = self._one("SELECT seq FROM timed_ids WHERE key = ?", (key,))
            if known is not None:
                if known > self.last_seq:
                    same = self._same(transaction_rows[known - self.last_seq - 1], row)
                else:
                    same = self._same_as_logged(known, row)
                outcomes.append(Outcome("duplicate" if same else "conflict", known))
                continue
            seq += 1
            if digest is not None:
                self._random.add(digest, seq)
                random_known[digest] = seq
            else:
                self._execute(INSERT_TIMED, (key, seq))
            transaction_rows.append(row)
            kept.append(row)
            outcomes.append(Outcome("accepted", seq))
        return outcomes, kept

    def seq_of(self, environment: int, source: str, id: str) -> int | None:
        """The sequence of an event from outside, or of a check whose caller gave the id; the event may be gone since."""
        kind, stored = pack_id(id)
        if kind in (TEXT, UUID_RANDOM):
            return self._random.find(digest_id(environment, source, id))
        number = self._one("SELECT number FROM names WHERE kind = 's' AND name = ?", (source,))
        assert isinstance(stored, bytes)
        if number is None:
            return None
        found = self._one(
            "SELECT seq FROM timed_ids WHERE key = ?", (timed_key(stored, number, kind << 1 | environment),)
        )
        return None if found is None else int(found)

    def known(self, row: LogRow) -> Outcome | None:
        """Whether the id of a row from outside was logged before, and with the same content. Writes nothing."""
        digest = row[3]
        if digest is not None:
            seq = self._random.find_many([digest]).get(digest)
        else:
            source = self._one("SELECT number FROM names WHERE kind = 's' AND name = ?", (row[1],))
            assert isinstance(row[2], bytes)
            found = source and self._one(
                "SELECT seq FROM timed_ids WHERE key = ?", (timed_key(row[2], source, row[0]),)
            )
            seq = found or None
        if seq is None:
            return None
        return Outcome("duplicate" if self._same_as_logged(seq, row) else "conflict", seq)

    @staticmethod
    def _same(a: LogRow, b: LogRow) -> bool:
        """The fingerprint: type, subject, customer, quantity and canonical data."""
        return (a[4], a[5], a[6], a[8], a[9]) == (b[4], b[5], b[6], b[8], b[9])

    def _same_as_logged(self, seq: int, row: LogRow) -> bool:
        logged = self._execute(
            "SELECT type, subject, customer, quantity, data FROM events WHERE seq = ?", (seq,)
        ).fetchone()
        if logged is None:
            return True  # the log was compacted past it; the id is still known, so it counted
        type, subject, customer, quantity, data = logged
        return bool(
            type == self._number("t", row[4])
            and subject == self._number("u", row[5])
            and customer == self._number("c", row[6])
            and quantity == row[8]
            and (data == row[9] or self._one(AMENDED_TO, (seq, row[9])) is not None)
        )
