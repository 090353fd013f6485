"""An event's effect happens once, with its own mark as processed, whatever fails, repeats or overtakes."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spine import SECOND
from tollkeeper.core.inbox import KEPT_US, MOST_ATTEMPTS, InboxEvent, wait_us
from tollkeeper.core.provider import ProviderBusy, ProviderUnavailable
from tollkeeper.services.inbox_effects import AT_ONCE, LEASE_US

from .conftest import Post
from .desk import Counted, InboxDesk
from .parts import event


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[InboxDesk]:
    made = InboxDesk(tmp_path)
    yield made
    made.database.close()


def test_the_object_is_read_again_and_its_effect_committed_with_the_mark(desk: InboxDesk) -> None:
    desk.account.state["in_1"] = 42
    id = desk.arrive()
    assert desk.effects.run_once() is True
    assert desk.effects.run_once() is False
    done = desk.get(id)
    assert (done.status, done.attempts, done.processed_at) == ("done", 1, NOW_US)
    assert (desk.applied(id), desk.state("in_1"), desk.account.reads["in_1"]) == (1, 42, 1)


NOW_US = 1_790_000_000_000_000


def test_no_transaction_is_open_while_the_provider_is_asked(desk: InboxDesk) -> None:
    """Another thread writes meanwhile."""

    def write(_: InboxEvent) -> None:
        thread = threading.Thread(target=lambda: desk.arrive("plan.created"))
        thread.start()
        thread.join(20)
        assert not thread.is_alive()

    desk.effect.on_fetch = write
    id = desk.arrive()
    desk.settle()
    assert desk.applied(id) == 1


def test_an_effect_that_fails_leaves_nothing_and_is_tried_again_later(desk: InboxDesk) -> None:
    def fail(_: InboxEvent) -> None:
        raise ProviderUnavailable("It did not answer.")

    desk.effect.on_apply = fail  # after the effect has written
    id = desk.arrive()
    assert desk.effects.run_once() is True
    put_off = desk.get(id)
    assert (put_off.status, put_off.attempts, put_off.error, desk.applied(id)) == (
        "pending",
        1,
        "It did not answer.",
        0,
    )
    assert NOW_US + 500_000 <= put_off.due_at <= NOW_US + 1_000_000
    assert desk.effects.run_once() is False
    desk.effect.on_apply = lambda event: None
    desk.time.move(SECOND)
    assert desk.effects.run_once() is True
    assert (desk.get(id).status, desk.get(id).attempts, desk.applied(id)) == ("done", 2, 1)


def test_waits_double_up_to_four_hours_and_half_of_each_is_chance() -> None:
    assert [wait_us(n, 1.0) // 1_000_000 for n in (1, 2, 3, 10, 14, 15, 24, 60)] == [
        1,
        2,
        4,
        512,
        8192,
        14400,
        14400,
        14400,
    ]
    assert wait_us(3, 0.0) == 2_000_000
    assert wait_us(3, 0.5) == 3_000_000
    assert wait_us(1, 0.0, at_least_s=30) == 30_000_000
    total = sum(wait_us(n, 0.5) for n in range(1, MOST_ATTEMPTS)) / 3_600e6
    assert 24 < total < 48


def test_a_provider_that_asks_for_patience_gets_it(desk: InboxDesk) -> None:
    def busy(_: InboxEvent) -> None:
        raise ProviderBusy("Slow down.", retry_after=45)

    desk.effect.on_fetch = busy
    id = desk.arrive()
    desk.effects.run_once()
    assert desk.get(id).due_at == NOW_US + 45_000_000


def test_after_the_last_attempt_it_is_dead_and_a_replay_brings_it_back(
    desk: InboxDesk, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: InboxEvent) -> None:
        raise ZeroDivisionError("of ours")

    desk.effect.on_fetch = fail
    id = desk.arrive()
    with caplog.at_level(logging.CRITICAL, "tollkeeper.inbox"):
        for _ in range(MOST_ATTEMPTS):
            assert desk.effects.run_once() is True
            desk.time.move(15_000 * SECOND)
    dead = desk.get(id)
    assert (dead.status, dead.attempts, dead.error) == ("dead", MOST_ATTEMPTS, "ZeroDivisionError: of ours")
    assert desk.effects.run_once() is False
    assert desk.effects.outcomes == {"ignored": 0, "failed": MOST_ATTEMPTS - 1, "dead": 1}
    desk.effect.on_fetch = lambda event: None
    assert desk.inbox.replay(id).status == "pending"
    desk.settle()
    assert (desk.get(id).status, desk.get(id).error, desk.applied(id)) == ("done", None, 1)


def test_all_the_dead_are_replayed_at_once(desk: InboxDesk) -> None:
    ids = [desk.arrive(about=f"in_{n}") for n in range(3)]
    with desk.database.write() as rows:
        for id in ids[:2]:
            rows.inbox.settle(desk.get(id), "dead", NOW_US, "no")
    assert desk.inbox.replay_dead() == 2
    desk.settle()
    assert [desk.applied(id) for id in ids] == [1, 1, 1]


def test_a_type_nobody_acts_on_is_ignored_without_a_read(desk: InboxDesk) -> None:
    id = desk.arrive("something.new")
    assert desk.effects.run_once() is True
    assert (desk.get(id).status, desk.get(id).error) == ("ignored", "Nothing here acts on events of this type.")
    assert not desk.account.reads


def test_an_event_of_the_other_mode_is_never_applied_nor_replayed(desk: InboxDesk) -> None:
    id = desk.arrive(live=True)
    desk.settle()
    assert (desk.get(id).status, desk.applied(id)) == ("ignored", 0)
    with pytest.raises(Exception, match="live event"):
        desk.inbox.replay(id)
    assert desk.get(id).status == "ignored"


def test_a_live_event_that_waits_is_not_touched_by_a_test_account(desk: InboxDesk) -> None:
    """It was stored while no account was set, or a live one."""
    desk.inbox.account = None
    id = desk.arrive(live=True)
    desk.inbox.account = "test"
    desk.settle()
    assert (desk.get(id).status, desk.applied(id)) == ("pending", 0)


def test_a_lost_lease_cannot_commit(desk: InboxDesk) -> None:
    """While one worker reads, its lease runs out, another does the whole work; the first then commits nothing."""
    slow = Counted()
    id = desk.arrive()
    desk.account.state["in_1"] = 1

    def overtaken(_: InboxEvent) -> None:
        desk.time.move(LEASE_US * 1000 + SECOND)
        desk.account.state["in_1"] = 2
        assert desk.effects.run_once() is True
        assert desk.get(id).status == "done"
        desk.account.state["in_1"] = 1  # what the slow one is about to read is stale

    slow.on_fetch = overtaken
    slow.after = [lambda: pytest.fail("nothing was committed")]
    worker = desk.worker(slow)
    worker.run_once()
    assert (worker.outcomes["overtaken"], worker.outcomes["done"]) == (1, 0)
    assert (desk.applied(id), desk.state("in_1")) == (1, 2)


def test_a_failure_of_one_who_was_overtaken_changes_nothing(desk: InboxDesk) -> None:
    slow = Counted()
    id = desk.arrive()

    def overtaken(_: InboxEvent) -> None:
        desk.time.move(LEASE_US * 1000 + SECOND)
        desk.effects.run_once()
        raise ProviderUnavailable("Too late.")

    slow.on_fetch = overtaken
    worker = desk.worker(slow)
    worker.run_once()
    assert (desk.get(id).status, desk.get(id).error, desk.applied(id)) == ("done", None, 1)


def test_events_about_the_same_are_never_worked_on_together_and_the_last_read_wins(desk: InboxDesk) -> None:
    """Four workers, thirty events about three things that change all the time."""
    ids = [desk.arrive(about=f"in_{n % 3}") for n in range(30)]
    lock = threading.Lock()
    inside: dict[str, int] = {}
    last: dict[str, int] = {}

    def enter(event: InboxEvent) -> None:
        with lock:
            assert event.object is not None
            inside[event.object] = inside.get(event.object, 0) + 1
            assert inside[event.object] == 1
            last[event.object] = desk.account.state[event.object] = desk.account.state.get(event.object, 0) + 1

    def leave(event: InboxEvent) -> None:
        with lock:
            assert event.object is not None
            inside[event.object] -= 1

    desk.effect.on_fetch, desk.effect.on_apply = enter, leave

    def work() -> None:
        worker = desk.worker()
        while any(desk.get(id).status == "pending" for id in ids):
            worker.run_once()
            with lock:
                desk.time.move(SECOND // 100)  # what was held by another comes due again

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [desk.applied(id) for id in ids] == [1] * 30
    assert {object: desk.state(object) for object in last} == last


def test_different_things_are_read_at_the_same_time(desk: InboxDesk) -> None:
    """Each waits until all have asked."""
    together = threading.Barrier(AT_ONCE)

    def wait(_: InboxEvent) -> None:
        together.wait(20)

    desk.effect.on_fetch = wait
    ids = [desk.arrive(about=f"in_{n}") for n in range(AT_ONCE)]
    desk.effects.run_once()
    assert [desk.applied(id) for id in ids] == [1] * AT_ONCE


def test_one_effect_that_fails_does_not_take_the_others_of_its_transaction_with_it(desk: InboxDesk) -> None:
    def fail(event: InboxEvent) -> None:
        if event.object == "in_3":
            raise ProviderUnavailable("Not this one.")

    desk.effect.on_apply = fail
    called: list[int] = []
    desk.effect.after = [lambda: called.append(1)]
    ids = [desk.arrive(about=f"in_{n}") for n in range(20)]
    desk.effects.run_once()
    assert [desk.applied(id) for id in ids] == [int(n != 3) for n in range(20)]
    assert [desk.get(id).status for id in ids] == ["pending" if n == 3 else "done" for n in range(20)]
    assert len(called) == 19
    assert desk.effects.outcomes["failed"] == 1


def test_what_follows_the_commit_is_called_once_and_its_failure_harms_nothing(
    desk: InboxDesk, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []
    id = desk.arrive()

    def fail() -> None:
        raise ValueError

    desk.effect.after = [lambda: seen.append(desk.applied(id)), fail, lambda: seen.append(2)]
    with caplog.at_level(logging.CRITICAL, "tollkeeper.inbox"):
        desk.settle()
    assert seen == [1, 2]
    assert desk.get(id).status == "done"


def test_what_was_under_way_when_a_process_died_is_taken_up_at_once_by_the_next(desk: InboxDesk) -> None:
    class Gone(BaseException):
        pass

    def die(_: InboxEvent) -> None:
        raise Gone

    desk.effect.on_fetch = die
    id = desk.arrive()
    with pytest.raises(Gone):
        desk.effects.run_once()
    desk.effect.on_fetch = lambda event: None
    assert desk.worker().run_once() is False  # it is still leased
    after = desk.worker()
    after.resume()
    assert after.run_once() is True
    assert (desk.applied(id), desk.get(id).attempts) == (1, 2)


def test_settled_events_are_kept_forty_days_and_others_for_ever(desk: InboxDesk) -> None:
    done, waiting, dead = desk.arrive(about="in_1"), desk.arrive(about="in_2"), desk.arrive(about="in_3")
    with desk.database.write() as rows:
        rows.inbox.settle(desk.get(done), "done", NOW_US)
        rows.inbox.settle(desk.get(dead), "dead", NOW_US, "no")
        rows.leases.take("stripe", "test", "in_1", NOW_US, NOW_US + 1)
    desk.time.move(KEPT_US * 1000)
    assert desk.inbox.forget() is False
    assert desk.get(done).status == "done"
    desk.time.move(SECOND)
    desk.inbox.forget()
    with desk.database.read() as rows:
        assert rows.inbox.get("stripe", done) is None
        assert {event.id for event in rows.inbox.list(None, None, None, 10)} == {waiting, dead}


async def test_fifty_copies_at_once_over_http_have_one_effect(post: Post) -> None:
    effect = Counted()
    post.server.money.effects["invoice.paid"] = effect
    worker = post.server.money.inbox_effects
    assert worker is not None
    worker._provider = type("A", (), {"name": "stripe", "environment": "test", "read": lambda self, object: 1})()  # type: ignore[assignment]
    made = event()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            worker.run_once()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    answers: list[Any] = await asyncio.gather(*(post.send(made) for _ in range(50)))
    stop.set()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    worker.run_once()
    assert [status for status, _ in answers] == [200] * 50
    [stored] = post.stored()
    assert stored.status == "done"
    with post.toll.database.read() as rows:
        assert rows.watermarks.get(f"applied:{made['id']}") == 1
