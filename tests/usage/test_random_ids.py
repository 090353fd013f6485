"""The dedupe index for random ids, against a dict."""

from __future__ import annotations

import contextlib
import hashlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tollkeeper.storage.sql.usage import filters
from tollkeeper.storage.sql.usage.random_ids import FAN_IN, SPAN, RandomIds


def uniform(number: int) -> bytes:
    return hashlib.blake2b(number.to_bytes(8, "big", signed=True), digest_size=16).digest()


def opened(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.execute("PRAGMA page_size = 8192")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    return db


def created(path: Path) -> apsw.Connection:
    db = opened(path)
    db.execute(RandomIds.SCHEMA)
    return db


def turn(db: apsw.Connection, ids: RandomIds, pairs: Iterable[tuple[bytes, int]], last_seq: int) -> None:
    """One transaction, with every step that is due."""
    db.execute("BEGIN")
    for digest, seq in pairs:
        ids.add(digest, seq)
    while ids.step():
        pass
    db.execute("COMMIT")
    ids.committed(last_seq)


def store(db: apsw.Connection, ids: RandomIds, pairs: list[tuple[bytes, int]], batch: int = 1000) -> None:
    for at in range(0, len(pairs), batch):
        turn(db, ids, pairs[at : at + batch], pairs[at : at + batch][-1][1])


def flushed(db: apsw.Connection, ids: RandomIds, pairs: list[tuple[bytes, int]]) -> None:
    """Four runs, and no merge begun. A flush begins again after a rollback or a crash, where a merge goes on."""
    size = len(pairs) // FAN_IN
    for at in range(0, len(pairs), size):
        turn(db, ids, pairs[at : at + size], at + size)
        while ids.covered_seq < at + size:
            ids._credit = 1
            turn(db, ids, [], at + size)
    ids._credit = 0
    assert states(db) == [("live", 0)] * FAN_IN


def finish(db: apsw.Connection, ids: RandomIds, last_seq: int) -> None:
    """All work there is, due or not."""
    for _ in range(20):
        ids._credit = 1 << 40
        turn(db, ids, [], last_seq)


@contextlib.contextmanager
def failing(db: apsw.Connection, after: int) -> Iterator[None]:
    """Every statement fails from the one after the next `after`."""
    count = iter(range(after))
    db.exec_trace = lambda *_: next(count, None) is not None
    try:
        yield
    finally:
        db.exec_trace = None


def states(db: apsw.Connection) -> list[tuple[str, int]]:
    return db.execute("SELECT state, level FROM id_run ORDER BY run").fetchall()


class Index(RuleBasedStateMachine):
    """Adds, finds, steps, commits, rollbacks, crashes and pruning, with runs, segments, filter parts and steps of a few records."""

    @initialize(part_words=st.sampled_from([1, 2, 64]), segment=st.integers(1, 4), step=st.integers(1, 9))
    def begin(self, part_words: int, segment: int, step: int) -> None:
        self.kept_part_words = filters.PART_WORDS
        filters.PART_WORDS = part_words
        self.sizes = {"flush_at": 8, "segment_records": segment, "step_records": step}
        self.directory = TemporaryDirectory()
        self.path = Path(self.directory.name) / "ids.db"
        self.db = created(self.path)
        self.ids = RandomIds(self.db, **self.sizes)
        self.asked: list[bytes] = []  # every digest ever added
        self.stored: dict[bytes, int] = {}  # what must be found
        self.old: dict[bytes, int] = {}  # pruned: found as this or not at all
        self.log: list[tuple[bytes, int]] = []
        self.seq = 0
        self.db.execute("BEGIN")
        self.keep()

    def keep(self) -> None:
        self.committed = (dict(self.stored), dict(self.old), list(self.log), self.seq)

    def back(self) -> None:
        stored, old, log, self.seq = self.committed
        self.stored, self.old, self.log = dict(stored), dict(old), list(log)

    @rule(
        count=st.integers(1, 25), kind=st.sampled_from(["uniform", "first", "last", "middle"]), others=st.integers(0, 3)
    )
    def add(self, count: int, kind: str, others: int) -> None:
        for _ in range(count):
            number = len(self.asked).to_bytes(4, "big")
            digest = {
                "uniform": uniform(len(self.asked)),
                "first": bytes(12) + number,
                "last": b"\xff" * 12 + number,
                "middle": b"\x80" * 5 + number + bytes(7),
            }[kind]
            self.seq += 1
            self.asked.append(digest)
            self.ids.add(digest, self.seq)
            self.stored[digest] = self.seq
            self.log.append((digest, self.seq))
        self.seq += others

    @rule(which=st.integers(min_value=0))
    def add_again_what_was_pruned(self, which: int) -> None:
        gone = [digest for digest in self.old if self.ids.find(digest) is None]
        if gone:
            digest = gone[which % len(gone)]
            del self.old[digest]
            self.seq += 1
            self.ids.add(digest, self.seq)
            self.stored[digest] = self.seq
            self.log.append((digest, self.seq))

    @rule(most=st.integers(0, 15))
    def step(self, most: int) -> None:
        self.ids._credit = 1 << 20  # when it is done must not matter
        for _ in range(most):
            if not self.ids.step():
                break

    @rule(
        turns=st.lists(
            st.tuples(st.integers(1, 12), st.integers(0, 9), st.sampled_from(["commit"] * 4 + ["roll_back", "crash"])),
            max_size=12,
        )
    )
    def turns(self, turns: list[tuple[int, int, str]]) -> None:
        for count, steps, end in turns:
            self.add(count, "uniform", 0)
            self.step(steps)
            getattr(self, end)()
            self.every_id_is_found_with_its_first_sequence_number()

    @rule()
    def commit(self) -> None:
        self.db.execute("COMMIT")
        self.ids.committed(self.seq)
        self.keep()
        self.db.execute("BEGIN")

    @rule(others=st.integers(1, 60))
    def commit_after_other_events(self, others: int) -> None:
        self.seq += others
        self.commit()

    @rule()
    def roll_back(self) -> None:
        self.db.execute("ROLLBACK")
        self.ids.rolled_back()
        self.back()
        self.db.execute("BEGIN")

    @rule()
    def crash(self) -> None:
        self.db.close()
        self.back()
        self.db = opened(self.path)
        self.ids = RandomIds(self.db, **self.sizes)
        self.ids.replay([(digest, seq) for digest, seq in self.log if seq > self.ids.covered_seq], self.seq)
        self.db.execute("BEGIN")

    @rule(after=st.integers(0, 40), reads_fail=st.integers(0, 3))
    def fail(self, after: int, reads_fail: int) -> None:
        """The disk fails in the middle of a step, and perhaps still when the index looks what is there."""
        self.ids._credit = 1 << 20
        with failing(self.db, after), contextlib.suppress(apsw.ExecTraceAbort):
            while self.ids.step():
                pass
        self.db.execute("ROLLBACK")
        with failing(self.db, reads_fail), contextlib.suppress(apsw.ExecTraceAbort):
            self.ids.rolled_back()
        self.back()
        self.db.execute("BEGIN")

    @rule()
    def remove(self) -> None:
        self.ids.remove()

    @rule(part=st.floats(0, 1))
    def prune(self, part: float) -> None:
        before = int(part * self.seq)
        self.ids.prune(before)
        for digest in [digest for digest, seq in self.stored.items() if seq < before]:
            self.old[digest] = self.stored.pop(digest)

    @invariant()
    def every_id_is_found_with_its_first_sequence_number(self) -> None:
        if hasattr(self, "ids"):
            found = self.ids.find_many([*self.asked, *map(uniform, range(-100, 0))])
            assert found == self.stored | {digest: seq for digest, seq in self.old.items() if digest in found}

    def teardown(self) -> None:
        if hasattr(self, "ids"):
            filters.PART_WORDS = self.kept_part_words
            self.db.close()
            self.directory.cleanup()


TestIndex = Index.TestCase
TestIndex.settings = settings(max_examples=60, stateful_step_count=30)


@pytest.mark.parametrize("every", [1, 2, 5, 13])
def test_a_merge_goes_on_after_a_crash_at_any_step(tmp_path: Path, every: int) -> None:
    path = tmp_path / "ids.db"
    db = created(path)
    ids = RandomIds(db, flush_at=16_000)
    pairs = [(uniform(n), n + 1) for n in range(64_000)]
    last = len(pairs)
    flushed(db, ids, pairs)
    merging = 0
    while states(db) != [("live", 1)]:
        db.close()
        db = opened(path)
        ids = RandomIds(db, flush_at=16_000)
        ids.replay(pairs[ids.covered_seq :], last)
        merging += ("merging", 1) in states(db)
        asked = pairs[merging % 97 :: 97]
        assert ids.find_many([digest for digest, _ in asked]) == dict(asked)
        ids._credit = 1 << 30
        db.execute("BEGIN")
        for _ in range(every):
            ids.step()
        db.execute("COMMIT")
        ids.committed(last)
    assert merging >= 16 // every
    assert ids.find_many([digest for digest, _ in pairs]) == dict(pairs)
    assert ids.find_many([uniform(n) for n in range(last, 2 * last)]) == {}


def test_a_step_that_failed_at_any_statement_is_forgotten_even_if_the_disk_cannot_be_read_at_first(
    tmp_path: Path,
) -> None:
    db = created(tmp_path / "ids.db")
    ids = RandomIds(db, flush_at=150, segment_records=3, step_records=40)
    pairs = [(uniform(n), n + 1) for n in range(600)]
    flushed(db, ids, pairs)
    merging = 0
    for after in range(100):
        ids._credit = 1 << 20
        db.execute("BEGIN")
        with failing(db, after % 80), contextlib.suppress(apsw.ExecTraceAbort):
            while ids.step():
                pass
        db.execute("ROLLBACK")
        with failing(db, after % 2), contextlib.suppress(apsw.ExecTraceAbort):
            ids.rolled_back()
        merging += ("merging", 1) in states(db)
        if after % 3:
            assert ids.find_many([digest for digest, _ in pairs]) == dict(pairs)
        ids._credit = 1
        turn(db, ids, [], 600)
        assert ids.find_many([digest for digest, _ in pairs]) == dict(pairs)
    assert merging > 10
    assert states(db) == [("live", 1)]


def test_a_stranger_that_every_filter_passes_is_not_found(tmp_path: Path) -> None:
    db = created(tmp_path / "ids.db")
    ids = RandomIds(db, flush_at=100)
    pairs = [(uniform(n), n + 1) for n in range(2_000)]
    store(db, ids, pairs, batch=50)
    runs = [run for run in ids._runs.values() if run.state == "live"]
    assert len(runs) > 1
    for run in runs:
        run.filter.words = array("Q", bytes(8 * run.filter.size))
    strangers = [uniform(n) for n in range(2_000, 6_000)] + [bytes(16), b"\xff" * 16]
    assert ids.find_many(strangers) == {}
    assert [ids.find(digest) for digest in strangers[:50]] == [None] * 50
    assert ids.find_many([digest for digest, _ in pairs]) == dict(pairs)


def test_bytes_that_lie_across_two_fields_of_a_record_are_not_a_digest(tmp_path: Path) -> None:
    db = created(tmp_path / "ids.db")
    ids = RandomIds(db, flush_at=3)
    seq = 0xABCDEF0123
    first, other = b"\x00" * 5 + b"\x77" * 11, b"\xee" * 16
    across = b"\x77" * 11 + seq.to_bytes(5, "big")  # bytes 5 to 20 of the first record
    for stored in ([(first, seq), (other, seq + 1)], [(first, seq), (other, seq + 1), (across, seq + 2)]):
        turn(db, ids, stored, seq + 2)
        finish(db, ids, seq + 2)
        for run in ids._runs.values():
            run.filter.words = array("Q", bytes(8 * run.filter.size))
        assert ids.find(across) == dict(stored).get(across)
        assert ids.find(first) == seq
        ids.prune(1 << 39)


@pytest.mark.parametrize("top", [bytes(5), b"\x80" * 5, b"\xff" * 5])
def test_digests_that_agree_in_their_first_bits_are_told_apart(tmp_path: Path, top: bytes) -> None:
    db = created(tmp_path / "ids.db")
    ids = RandomIds(db, flush_at=20, segment_records=3, step_records=4)
    pairs = [(top + uniform(n)[5:], n + 1) if n % 9 else (uniform(n), n + 1) for n in range(1_500)]
    store(db, ids, pairs, batch=7)
    assert max(level for _, level in states(db)) >= 2
    assert ids.find_many([digest for digest, _ in pairs]) == dict(pairs)
    assert ids.find_many([top + uniform(n)[5:] for n in range(1_500, 3_000)]) == {}


def test_a_flush_that_a_crash_cut_short_leaves_nothing_behind(tmp_path: Path) -> None:
    db = created(tmp_path / "ids.db")
    ids = RandomIds(db, flush_at=300, step_records=100)
    pairs = [(uniform(n), n + 1) for n in range(300)]
    turn(db, ids, pairs, 300)
    for _ in range(4):
        ids._credit = 1
        turn(db, ids, [], 300)
    assert states(db) == [("flushing", 0)]
    db.close()
    db = opened(tmp_path / "ids.db")
    ids = RandomIds(db, flush_at=300)
    assert ids.covered_seq == 0
    ids.replay(pairs, 300)
    finish(db, ids, 300)
    assert states(db) == [("live", 0)]
    assert db.execute("SELECT count(DISTINCT key >> 36) FROM id_segment").fetchall() == [(1,)]
    assert ids.find_many([digest for digest, _ in pairs]) == dict(pairs)


def test_runs_do_not_pile_up_under_constant_load(tmp_path: Path) -> None:
    for batch in (10, 1_000):
        db = created(tmp_path / f"{batch}.db")
        ids = RandomIds(db, flush_at=100)
        most = 0
        for start in range(0, 40_000, 2_000):
            store(db, ids, [(uniform(n), n + 1) for n in range(start, start + 2_000)], batch)
            most = max(most, sum(state == "live" for state, _ in states(db)))
        levels = max(level for _, level in states(db)) + 1
        assert levels >= 3
        assert most <= levels * (2 * FAN_IN - 1)
        assert 40_000 - ids.covered_seq <= 100 + 2 * max(batch, 100)


def test_a_step_changes_a_bounded_number_of_rows(tmp_path: Path) -> None:
    db = created(tmp_path / "ids.db")
    ids = RandomIds(db, flush_at=2_000, segment_records=16, step_records=256)
    most = 0
    for start in range(0, 50_000, 100):
        db.execute("BEGIN")
        for n in range(start, start + 100):
            ids.add(uniform(n), n + 1)
        more = True
        while more:
            before = db.total_changes()
            more = ids.step()
            most = max(most, db.total_changes() - before)
        db.execute("COMMIT")
        ids.committed(start + 100)
    assert states(db)[0][1] == 2
    assert 2 * 256 // 16 <= most <= 5 * 256 // 16  # segments written and removed, and a few other rows


def test_an_id_takes_less_than_25_bytes_on_disk(tmp_path: Path) -> None:
    db = created(tmp_path / "ids.db")
    ids = RandomIds(db, flush_at=24_576)
    for start in range(0, 98_304, 1_024):
        store(db, ids, [(uniform(n), n + 1) for n in range(start, start + 1_024)], batch=256)
    finish(db, ids, 98_304)
    assert states(db) == [("live", 1)]
    used = "SELECT sum(pgsize) FROM dbstat WHERE aggregate = TRUE AND name IN ('id_segment', 'id_filter')"
    assert db.execute(used).fetchall()[0][0] < 25 * 98_304


def test_rare_random_ids_do_not_hold_back_what_is_covered(tmp_path: Path) -> None:
    db = created(tmp_path / "ids.db")
    ids = RandomIds(db, flush_at=100)
    turn(db, ids, [(uniform(1), 1)], 1)
    for last_seq in range(10, 2_000, 10):
        turn(db, ids, [], last_seq)
        assert last_seq - ids.covered_seq <= (SPAN + 1) * 100
    assert states(db) == [("live", 0)]
    assert ids.find(uniform(1)) == 1
    db.close()
    assert RandomIds(opened(tmp_path / "ids.db"), flush_at=100).find(uniform(1)) == 1


def test_pruning_gives_back_the_pages_and_keeps_what_is_newer(tmp_path: Path) -> None:
    db = created(tmp_path / "ids.db")
    ids = RandomIds(db, flush_at=500)
    pairs = [(uniform(n), n + 1) for n in range(10_000)]
    store(db, ids, pairs, batch=100)
    db.execute("BEGIN")
    ids.prune(9_000)
    db.execute("COMMIT")
    ids.committed(10_000)
    finish(db, ids, 10_000)
    assert not [state for state, _ in states(db) if state == "dropped"]
    held = db.execute("SELECT sum(length(records)) / 21 FROM id_segment").fetchall()[0][0]
    assert held == sum(records for (records,) in db.execute("SELECT records FROM id_run WHERE state = 'live'")) < 5_000
    assert ids.find_many([digest for digest, _ in pairs[9_000:]]) == dict(pairs[9_000:])
    assert ids.find_many([digest for digest, _ in pairs[:2_000]]) == {}
