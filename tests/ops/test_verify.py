from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spine import CATALOG, DAY, SECOND, START, Spine
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.metering import Meter
from tollkeeper.core.refold import MeterHistory, Refold, Row, differences
from tollkeeper.services import verify as verifying
from tollkeeper.services.verify import Verification
from tollkeeper.storage.sql.usage.scan import LogScan
from tollkeeper.storage.sql.usage.subjects import SubjectCap
from tollkeeper.upkeep import verify_database

MORE = """
[meters.completions]
event_type = "llm.completion"
aggregation = "count"
[meters.by_three]
event_type = "llm.completion"
aggregation = "count"
group_by = ["model", "region", "user"]
"""
PLAIN = MORE.partition("[meters.by_three]")[0]
EXTRAS = """
[meters.largest]
event_type = "llm.completion"
aggregation = "max"
value_property = "tokens"
[meters.smallest]
event_type = "llm.completion"
aggregation = "min"
value_property = "tokens"
group_by = ["model"]
[meters.last]
event_type = "llm.completion"
aggregation = "latest"
value_property = "tokens"
group_by = ["region", "model"]
[meters.mean]
event_type = "llm.completion"
aggregation = "avg"
value_property = "tokens"
filters = [{property = "model", one_of = ["a", "b"]}, {property = "region", not_equals = "eu"}]
[meters.users]
event_type = "llm.completion"
aggregation = "unique"
value_property = "user"
group_by = ["model"]
[meters.by_region]
event_type = "api.call"
aggregation = "count"
group_by = ["region"]
"""
"""A meter of every kind that keeps more than a number and a sum."""
DATA = (None, {"tokens": Decimal("0.000000001")}, {"tokens": 5}, {"tokens": "-2.5"})
NOW = datetime.fromtimestamp(START // SECOND, UTC)


def some_data(chance: random.Random) -> dict[str, Any] | None:
    data: dict[str, Any] | None = chance.choice(DATA)
    if data is None:
        return None
    more = {"model": ("a", "b", None, 7), "region": ("eu", "us"), "user": (1, 2, "3", True, "漢")}
    return {**data, **{name: chance.choice(values) for name, values in more.items() if chance.random() < 0.8}}


def busy(spine: Spine, chance: random.Random, extras: str = EXTRAS) -> None:
    """Some weeks of two customers in two environments, with late events, repeats, unmatched ones and a changed catalog."""
    spine.app.catalog.apply(CATALOG + extras)
    customers = [spine.customer("pro", zone="Asia/Kathmandu"), spine.customer("free")]
    keys = [spine.key(c, environment=e) for c in customers for e in ("live", "test")]
    for round_number in range(30):
        spine.time.move(chance.randrange(3 * DAY))
        now = datetime.fromtimestamp(spine.time.now // SECOND, UTC)
        for _ in range(5):
            spine.app.gate.check(chance.choice(keys), "api_calls", chance.choice((1, "2", 3)))
        batch: list[Any] = []
        for _ in range(20):
            number = chance.randrange(400)
            batch.append(
                UsageEvent(
                    str(uuid.UUID(int=number, version=4)) if number % 2 else f"id-{number}",
                    chance.choice(("api.call", "llm.completion", "nobody.counts")),
                    customer=chance.choice(customers),
                    time=now - timedelta(seconds=chance.randrange(20 * 86400)),
                    data=some_data(chance),
                )
            )
        spine.app.ingest.ingest_wait(chance.choice(("live", "test")), batch)
        if round_number == 15:
            spine.app.catalog.apply(CATALOG + extras + (MORE if extras else PLAIN))


def verified(spine: Spine) -> Verification:
    return verify_database(spine.url)


@pytest.mark.parametrize("seed", range(3))
def test_a_busy_log_equals_its_rollups_while_the_owner_has_it_open(spine: Spine, seed: int) -> None:
    busy(spine, random.Random(seed))
    found = verified(spine)
    assert (found.differences, found.shown, found.customers_unknown) == (0, (), 0)
    assert found.events == found.last_seq == sum(1 for _ in spine.app.usage_file.reader.events())
    assert found.rollups > 100


def test_folding_in_pieces_through_the_scratch_file_finds_the_same(
    spine: Spine, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(spine, random.Random(9))
    whole = verified(spine)
    monkeypatch.setattr(verifying, "PIECE", 7)
    monkeypatch.setattr(verifying, "IN_MEMORY", 2)
    assert verified(spine) == whole
    assert whole.ok


TAMPERING = {
    "a changed count": "UPDATE rollups SET events = events + 1 WHERE rowid_of = 1",
    "a changed sum": "UPDATE rollups SET units = units - 1 WHERE rowid_of = 1",
    "a billionth": "UPDATE rollups SET nanos = nanos + 1 WHERE rowid_of = 1",
    "a lost rollup": "DELETE FROM rollups WHERE rowid_of = 1",
    "a lost event": "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events WHERE type = "
    "(SELECT number FROM names WHERE name = 'api.call'))",
    "a moved event": "UPDATE events SET time = time + 7200000000 WHERE seq = (SELECT max(seq) FROM events WHERE type = "
    "(SELECT number FROM names WHERE name = 'api.call'))",
    "a moved cell": "UPDATE rollups SET cell = cell + 1 WHERE rowid_of = 1",
    "an invented rollup": "INSERT INTO rollups SELECT day, environment, customer, meter, 9999, cell, 1, 1, 0 FROM rollups LIMIT 1",
    "another largest value": "UPDATE kept SET nanos = nanos + 1 WHERE seq = (SELECT max(seq) FROM kept)",
    "the largest value of another event": "UPDATE kept SET seq = seq + 1 WHERE seq = (SELECT max(seq) FROM kept)",
    "a lost last value": "DELETE FROM kept WHERE seq = (SELECT max(seq) FROM kept)",
    "a user seen once more": "UPDATE seen SET events = events + 1 WHERE cell = (SELECT max(cell) FROM seen)",
    "a user who never was": "INSERT INTO seen "
    "SELECT day, environment, customer, meter, cell, combination, subject, 'x', 1 FROM seen LIMIT 1",
    "a lost user": "DELETE FROM seen WHERE cell = (SELECT max(cell) FROM seen)",
    "usage of another model": "UPDATE dimensions SET combination = (SELECT max(number) FROM names) "
    "WHERE cell = (SELECT min(cell) FROM dimensions)",
    "a sum of one model": "UPDATE dimensions SET units = units + 1 WHERE cell = (SELECT max(cell) FROM dimensions)",
    "a lost model": "DELETE FROM dimensions WHERE cell = (SELECT max(cell) FROM dimensions)",
    "unmatched events hidden": "DELETE FROM unmatched",
    "unmatched events miscounted": "UPDATE unmatched SET events = events + 1",
}
ONE = "(day, environment, customer, meter, subject, cell) = (SELECT day, environment, customer, meter, subject, cell FROM rollups LIMIT 1)"


@pytest.mark.parametrize("how", TAMPERING)
def test_every_kind_of_tampering_is_found_and_named(spine: Spine, how: str) -> None:
    busy(spine, random.Random(4))
    spine.app.close()
    db = apsw.Connection(str(spine.app.files.usage))
    db.execute(TAMPERING[how].replace("rowid_of = 1", ONE))
    assert db.changes() >= 1
    db.close()
    found = verified(spine)
    assert found.differences >= 1
    assert len(found.shown) == min(found.differences, 20)
    assert all("stored" in line and "the log has" in line for line in found.shown)
    spine.reopen()


def test_a_difference_names_customer_meter_key_and_quarter(spine: Spine) -> None:
    customer = spine.customer("pro")
    key = spine.app.keys.create(customer=customer)
    spine.app.gate.check(key.key, "api_calls", "3")
    spine.app.usage_file.writer.call(lambda log: log.db.execute("UPDATE rollups SET units = 4"))
    cell = NOW.replace(minute=NOW.minute // 15 * 15, second=0)
    cell = max(cell, NOW)  # the purchase was at this very moment, and cuts the quarter
    assert verified(spine).shown == (
        f"live {customer} api_calls {key.record.id} {cell:%Y-%m-%dT%H:%M:%SZ}: stored 1 events, 4, the log has 1 events, 3",
    )


def test_usage_of_a_customer_the_main_file_does_not_know_is_compared_without_its_periods(spine: Spine) -> None:
    """A backup of the main file may be a moment older than the log's."""
    busy(spine, random.Random(2))
    spine.app.close()
    main = spine.app.files.main
    for table in ("api_keys", "subscriptions", "members", "customers"):
        import sqlite3

        connection = sqlite3.connect(main)
        connection.execute(f"DELETE FROM {table}")
        connection.commit()
        connection.close()
    found = verified(spine)
    assert (found.differences, found.customers_unknown) == (0, 2)
    db = apsw.Connection(str(spine.app.files.usage))
    db.execute(TAMPERING["a changed sum"].replace("rowid_of = 1", ONE))
    db.close()
    assert verified(spine).differences == 1
    spine.reopen()


def test_subjects_beyond_the_bound_of_a_day_are_compared_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SubjectCap.__init__, "__defaults__", (3,))
    spine = Spine(tmp_path)
    customer = spine.customer("pro")
    batch: list[Any] = [
        UsageEvent(f"{i}", "api.call", customer=customer, subject=f"visitor-{i % 7}") for i in range(50)
    ]
    spine.app.ingest.ingest_wait("live", batch)
    found = verified(spine)
    assert (found.events, found.differences) == (50, 0)
    spine.app.usage_file.writer.call(
        lambda log: log.db.execute("UPDATE rollups SET units = units + 1 WHERE subject = -1")
    )
    assert verified(spine).differences == 1
    spine.app.close()


def test_what_is_written_while_it_reads_is_no_difference(spine: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    busy(spine, random.Random(5))
    key = spine.key(spine.customer("pro"))
    begin = LogScan.begin

    def begin_and_go_on(scan: LogScan) -> int:
        last = begin(scan)
        for _ in range(50):
            spine.app.gate.check(key, "api_calls")
        return last

    monkeypatch.setattr(LogScan, "begin", begin_and_go_on)
    found = verified(spine)
    assert found.ok
    assert found.last_seq == spine.app.usage_file.reader.last_seq() - 50


def test_an_event_that_cannot_be_folded_is_named(spine: Spine) -> None:
    customer = spine.customer("pro")
    spine.app.ingest.ingest_wait("live", [UsageEvent("a", "llm.completion", customer=customer, data={"tokens": 5})])
    spine.app.usage_file.writer.call(lambda log: log.db.execute("UPDATE events SET data = '{\"tok'"))
    with pytest.raises(Exception, match="event 1: its data cannot be folded"):
        verified(spine)


KEYS = st.tuples(st.integers(0, 3), st.integers(0, 1))
VALUES = st.tuples(st.integers(1, 3), st.integers(0, 2))


@given(st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, VALUES), st.integers(0, 4))
def test_differences_are_those_of_two_dictionaries(stored: Any, refolded: Any, removed_below: int) -> None:
    found = {
        difference.key: (difference.stored, difference.refolded)
        for difference in differences(
            sorted(stored.items()), sorted(refolded.items()), lambda key: key[0] < removed_below
        )
    }
    expected = {}
    for key in stored.keys() | refolded.keys():
        a, b = stored.get(key), refolded.get(key)
        if key[0] < removed_below:
            same = b is None or (a is not None and (a == b or a[0] >= b[0]))
        else:
            same = a == b
        if not same:
            expected[key] = (a, b)
    assert found == expected


def test_a_meter_counts_only_in_the_epochs_it_was_in_force() -> None:
    calls = Meter("calls", "call", "count")
    history = MeterHistory([(1, calls, 1, 3), (2, calls, 3, None)])
    assert [[rule.number for rule in history.rules(epoch, "call")] for epoch in (0, 1, 2, 3, 9)] == [
        [],
        [1],
        [1],
        [2],
        [2],
    ]
    assert history.rules(1, "other") == ()


class Everyone:
    """Each subject and each combination has rows of its own."""

    check_source = None

    def subject(self, *_: object) -> bool:
        return True

    def combination(self, *_: object) -> bool:
        return True


def test_an_event_at_the_very_boundary_belongs_to_the_period_that_begins() -> None:
    boundary = 1_795_000_007 * 1_000_000
    refold = Refold(
        MeterHistory([(1, Meter("calls", "call", "count"), 0, None)]),
        lambda number: "call",
        lambda environment, customer, at: (0, boundary) if at < boundary else (boundary, 1 << 60),
        Everyone(),
    )
    rows: list[Row] = [(i, boundary + i - 2, 0, 1, 1, 0, 5, 0, 1, None) for i in range(1, 4)]
    refold.add(rows)
    taken = refold.take()
    quarter = 1_795_000_007 - 1_795_000_007 % 900
    assert [(key[5], value) for key, value in taken.pop("rollups")] == [
        (quarter, (1, 10**9)),
        (1_795_000_007, (2, 2 * 10**9)),
    ]
    assert not any(taken.values())
    assert not any(refold.take().values())
