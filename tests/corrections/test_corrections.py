"""One correction and what follows from it: quotas, repeats, refusals, ids sent again, ranges in batches."""

from __future__ import annotations

import dataclasses
from typing import Any

import apsw
import pytest

from spine import DAY, SECOND
from tollkeeper.core.corrections import EventCompacted, EventVoided, Selection
from tollkeeper.core.errors import Conflict, InvalidRequest, NotFound, StorageUnavailable
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.metering import QuantityInvalid, ValueInvalid
from tollkeeper.services import corrections as corrections_service
from tollkeeper.services import corrections_plan
from tollkeeper.services.retention import DAY_US

from .world import CATALOG, World, amend, one, void


def llm(id: str, tokens: Any, customer: str = "ann", **more: Any) -> UsageEvent:
    return UsageEvent(id, "llm", customer=customer, data={"tokens": tokens, **more})


def states(world: World) -> list[tuple[str, str, str | None]]:
    return [(e.id, e.state, e.amended) for e in world.app.usage_file.reader.events()]


def test_a_voided_check_gives_its_quota_back_at_once(world: World) -> None:
    key = world.key("ann")
    decisions = [world.app.gate.check(key, "api_calls") for _ in range(6)]
    assert [decision.code for decision in decisions] == ["VALID"] * 5 + ["QUOTA_EXCEEDED"]
    world.correct(void(one(str(decisions[2].event_id), "tollkeeper:gate")))
    assert world.app.gate.check(key, "api_calls").code == "VALID"
    assert world.app.gate.check(key, "api_calls").code == "QUOTA_EXCEEDED"
    world.hold()
    world.reopen()
    assert world.app.gate.check(key, "api_calls").code == "QUOTA_EXCEEDED"


def test_a_check_with_an_id_and_one_with_a_cost_can_be_voided_whole(world: World) -> None:
    key = world.key("ann")
    world.app.gate.check(key, "api_calls", 3, id="mine")
    world.app.gate.check(key, "tokens", "2.5", id="01JD3V5E6QN8Z4V9W1T7B2X3YD")
    assert (world.used("api_calls"), world.used("tokens"), world.used("last")) == ("3", "2.5", "2.5")
    for id in ("mine", "01JD3V5E6QN8Z4V9W1T7B2X3YD"):
        world.correct(void(one(id, "tollkeeper:check")))
    assert (world.used("api_calls"), world.used("tokens"), world.used("last")) == ("0", "0", None)
    assert world.app.gate.check(key, "api_calls", 3, id="mine").event_id is None  # counted before, so not again
    world.hold()


def test_an_event_the_gate_made_is_found_wherever_it_stands_in_the_log(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("tollkeeper.storage.sql.usage.corrected.PIECE", 3)
    keys = [world.key("ann"), world.key("bob", environment="test")]
    made = []
    for number in range(12):
        world.send(*[UsageEvent(f"{number}-{i}", "other", customer="ann") for i in range(number)])
        made += [world.app.gate.check(keys[0], "tokens"), world.app.gate.check(keys[1], "tokens")]
        world.time.move((-7200 if number == 7 else 1000) * SECOND)  # once the clock is set back
    for number, decision in enumerate(made):
        environment = ("live", "test")[number % 2]
        asked = void(one(str(decision.event_id), "tollkeeper:gate"), environment=environment)
        assert world.app.corrections.correct(asked).events == 1
    with pytest.raises(NotFound):
        world.app.corrections.preview(void(one(str(made[0].event_id), "tollkeeper:gate"), environment="test"))
    world.hold()


def test_the_id_of_a_corrected_event_stays_taken(world: World) -> None:
    world.send(llm("a", 1), llm("b", 1), llm("c", 1))
    world.correct(void(one("a")))
    world.correct(amend(one("b"), {"tokens": 7}))
    assert world.send(llm("a", 1), llm("b", 1), llm("b", 7), llm("b", 8)) == [
        "duplicate",
        "duplicate",
        "duplicate",
        "conflict",
    ]
    world.correct(void(one("b")))
    assert world.send(llm("b", 1), llm("b", 7)) == ["duplicate", "duplicate"]
    assert world.used("tokens") == "1"
    assert states(world) == [("a", "voided", None), ("b", "voided", None), ("c", "active", None)]


@pytest.mark.parametrize(
    "kind", ["text", "0000000a-0000-4000-8000-000000000000", "019a0000-0000-7000-8000-00000000000a"]
)
def test_every_kind_of_id_can_be_voided_also_after_a_restart(world: World, kind: str) -> None:
    world.send(llm(kind, 5))
    world.reopen()
    world.correct(void(one(kind)))
    assert world.send(llm(kind, 5)) == ["duplicate"]
    assert world.used("tokens") == "0"
    world.hold()


def test_a_voided_event_can_be_neither_voided_nor_amended_and_the_answer_names_the_correction(world: World) -> None:
    world.send(llm("a", 1))
    made = world.correct(void(one("a"), id="first"))
    for asked in (void(one("a")), amend(one("a"), {"tokens": 2})):
        with pytest.raises(EventVoided, match="voided by correction first"):
            world.app.corrections.preview(asked)
        with pytest.raises(EventVoided):
            world.app.corrections.correct(asked)
    assert world.app.corrections.list("live", None, 10) == [dataclasses.replace(made)]


def test_the_same_correction_sent_twice_changes_nothing_twice(world: World) -> None:
    world.send(llm("a", 1), llm("b", 2))
    asked = void(one("a"), id="mine")
    first = world.app.corrections.correct(asked)
    seq = world.app.usage_file.reader.last_seq()
    assert world.app.corrections.correct(asked) == first
    assert world.app.corrections.preview(asked) == first
    world.reopen()
    assert world.app.corrections.correct(asked) == first
    assert world.app.usage_file.reader.last_seq() == seq
    for other in (
        dataclasses.replace(asked, selection=one("b")),
        dataclasses.replace(asked, reason="another"),
        dataclasses.replace(asked, author="bob"),
        dataclasses.replace(asked, environment="test"),
        dataclasses.replace(asked, action="amend", data={}),
    ):
        with pytest.raises(Conflict, match="'mine'"):
            world.app.corrections.correct(other)
    assert world.used("tokens") == "2"


def test_an_amendment_to_what_counts_already_is_skipped(world: World) -> None:
    world.send(llm("a", 1), llm("b", 2))
    assert (world.correct(amend(one("a"), {"tokens": 1})).events, world.used("tokens")) == (0, "3")
    start, end = world.now - 1, world.now + 1
    made = world.correct(amend(Selection(start=start, end=end), {"tokens": 2}))
    assert (made.events, made.skipped, world.used("tokens")) == (1, 1, "4")


@pytest.mark.parametrize(
    ("data", "error"), [({"tokens": "much"}, QuantityInvalid), ({"tokens": 1, "model": [1]}, ValueInvalid)]
)
def test_data_that_no_meter_could_fold_is_refused_and_nothing_changes(world: World, data: Any, error: Any) -> None:
    world.send(llm("a", 1), llm("b", 2))
    ranged = Selection(start=world.now - 1, end=world.now + 1)
    for selection in (one("a"), ranged):
        with pytest.raises(error):
            world.app.corrections.correct(amend(selection, data))
    with pytest.raises(InvalidRequest, match="at most 16384"):
        world.app.corrections.correct(amend(one("a"), {"tokens": 1, "more": "x" * 20_000}))
    assert (world.used("tokens"), states(world)[0][1]) == ("3", "active")
    assert world.app.corrections.list("live", None, 10) == []


def test_an_amendment_is_judged_by_the_meters_of_the_events_own_time(world: World) -> None:
    world.send(llm("a", 10))
    words = '[meters.words]\nevent_type = "llm"\naggregation = "sum"\nvalue_property = "words"\n'
    world.app.catalog.apply(CATALOG + words)
    world.send(llm("b", 10))
    for id in ("a", "b"):
        world.app.corrections.correct(amend(one(id), {"tokens": 3, "words": 5}))
    assert (world.used("tokens"), world.used("words")) == ("6", "5")
    world.hold()


def test_no_such_event_and_no_such_meter_are_told(world: World) -> None:
    world.send(llm("a", 1))
    for selection in (one("b"), one("a", "other"), one("evt_no", "tollkeeper:gate")):
        with pytest.raises(NotFound, match="no live event"):
            world.app.corrections.preview(void(selection))
    with pytest.raises(NotFound, match="no test event"):
        world.app.corrections.preview(void(one("a"), environment="test"))
    with pytest.raises(NotFound, match="no meter"):
        world.app.corrections.preview(void(Selection(start=world.now, end=world.now + 1, meter="no")))
    ranged = Selection(start=world.now - 1, end=world.now + 1, customer="nobody")
    assert world.app.corrections.preview(void(ranged)).events == 0


def test_what_retention_has_removed_or_is_about_to_remove_is_refused(world: World) -> None:
    world.send(llm("old", 5))
    old_check = world.app.gate.check(world.key("ann"), "tokens")
    world.time.move(398 * DAY)
    world.send(llm("new", 7))
    old = world.now - 398 * DAY_US
    assert world.app.corrections.preview(void(one("old"))).events == 1
    world.time.move(3 * DAY)
    selections = (
        one("old"),
        one(str(old_check.event_id), "tollkeeper:gate"),
        Selection(start=old, end=world.now),
    )
    for compacted in (False, True):
        if compacted:
            while world.app.retention.run_once():
                pass
            assert world.app.retention.removed == 2
        for selection in selections:
            with pytest.raises(EventCompacted):
                world.app.corrections.preview(void(selection))
    with pytest.raises(EventCompacted, match=r"kept from 20\d\d-"):
        world.app.corrections.preview(void(selections[2]))
    world.correct(void(one("new")))
    world.hold()


def test_a_correction_of_a_removed_event_is_forgotten_with_it_and_the_log_still_verifies(world: World) -> None:
    world.send(llm("a", 1), llm("b", 2))
    world.correct(void(one("a")))
    world.time.move(401 * DAY)
    world.send(llm("c", 4))
    while world.app.retention.run_once():
        pass
    world.hold()
    assert world.app.usage_file.reader._db().execute("SELECT count(*) FROM corrected").get == 0
    assert [one.id for one in world.app.usage_file.reader.events()] == ["c"]


def test_a_range_is_what_was_in_the_log_and_not_what_came_later(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(corrections_service, "BATCH", 2)
    world.send(*[llm(f"e{n}", n) for n in range(7)])
    asked = void(Selection(start=world.now - 1, end=world.now + 1), id="r")
    first = world.app.corrections.correct(asked, 2)
    assert (first.events, first.applied_at) == (2, None)
    world.send(llm("later", 50, model="a"))
    world.hold()
    second = world.app.corrections.correct(asked, 4)
    assert (second.events, second.applied_at) == (6, None)
    world.reopen()
    assert world.app.corrections.run_once() is False
    (made,) = world.app.corrections.list("live", None, 10)
    assert (made.events, made.applied_at is not None) == (7, True)
    assert (world.used("tokens"), world.used("largest"), world.used("smallest")) == ("50", "50", "50")
    assert world.app.corrections.run_once() is False
    world.hold()


def test_values_that_stay_are_right_after_each_batch_while_events_go_on_coming(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(corrections_service, "BATCH", 1)
    world.send(*[llm(f"e{n}", n * 7 % 11) for n in range(11)])
    asked = amend(Selection(start=world.now - 1, end=world.now + 1), {"tokens": 5}, id="r")
    for number in range(11):
        world.app.corrections.correct(asked, 1)
        world.send(llm(f"more-{number}", (4, 6, 5)[number % 3], model="ab"[number % 2]))
        world.hold()
    assert (world.used("largest"), world.used("smallest"), world.used("last")) == ("6", "4", "6")


def test_a_commit_that_fails_changes_nothing_and_the_same_id_goes_on(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(corrections_service, "BATCH", 2)
    world.send(*[llm(f"e{n}", n) for n in range(5)])
    log = world.app.usage_file.writer.log
    real, left = log._execute, 0

    def failing(sql: str, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and sql != "ROLLBACK":
            raise apsw.IOError("disk I/O error (simulated)")
        return real(sql, *arguments)

    asked = void(Selection(start=world.now - 1, end=world.now + 1), id="r")
    failures = 0
    for statement in range(1, 400):
        left = statement
        log._execute = failing  # type: ignore[method-assign,assignment]
        try:
            made = world.app.corrections.correct(asked, 1)
        except StorageUnavailable:
            failures += 1
        else:
            if made.applied_at is not None:
                break
        finally:
            log._execute = real  # type: ignore[method-assign]
        world.hold()
    assert failures > 20
    assert (made.events, world.used("tokens"), world.used("largest")) == (5, "0", None)
    world.hold()


def test_too_many_events_are_refused_before_anything_is_changed(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(corrections_plan, "MOST_EVENTS", 3)
    world.send(*[llm(f"e{n}", n) for n in range(4)])
    with pytest.raises(Exception, match="more than 3 events"):
        world.app.corrections.correct(void(Selection(start=world.now - 1, end=world.now + 1)))
    assert world.used("tokens") == "6"


def test_live_and_test_are_corrected_apart(world: World) -> None:
    for environment in ("live", "test"):
        world.send(llm("a", 5), environment=environment)
    world.app.corrections.correct(void(Selection(start=world.now - 1, end=world.now + 1), environment="test"))
    assert (world.used("tokens"), world.used("tokens", environment="test")) == ("5", "0")
    assert [len(world.app.corrections.list(e, None, 9)) for e in ("live", "test")] == [0, 1]  # type: ignore[arg-type]
    world.hold()


def test_an_event_that_no_meter_counts_may_be_voided_and_amended_into_a_meter(world: World) -> None:
    world.send(UsageEvent("a", "llm", customer="ann"), UsageEvent("b", "nobody", customer="ann"), llm("c", 3))
    assert sum(one.events for one in world.app.usage.unmatched()) == 2
    world.correct(amend(one("a"), {"tokens": 4}))
    world.correct(amend(one("c"), {"words": 4}))
    world.correct(void(one("b")))
    assert [(one.type, one.events) for one in world.app.usage.unmatched()] == [("llm", 1)]
    assert world.used("tokens") == "4"
    world.hold()


def test_what_was_counted_before_the_first_purchase_is_taken_from_where_it_stands(world: World) -> None:
    """Periods begin anew with the purchase, in the middle of a quarter of an hour; memory and rollups stay one."""
    world.customer(None, id="cid")
    world.time.move(SECOND)
    events = [UsageEvent(f"e{n}", "llm", customer="cid", data={"tokens": 2**n}) for n in range(3)]
    world.send(events[0])
    world.app.customers.move("cid", "free")
    world.time.move(SECOND)
    world.send(*events[1:])
    assert world.used("tokens", customer="cid", start=world.now - DAY_US) == "7"
    for number, left in ((0, "6"), (2, "2")):
        world.app.corrections.correct(void(one(f"e{number}")))
        assert world.used("tokens", customer="cid", start=world.now - DAY_US) == left
        world.hold()


def test_events_beyond_the_cap_of_subjects_are_taken_from_the_others(world: World) -> None:
    world.app.usage_file.writer.log._subjects._most = 2
    world.send(*[UsageEvent(f"e{n}", "llm", "default", f"s{n}", "ann", None, {"tokens": 2**n}) for n in range(5)])
    rows = {row.group["key"]: row.value for row in world.app.usage.query("tokens", group_by=("key",)).data}
    assert rows == {"s0": "1", "s1": "2", "other": "28"}
    for number in (3, 0, 4):
        world.correct(void(one(f"e{number}")))
        world.hold()
    rows = {row.group["key"]: row.value for row in world.app.usage.query("tokens", group_by=("key",)).data}
    assert rows == {"s1": "2", "other": "4"}
    assert world.used("largest") == "4"
