"""What happens while a correction is made: events arrive, it is cut short, another one is asked for, the log is verified."""

from __future__ import annotations

from typing import Any

import pytest

from tollkeeper.core.corrections import EventVoided, Selection
from tollkeeper.core.events import UsageEvent
from tollkeeper.services import corrections as corrections_service
from tollkeeper.services import verify as verifying
from tollkeeper.upkeep import verify_database

from .world import World, amend, one, void


def llm(id: str, tokens: int) -> UsageEvent:
    return UsageEvent(id, "llm", customer="ann", data={"tokens": tokens})


def test_an_event_that_arrives_just_before_the_commit_takes_the_place_of_the_one_that_was_kept(
    world: World, monkeypatch: Any
) -> None:
    world.send(llm("a", 1), llm("b", 9))
    planner = world.app.corrections._planner
    catch_up = planner.catch_up

    def then_one_arrives(plan: Any) -> None:
        catch_up(plan)
        arrived.append(llm(f"late-{len(arrived)}", 6 + len(arrived)))
        world.send(arrived[-1])

    arrived: list[UsageEvent] = []
    monkeypatch.setattr(planner, "catch_up", then_one_arrives)
    world.app.corrections.correct(void(one("b")))
    assert (len(arrived), world.used("largest"), world.used("tokens")) == (2, "7", "14")
    world.hold()


def test_a_range_that_goes_on_after_a_restart_meets_no_event_twice(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(corrections_service, "BATCH", 2)
    world.send(*[llm(f"e{n}", n) for n in range(5)])
    asked = amend(Selection(start=world.now - 1, end=world.now + 1), {"tokens": 50}, id="r")
    assert world.app.corrections.correct(asked, 2).events == 2
    world.reopen()
    made = world.app.corrections.correct(asked)
    assert (made.events, made.skipped, world.used("tokens")) == (5, 0, "250")


def test_corrections_take_effect_in_the_order_in_which_they_were_asked_for(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(corrections_service, "BATCH", 1)
    world.send(*[llm(f"e{n}", n) for n in range(4)])
    ranged = void(Selection(start=world.now - 1, end=world.now + 1), id="r")
    assert world.app.corrections.correct(ranged, 1).applied_at is None
    with pytest.raises(EventVoided, match="by correction r"):
        world.app.corrections.correct(amend(one("e3"), {"tokens": 8}))
    assert (world.used("tokens"), world.app.corrections.correct(ranged).events) == ("0", 4)


def test_verify_folds_events_as_they_stood_when_it_began(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(verifying, "PIECE", 1)
    world.send(*[llm(f"e{n}", n) for n in range(6)])
    world.correct(amend(one("e4"), {"tokens": 40}))
    todo = [void(one("e4")), amend(one("e5"), {"tokens": 3})]

    def meanwhile(done: int, last: int) -> None:
        if todo:
            world.app.corrections.correct(todo.pop())

    found = verify_database(world.url, meanwhile)
    assert (found.differences, found.shown, found.events) == (0, (), 6)
    assert (todo, world.used("tokens")) == ([], "9")
    world.hold()
