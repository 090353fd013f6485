from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import apsw
import pytest

from spine import DAY, SECOND, Spine
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.ids import ulid
from tollkeeper.services import retention as retaining
from tollkeeper.storage.sql.usage.random_ids import RandomIds
from tollkeeper.upkeep import verify_database

from .test_verify import busy

KEPT = 400


def sweep(spine: Spine) -> int:
    """Run the step until it has nothing more to do; how often it ran."""
    runs = 1
    while spine.app.retention.run_once():
        runs += 1
    return runs


def logged(spine: Spine) -> list[Any]:
    return list(spine.app.usage_file.reader.events())


def ids_known(spine: Spine) -> int:
    return int(spine.app.usage_file.writer.call(lambda log: log.db.execute("SELECT count(*) FROM timed_ids").get))


def uuid7(spine: Spine, number: int, ago_days: int = 0) -> str:
    ms = spine.time.now // 1_000_000 - ago_days * 86_400_000
    return str(uuid.UUID(int=ms << 80 | 7 << 76 | 2 << 62 | number))


def send(spine: Spine, *ids: str, **fields: Any) -> list[str]:
    batch: list[Any] = [UsageEvent(id, "api.call", **fields) for id in ids]
    return [result.status for result in spine.app.ingest.ingest_wait("live", batch)]


def now(spine: Spine) -> datetime:
    return datetime.fromtimestamp(spine.time.now / SECOND, UTC)


def test_only_events_that_arrived_before_the_limit_go_and_totals_stay(spine: Spine) -> None:
    customer = spine.customer("pro")
    assert (
        send(spine, "old-1", uuid7(spine, 1), ulid(spine.time.now // 1_000_000, 5), customer=customer)
        == ["accepted"] * 3
    )
    spine.time.move(KEPT * DAY - 3600 * SECOND)
    assert send(spine, "late", customer=customer, time=now(spine) - timedelta(days=30)) == ["accepted"]
    assert sweep(spine) == 1
    assert len(logged(spine)) == 4
    spine.time.move(2 * 3600 * SECOND)
    sweep(spine)
    assert [event.id for event in logged(spine)] == ["late"]  # by its arrival, not by its time
    assert ids_known(spine) == 0
    assert spine.app.retention.removed == 3
    assert spine.app.usage.query("api_calls", customer=customer, start=0).total == "4"


def test_an_id_is_known_for_as_long_as_its_event_whatever_time_the_id_carries(spine: Spine) -> None:
    customer = spine.customer("pro")
    ancient = uuid7(spine, 7, ago_days=3000)
    future = uuid7(spine, 8, ago_days=-3000)
    ids = (ancient, future, "text", str(uuid.uuid4()))
    assert send(spine, *ids, customer=customer) == ["accepted"] * 4
    spine.time.move((KEPT - 1) * DAY)
    sweep(spine)
    assert send(spine, *ids, customer=customer) == ["duplicate"] * 4
    spine.reopen()
    assert send(spine, *ids, customer=customer) == ["duplicate"] * 4
    assert len(logged(spine)) == 4


def test_sequence_numbers_never_begin_again(spine: Spine) -> None:
    customer = spine.customer("pro")
    send(spine, "a", "b", "c", customer=customer)
    spine.time.move(10 * KEPT * DAY)
    sweep(spine)
    assert [event.seq for event in logged(spine)] == [3]
    spine.reopen()
    send(spine, "d", customer=customer)
    assert [event.seq for event in logged(spine)] == [3, 4]
    sweep(spine)
    assert [event.seq for event in logged(spine)] == [4]


def test_pieces_remove_the_same_as_one(spine: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    busy(spine, random.Random(3))
    count = len(logged(spine))
    spine.time.move(KEPT * DAY)
    monkeypatch.setattr(retaining, "PIECE", 7)
    assert sweep(spine) >= count // 7
    assert len(logged(spine)) == 1
    assert spine.app.retention.removed == count - 1


def test_what_is_kept_is_still_proven_and_tampering_with_it_found(spine: Spine) -> None:
    busy(spine, random.Random(6))
    customer = spine.customer("pro")
    whole = verify_database(spine.url)
    assert (whole.compacted_before_seq, whole.compacted_until) == (0, None)
    spine.time.move((KEPT - 10) * DAY)
    send(spine, "kept-1", "kept-2", customer=customer)
    send(spine, "kept-3", customer=customer, time=now(spine) - timedelta(days=34))
    spine.time.move(60 * DAY)
    sweep(spine)
    found = verify_database(spine.url)
    assert (found.ok, found.events, found.compacted_before_seq) == (True, 3, whole.last_seq + 1)
    assert found.compacted_until is not None

    def spoil(sql: str) -> int:
        spine.app.usage_file.writer.call(lambda log: log.db.execute(sql).fetchall())
        return verify_database(spine.url).differences

    last = (
        "WHERE cell = (SELECT max(cell) FROM rollups) AND meter = (SELECT number FROM meters WHERE key = 'api_calls')"
    )
    assert spoil(f"UPDATE rollups SET units = units + 1 {last}") == 1
    assert spoil(f"UPDATE rollups SET units = units - 1 {last}") == 0
    assert spoil("UPDATE dimensions SET units = units + 1 WHERE cell = (SELECT max(cell) FROM dimensions)") == 1
    assert spoil("UPDATE dimensions SET units = units - 1 WHERE cell = (SELECT max(cell) FROM dimensions)") == 0
    # where part of a cell's events are gone, it must still hold as many as are left
    assert spoil("UPDATE rollups SET units = 0 WHERE cell = (SELECT min(cell) FROM rollups)") == 0


def test_a_piece_that_fails_changes_nothing(spine: Spine) -> None:
    customer = spine.customer("pro")
    ids = [uuid7(spine, n) for n in range(5)]
    send(spine, *ids, "text", customer=customer)
    spine.time.move(KEPT * DAY + DAY)

    def refuse(db: apsw.Connection) -> None:
        db.execute("CREATE TEMP TRIGGER no BEFORE DELETE ON main.events BEGIN SELECT RAISE(ABORT, 'disk on fire'); END")

    spine.app.usage_file.writer.call(lambda log: refuse(log.db))
    with pytest.raises(apsw.ConstraintError, match="disk on fire"):
        spine.app.retention.run_once()
    spine.app.usage_file.writer.call(lambda log: log.db.execute("DROP TRIGGER no"))
    assert send(spine, *ids, "text", customer=customer) == ["duplicate"] * 6
    assert verify_database(spine.url).compacted_until is None
    sweep(spine)
    assert len(logged(spine)) == 1


def test_pages_that_were_freed_are_used_again(spine: Spine) -> None:
    customer = spine.customer("pro")

    def year(number: int) -> int:
        for i in range(20):
            send(spine, *(f"{number}-{i}-{j}" for j in range(200)), customer=customer, data={"note": "x" * 300})
        spine.time.move((KEPT + 1) * DAY)
        sweep(spine)
        return int(spine.app.usage_file.writer.call(lambda log: log.db.pragma("page_count")))

    first = year(1)
    assert first > 150
    assert year(2) <= first * 1.1
    assert year(3) <= first * 1.1


def test_runs_of_random_ids_leave_the_disk_though_no_more_are_added(
    spine: Spine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RandomIds.__init__.__kwdefaults__ or {}, "flush_at", 64)
    spine.reopen()
    customer = spine.customer("pro")
    for i in range(40):
        send(spine, *(f"{i}-{j}" for j in range(20)), customer=customer)

    def segments() -> int:
        return int(spine.app.usage_file.writer.call(lambda log: log.db.execute("SELECT count(*) FROM id_segment").get))

    assert segments() >= 2
    spine.time.move((KEPT + 1) * DAY)
    spine.app.gate.check(spine.key(customer), "api_calls")
    sweep(spine)
    assert segments() == 0
