"""The dedupe index for random event ids, at a cost an id that hardly grows with how many are stored.

A B-tree on random keys touches another page for every id. This is a log-structured merge tree whose truth is the usage log: ids
are kept in memory until there are enough for a sorted run on disk; four runs of a level become one of the next; each run has a
Bloom filter in memory, and its disk pages are asked only when the filter passes. O'Neil, Cheng, Gawlick, O'Neil, "The
Log-Structured Merge-Tree" (1996); tiered, as runs then are also partitions by arrival, and the oldest can be dropped whole.

Nothing here commits. The owner calls, from one thread:

    BEGIN; find_many, add, `while step(): pass`; COMMIT; then committed(last_seq), or rolled_back() if it failed

and after opening `replay` with the random ids of the log above `covered_seq`, as those were in memory only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw

from tollkeeper.storage.sql.usage import random_ids_runs as runs
from tollkeeper.storage.sql.usage.filters import Filter, Probe
from tollkeeper.storage.sql.usage.random_ids_runs import Flush, Merge, Run

FAN_IN = 4  # runs of a level that become one of the next
SPAN = 4  # times flush_at: how far the log may be ahead of covered_seq when random ids are rare


class RandomIds:
    """Digests (16 uniform bytes) of ids, each with the sequence number of the event that brought it first (below 2**40)."""

    SCHEMA = runs.SCHEMA

    def __init__(
        self,
        db: apsw.Connection,
        *,
        flush_at: int = 98_304,
        segment_records: int | None = None,
        step_records: int = 4096,
    ) -> None:
        """Creates nothing; reads the runs and their filters. At `flush_at` ids in memory a run is begun: it bounds what
        `replay` has to do. A segment is as many records as fit a page. A step handles about `step_records`."""
        self._db = db
        self._flush_at = flush_at
        self._segment_records = segment_records or runs.records_in_a_page(db)
        self._step_records = step_records
        self._fresh: dict[bytes, int] = {}
        self._kept = 0  # of those, committed
        self._frozen: dict[bytes, int] = {}
        self._frozen_seq = 0
        self._flush: Flush | None = None
        self._flushed = False
        self._merges: dict[int, Merge] = {}
        self._credit = 0
        self._last_seq = 0
        self._runs: dict[int, Run] = {}
        self._stale = False
        self._read_runs()

    @property
    def covered_seq(self) -> int:
        """Every random id with a sequence number up to this is in a run."""
        return self._covered_seq

    def replay(self, tail: Iterable[tuple[bytes, int]], last_seq: int) -> None:
        """After opening: (digest, seq) of every random id above `covered_seq`, ascending, and the log's last sequence number."""
        self._fresh.update(tail)
        self._settle(last_seq)

    def find(self, digest: bytes) -> int | None:
        """The sequence number of the first event with this id, or None. Retention may have removed that event since."""
        return self.find_many((digest,)).get(digest)

    def find_many(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """`find` for many at once, which costs far less each; those not stored are left out. Sees the open transaction's."""
        self._be_current()
        fresh, frozen = self._fresh, self._frozen
        found: dict[bytes, int] = {}
        rest: Sequence[bytes] = digests
        if not (fresh.keys().isdisjoint(digests) and frozen.keys().isdisjoint(digests)):
            rest = []
            for digest in digests:
                seq = fresh.get(digest, frozen.get(digest))
                if seq is None:
                    rest.append(digest)
                else:
                    found[digest] = seq
        if not rest or not self._by_shift:
            return found
        probe = Probe(rest)
        for shift, searched in self._by_shift.items():
            words = probe.words(shift)
            for run in searched:
                for position in probe.hits(words(run.filter.words)):
                    seq = run.lookup(self._db, rest[position])
                    if seq is not None:
                        found[rest[position]] = seq
        return found

    def add(self, digest: bytes, seq: int) -> None:
        """A digest that `find` did not find; `seq` ascends."""
        self._fresh[digest] = seq

    def committed(self, last_seq: int) -> None:
        """The transaction is durable; `last_seq` is the log's last sequence number, of whatever kind of id."""
        if self._flushed:
            self._frozen = {}
            self._flushed = False
        added = len(self._fresh) - self._kept
        if added:
            self._credit += self._pace() * added
        self._settle(last_seq)

    def rolled_back(self) -> None:
        """The transaction failed, and is over: forgets what was added and every step taken in it.

        Raises when the disk cannot be read even now; what is asked next then reads first, or raises again.
        """
        while len(self._fresh) > self._kept:
            self._fresh.popitem()
        self._flush, self._flushed = None, False
        self._merges = {}
        self._stale = True
        self._read_runs()

    def step(self) -> bool:
        """A bounded piece of flushing, merging and removing, inside the open transaction: whether more is due.

        What is due is proportional to the ids added, at about twice the rate needed, so runs never pile up.
        """
        if self._credit > 0:
            self._be_current()
            work = self._work()
            self._credit = self._credit - work if work else 0
        return self._credit > 0

    def prune(self, before_seq: int) -> None:
        """Drops the runs whose newest sequence number is below `before_seq`; steps remove them from the disk."""
        self._db.execute(
            "UPDATE id_run SET state = 'dropped' WHERE last_seq < ? AND state IN ('live', 'merging')", (before_seq,)
        )
        self._read_runs()

    def remove(self) -> bool:
        """Removes a piece of what was dropped, inside the open transaction: whether more is due. `step` does so only as ids are added."""
        self._be_current()
        return self._remove_piece() > 0

    # ---- memory

    def _settle(self, last_seq: int) -> None:
        self._last_seq = last_seq
        overdue = last_seq - self._covered_seq >= SPAN * self._flush_at
        if not self._frozen and self._fresh and (overdue or len(self._fresh) >= self._flush_at):
            self._frozen, self._frozen_seq = self._fresh, last_seq
            self._fresh = {}
        if overdue:
            self._credit = max(self._credit, self._step_records)
        self._kept = len(self._fresh)

    def _be_current(self) -> None:
        if self._stale:
            self._read_runs()

    def _read_runs(self) -> None:
        """Memory after the tables. Called when they change, also within a transaction, so that finds see what is there."""
        self._stale = True
        self._runs = runs.read_runs(self._db, self._runs)
        self._covered_seq: int = int(self._db.execute("SELECT seq FROM id_covered").get or 0)
        self._merges = {
            number: merge for number, merge in self._merges.items() if self._runs[number].state == "merging"
        }
        self._by_shift: dict[int, list[Run]] = {}
        for run in self._runs.values():
            if run.state == "live":
                self._by_shift.setdefault(run.filter.shift, []).append(run)
        self._stale = False

    def _pace(self) -> int:
        """Records to handle for each id added: twice what flushing (2) and the levels (1 each) need in the long run."""
        return 2 * (3 + max((run.level for run in self._runs.values()), default=0))

    # ---- work inside the transaction: each returns about how many records it handled, 0 when there was nothing to do

    def _work(self) -> int:
        return self._flush_piece() or self._merge_piece() or self._remove_piece() or self._cover()

    def _flush_piece(self) -> int:
        if not self._frozen or self._flushed:
            return 0
        if self._flush is None:
            run = self._new_run("flushing", 0, len(self._frozen), self._frozen_seq)
            self._flush = Flush(self._db, run, self._frozen, self._segment_records)
        handled, complete = self._flush.step(self._step_records)
        if complete:
            self._db.execute("UPDATE id_run SET state = 'live' WHERE run = ?", (self._flush.run.number,))
            self._db.execute("UPDATE id_covered SET seq = ?", (self._frozen_seq,))
            self._flush, self._flushed = None, True
            self._read_runs()
        return handled + 1

    def _merge_piece(self) -> int:
        merge = self._next_merge()
        if merge is None:
            return 0
        handled, complete = merge.step(self._step_records)
        if complete:
            self._db.execute("UPDATE id_run SET state = 'live' WHERE run = ?", (merge.output.number,))
            self._db.execute(
                "UPDATE id_run SET state = 'dropped', merged_into = NULL WHERE merged_into = ?", (merge.output.number,)
            )
            self._read_runs()
        return handled + 1

    def _next_merge(self) -> Merge | None:
        """Of the lowest level that has one under way or enough runs to begin one."""
        free: dict[int, list[Run]] = {}
        outputs: dict[int, Run] = {}
        for run in self._runs.values():
            if run.state == "merging":
                outputs[run.level - 1] = run
            elif run.state == "live" and run.into is None:
                free.setdefault(run.level, []).append(run)
        for level in sorted(free.keys() | outputs.keys()):
            output = outputs.get(level)
            if output is None and len(free[level]) >= FAN_IN:
                output = self._begin_merge(free[level][:FAN_IN])
            if output is not None:
                if output.number not in self._merges:
                    inputs = [run for run in self._runs.values() if run.into is output]
                    self._merges[output.number] = Merge(self._db, output, inputs, self._segment_records)
                return self._merges[output.number]
        return None

    def _begin_merge(self, inputs: list[Run]) -> Run:
        records = sum(run.records for run in inputs)
        output = self._new_run("merging", inputs[0].level + 1, records, max(run.last_seq for run in inputs))
        for run in inputs:
            self._db.execute("UPDATE id_run SET merged_into = ? WHERE run = ?", (output.number, run.number))
        self._read_runs()
        return output

    def _new_run(self, state: str, level: int, records: int, last_seq: int) -> Run:
        self._db.execute(
            "INSERT INTO id_run (state, level, records, last_seq) VALUES (?, ?, ?, ?)",
            (state, level, records, last_seq),
        )
        number = self._db.last_insert_rowid()
        run = Run(number, state, level, records, last_seq, b"", None, Filter(records))
        self._runs[number] = run
        return run

    def _remove_piece(self) -> int:
        """Rows of runs that were merged away or dropped, or whose flush ended with the process."""
        for run in self._runs.values():
            if run.state == "dropped" or (
                run.state == "flushing" and (self._flush is None or run is not self._flush.run)
            ):
                handled = runs.remove_piece(self._db, run)
                if not handled:
                    self._read_runs()
                return handled * 16 + 1
        return 0

    def _cover(self) -> int:
        if not self._frozen and not self._fresh and self._last_seq - self._covered_seq >= SPAN * self._flush_at:
            self._db.execute("UPDATE id_covered SET seq = ?", (self._last_seq,))
            self._read_runs()
            return 1
        return 0
