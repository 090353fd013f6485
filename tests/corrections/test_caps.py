"""More subjects and combinations than have rows of their own: who is `other` follows from the log alone, corrections included."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tollkeeper.core.corrections import EventVoided, Selection
from tollkeeper.core.events import UsageEvent
from tollkeeper.services.verify import Verification
from tollkeeper.storage.sql.usage.extras import CombinationCap
from tollkeeper.storage.sql.usage.retention import compact
from tollkeeper.storage.sql.usage.subjects import SubjectCap
from tollkeeper.upkeep import verify_database

from .world import DAY_US, GROUPS, World, amend, one, void

SOAK = bool(os.environ.get("TOLLKEEPER_SOAK"))
SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SUBJECTS = ("s1", "s2", "s3", "s4")


@contextmanager
def caps(subjects: int, combinations: int) -> Iterator[None]:
    """Of whatever is opened within."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SubjectCap.__init__, "__defaults__", (subjects,))
        patch.setattr(CombinationCap.__init__, "__defaults__", (combinations,))
        yield


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """Two subjects and two combinations have rows of their own."""
    with caps(2, 2):
        world = World(tmp_path)
        yield world
        world.app.close()


def llm(id: str, subject: str | None = None, age: int = 0, world: World | None = None, **data: Any) -> UsageEvent:
    time = None if world is None else EPOCH + timedelta(microseconds=world.now - age * SECOND)
    return UsageEvent(id, "llm", "default", subject, "ann", time, data)


def verified(world: World) -> Verification:
    return verify_database(world.url)


def by_key(world: World, meter: str = "tokens") -> dict[Any, str]:
    """What each key comes to that has events."""
    answer = world.app.usage.query(meter, customer="ann", start=world.now - 40 * DAY_US, group_by=("key",))
    return {row.group["key"]: row.value for row in answer.data if row.events}


def by_model(world: World, meter: str = "largest") -> dict[Any, str]:
    answer = world.app.usage.query(meter, customer="ann", start=world.now - 40 * DAY_US, group_by=("model",))
    return {row.group["model"]: row.value for row in answer.data if row.events}


def test_a_subject_whose_events_are_all_voided_leaves_its_place_to_nobody(small: World) -> None:
    small.send(*[llm(f"e{n}", f"s{n}", tokens=n) for n in range(4)])
    small.correct(void(one("e0")))
    small.send(llm("later", "s3", tokens=10))
    assert by_key(small) == {"s1": "1", "other": "15"}
    small.reopen()
    small.send(llm("again", "s0", tokens=20), llm("new", "s9", tokens=40))
    assert by_key(small) == {"s0": "20", "s1": "1", "other": "55"}
    small.correct(void(one("e3")))
    assert by_key(small) == {"s0": "20", "s1": "1", "other": "52"}
    small.hold()


def test_a_subject_is_told_when_an_amendment_first_lets_a_meter_count_it(small: World) -> None:
    small.send(llm("e0", "s0"), llm("e1", "s1", tokens=1), llm("e2", "s2", tokens=2), llm("e3", "s3", tokens=4))
    assert by_key(small) == {"s1": "1", "s2": "2", "other": "4"}
    small.correct(amend(one("e0"), {"tokens": 8}))
    assert by_key(small) == {"s1": "1", "s2": "2", "other": "12"}
    small.hold()


def test_an_amendment_moves_an_event_from_other_to_a_combination_that_has_rows_and_back(small: World) -> None:
    small.send(*[llm(f"e{n}", tokens=n, model=model) for n, model in enumerate("abcd")])
    assert by_model(small) == {"a": "0", "b": "1", "other": "3"}
    small.correct(amend(one("e3"), {"tokens": 5, "model": "a"}))
    assert by_model(small) == {"a": "5", "b": "1", "other": "2"}
    small.hold()
    small.correct(amend(one("e0"), {"tokens": 7, "model": "z"}))
    small.correct(void(one("e1")))
    small.send(llm("late", tokens=9, model="c"))
    assert by_model(small) == {"a": "5", "other": "9"}
    small.hold()


def test_an_amendment_opens_a_new_combination_while_there_is_room_and_that_stays(small: World) -> None:
    small.send(llm("e0", tokens=1, model="a"), llm("e1", tokens=2, model="a"))
    small.correct(amend(one("e1"), {"tokens": 2, "model": "b"}))
    small.correct(void(one("e1")))
    small.send(llm("e2", tokens=3, model="c"), llm("e3", tokens=4, model="b"))
    assert by_model(small) == {"a": "1", "b": "4", "other": "3"}
    small.hold()


def test_of_equal_values_the_first_in_the_log_is_kept_though_an_amendment_brought_it(small: World) -> None:
    for meter, value in (("largest", 5), ("smallest", -5)):
        small.send(llm(f"{meter}-a", tokens=1), llm(f"{meter}-b", tokens=value))
        small.correct(amend(one(f"{meter}-a"), {"tokens": value}))
        small.hold()


def test_the_last_unmatched_event_is_the_same_by_the_log_whatever_is_corrected(small: World) -> None:
    def unmatched() -> list[tuple[str, int, int]]:
        return [(found.type, found.events, found.last_seq) for found in small.app.usage.unmatched()]

    small.send(llm("e1"), llm("e2"), llm("e3", tokens=1))
    small.correct(amend(one("e2"), {"tokens": 2}))
    assert unmatched() == [("llm", 1, 2)]
    small.correct(amend(one("e1"), {"note": "nothing counts this"}))
    assert unmatched() == [("llm", 1, 5)]
    small.hold()
    small.correct(amend(one("e3"), {}))
    small.correct(void(one("e1")))
    assert unmatched() == [("llm", 1, 6)]
    small.correct(void(one("e3")))
    assert unmatched() == []
    small.hold()
    small.send(llm("e4"))
    assert unmatched() == [("llm", 1, 9)]
    small.hold()


def test_a_key_that_checks_has_rows_of_its_own_and_takes_no_place(small: World) -> None:
    keys = [small.app.keys.create(customer="ann") for _ in range(3)]
    for key in keys:
        small.app.gate.check(key.key, "api_calls")
    small.reopen()
    small.send(
        *[UsageEvent(f"e{n}", "api.call", "default", s, "ann") for n, s in enumerate(("s1", keys[0].record.id, "s2"))]
    )
    small.reopen()
    small.send(UsageEvent("last", "api.call", "default", keys[1].record.id, "ann"))
    ids = [key.record.id for key in keys]
    assert by_key(small, "api_calls") == {ids[0]: "2", ids[1]: "1", ids[2]: "1", "s1": "1", "other": "2"}
    small.correct(void(one("last")))
    assert by_key(small, "api_calls") == {ids[0]: "2", ids[1]: "1", ids[2]: "1", "s1": "1", "other": "1"}
    small.hold()


FIRST = "(SELECT min(subject) FROM rollups WHERE subject > 0)"
GIVEN = "SELECT day, environment, customer, subject + 1 FROM own_subjects ORDER BY subject DESC LIMIT 1"
TAMPERING = {
    "an event moved to other": f"""UPDATE rollups SET events = events - 1 WHERE subject = {FIRST} AND meter = 2;
        UPDATE rollups SET events = events + 1 WHERE subject = -1 AND meter = 2""",
    "a combination moved to other": "UPDATE dimensions SET combination = -1 WHERE combination > 0 AND meter = 3",
    "a place lost": "DELETE FROM own_subjects WHERE subject = (SELECT max(subject) FROM own_subjects)",
    "a place given": f"INSERT INTO own_subjects {GIVEN}",
    "nobody refused": "DELETE FROM own_subjects WHERE subject = -1",
    "a combination's place lost": "DELETE FROM own_combinations WHERE combination = (SELECT max(combination) FROM dimensions)",
    "no combination refused": "DELETE FROM own_combinations WHERE combination = -1",
}


@pytest.mark.parametrize("how", TAMPERING)
def test_who_is_other_is_verified_exactly(small: World, how: str) -> None:
    small.send(*[llm(f"e{n}", f"s{n % 4}", tokens=n, model="abcd"[n % 4]) for n in range(8)])
    assert verified(small).ok
    small.app.usage_file.writer.call(lambda log: log.db.execute(TAMPERING[how]).fetchall())
    found = verified(small)
    assert found.differences >= 1
    assert all("stored" in line and "the log has" in line for line in found.shown)


def test_another_bound_in_a_later_version_changes_no_day_that_met_the_first(tmp_path: Path) -> None:
    with caps(2, 2):
        world = World(tmp_path)
        world.send(*[llm(f"e{n}", f"s{n}", tokens=1, model=f"m{n}") for n in range(4)])
    with caps(9, 9):
        world.reopen()
        world.send(llm("later", "s3", tokens=1, model="m3"))
        assert by_key(world) == {"s0": "1", "s1": "1", "other": "3"}
        world.hold()
    with caps(1, 1):
        world.reopen()
        world.send(llm("last", "s1", tokens=1, model="m1"))
        assert by_key(world) == {"s0": "1", "s1": "2", "other": "3"}
        world.hold()
        world.app.close()


def test_what_retention_removed_is_verified_as_far_as_the_log_goes(small: World) -> None:
    def sent(day: int) -> None:
        batch = [llm(f"{day}-{n}", f"s{n}", tokens=n, model="abcd"[n % 4]) for n in range(6)]
        small.send(*batch)
        small.correct(amend(one(f"{day}-5"), {"tokens": 1, "model": "a"}))
        small.correct(void(one(f"{day}-0")))
        small.time.move(DAY_US * 1000)

    for day in range(3):
        sent(day)
    for most in (4, 7, 2):
        assert small.app.usage_file.writer.call(lambda log: compact(log, small.now, most)).removed == most  # noqa: B023 - called at once
        small.hold()
    sent(3)
    small.hold()


def test_a_file_that_knew_no_places_keeps_those_whose_rows_are_there(tmp_path: Path) -> None:
    with caps(2, 2):
        world = World(tmp_path)
        world.send(*[llm(f"e{n}", f"s{n}", tokens=n, model="abcd"[n % 4]) for n in range(6)])

        def forget(log: Any) -> None:
            log.db.execute(
                "DELETE FROM own_subjects; DELETE FROM own_combinations; UPDATE own_since SET day = (SELECT max(day) + 1 FROM rollups)"
            ).fetchall()

        world.app.usage_file.writer.call(forget)
        world.reopen()
        world.hold()
        assert world.app.usage_file.cuts.cut("live", "ann", world.now + 60 * SECOND)
        world.send(llm("later", "s4", tokens=10, model="c"), llm("known", "s1", tokens=20, model="b"))
        world.correct(void(one("e5")))
        world.correct(amend(one("e2"), {"tokens": 3, "model": "b"}))
        assert by_key(world) == {"s0": "0", "s1": "21", "other": "20"}
        assert by_model(world) == {"a": "4", "b": "20", "other": "10"}
        world.hold()
        world.app.close()


# what the log says, told by a list


@dataclass
class Told:
    """An event from outside: its subject and time, and what was said of it, the last of which holds. None: it was voided."""

    subject: str | None
    at: int
    data: dict[str, Any] | None


@dataclass
class Oracle:
    """Who has rows of its own, by the order in which things were said."""

    most_subjects: int
    most_combinations: int
    start: int
    events: list[Told] = field(default_factory=list)
    subjects: dict[int, list[str | None]] = field(default_factory=dict)
    combinations: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    def say(self, event: Told) -> None:
        """Its data is new."""
        if event.data is None or not event.data.keys() & {"tokens", "model"}:
            return
        own = self.subjects.setdefault(event.at // DAY_US, [])
        if event.subject is not None and event.subject not in own and None not in own:
            own.append(event.subject if len(own) < self.most_subjects else None)
        if "tokens" not in event.data:
            return
        for meter in ("by_model", "largest"):
            taken = self.combinations.setdefault(f"{meter} {event.at >= self.start}", [])
            combination = tuple(event.data.get(name) for name in GROUPS[meter])
            if combination not in taken and () not in taken:
                taken.append(combination if len(taken) < self.most_combinations else ())

    def groups(self, meter: str) -> dict[tuple[Any, ...], Any]:
        """Every key with every combination."""
        found: dict[tuple[Any, ...], list[Decimal]] = {}
        for event in self.events:
            if event.data is None or "tokens" not in event.data:
                continue
            own = self.subjects[event.at // DAY_US]
            subject = "other" if event.subject is not None and event.subject not in own else event.subject
            combination = tuple(event.data.get(name) for name in GROUPS.get(meter, ()))
            if meter in GROUPS and combination not in self.combinations[f"{meter} {event.at >= self.start}"]:
                combination = ("other",) * len(combination)
            found.setdefault((subject, *combination), []).append(Decimal(event.data["tokens"]))
        way = {"largest": max, "smallest": min}.get(meter, sum)
        return {key: (way(values), len(values)) for key, values in found.items()}


DATA = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.integers(-2, 5),
        "model": st.sampled_from(("a", "b", "c", "d")),
        "region": st.sampled_from(("eu", "us")),
    },
)
AGES = st.sampled_from((0, 0, 0, 1, 300, 437, 900, 86_400, 5 * 86_400, 7 * 86_400))
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("send"), st.lists(st.tuples(st.sampled_from((None, *SUBJECTS)), AGES, DATA), min_size=1, max_size=5)
        ),
        st.tuples(
            st.just("send"), st.lists(st.tuples(st.sampled_from((None, *SUBJECTS)), AGES, DATA), min_size=1, max_size=5)
        ),
        st.tuples(st.just("void"), st.integers(0, 30)),
        st.tuples(st.just("amend"), st.integers(0, 30), DATA),
        st.tuples(st.just("void range"), AGES, st.sampled_from((60, 1_000, 90_000))),
        st.tuples(st.just("amend range"), AGES, st.sampled_from((60, 1_000, 90_000)), DATA),
        st.tuples(st.just("cut"), AGES),
        st.tuples(st.just("check")),
        st.tuples(st.just("fail")),
        st.tuples(st.just("reopen")),
    ),
    min_size=3,
    max_size=16,
)


@settings(max_examples=300 if SOAK else 40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 3), st.integers(1, 3), STEPS)
def test_who_is_other_follows_from_the_log_whatever_is_sent_corrected_cut_and_restarted(
    most_subjects: int, most_combinations: int, steps: list[Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder, caps(most_subjects, most_combinations):
        world = World(Path(folder))
        bought = world.now
        world.time.move(35 * DAY_US * 1000)  # the second period is some days old
        start = int(datetime.fromtimestamp(bought // SECOND, UTC).replace(month=10).timestamp()) * SECOND
        oracle = Oracle(most_subjects, most_combinations, start)
        key = world.app.keys.create(customer="ann")
        try:
            for step in steps:
                take(world, oracle, key.key, step)
                world.time.move(1_000_000_000)
            world.hold()
            compare(world, oracle)
            world.reopen()
            world.hold()
        finally:
            world.app.close()


def take(world: World, oracle: Oracle, key: str, step: tuple[Any, ...]) -> None:
    kind, *arguments = step
    if kind == "send":
        batch = []
        for subject, age, data in arguments[0]:
            batch.append(llm(f"e{len(oracle.events)}", subject, age, world, **data))
            oracle.events.append(Told(subject, world.now - age * SECOND, data))
            oracle.say(oracle.events[-1])
        assert set(world.send(*batch)) == {"accepted"}
    elif kind in ("void", "amend"):
        number = arguments[0]
        if number < len(oracle.events):
            event, selection = oracle.events[number], one(f"e{number}")
            asked = void(selection) if kind == "void" else amend(selection, arguments[1])
            if event.data is None:
                with pytest.raises(EventVoided):
                    world.app.corrections.correct(asked)
                return
            world.correct(asked)
            event.data = None if kind == "void" else arguments[1]
            oracle.say(event)
    elif kind in ("void range", "amend range"):
        start = world.now - arguments[0] * SECOND
        end = start + arguments[1] * SECOND
        selection = Selection(start=start, end=end, customer="ann", type="llm")
        world.correct(void(selection) if kind == "void range" else amend(selection, arguments[2]))
        for event in oracle.events:
            if start <= event.at < end and event.data is not None:
                event.data = None if kind == "void range" else arguments[2]
                oracle.say(event)
    elif kind == "cut":
        at = (world.now - arguments[0] * SECOND) // SECOND * SECOND
        assert world.app.usage_file.cuts.cut("live", "ann", at)
    elif kind == "check":
        assert world.app.gate.check(key, "api_calls").code in ("VALID", "QUOTA_EXCEEDED")
    elif kind == "fail":
        log = world.app.usage_file.writer.log
        with pytest.raises(ZeroDivisionError):
            world.app.usage_file.writer.call(lambda _: failing(log))
    else:
        world.reopen()


def failing(log: Any) -> None:
    """A transaction that takes places and is undone."""
    with log.transaction():
        for subject in SUBJECTS:
            log._subjects.fold(log._now_us() // DAY_US, 0, log._number("c", "ann"), log._number("u", subject))
        raise ZeroDivisionError


def compare(world: World, oracle: Oracle) -> None:
    for meter in ("tokens", "by_model", "largest", "smallest"):
        answer = world.app.usage.query(
            meter,
            customer="ann",
            start=world.now - 40 * DAY_US,
            end=world.now + DAY_US,
            group_by=("key", *GROUPS.get(meter, ())),
        )
        found = {tuple(row.group.values()): (Decimal(row.value or 0), row.events) for row in answer.data if row.events}
        assert json.dumps(sorted(map(str, found.items()))) == json.dumps(
            sorted(map(str, oracle.groups(meter).items()))
        ), meter


MOVED_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("send"),
            st.sampled_from((None, *SUBJECTS)),
            st.sampled_from((0, 1, 300, 900, 86_400)),
            st.sampled_from("abcd"),
            st.integers(-2, 5),
        ),
        st.tuples(st.just("void"), st.integers(0, 12)),
        st.tuples(st.just("amend"), st.integers(0, 12), st.sampled_from("abcd"), st.integers(-2, 5)),
        st.tuples(st.just("cut"), st.sampled_from((0, 300, 900))),
        st.tuples(st.just("buy")),
        st.tuples(st.just("wait"), st.sampled_from((1, 60, 400))),
    ),
    max_size=25,
)


@settings(max_examples=300 if SOAK else 40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from((1, 3, 1_000)), MOVED_STEPS)
def test_a_customer_who_buys_late_can_be_corrected_and_is_verified(most: int, steps: list[Any]) -> None:
    """Before and after, its usage is cut by two calendars, in one quarter of an hour, too."""
    with tempfile.TemporaryDirectory() as folder, caps(most, most):
        world = World(Path(folder))
        try:
            world.app.customers.create(id="dan", name="Dan", plan=None)
            counts: list[int | None] = []
            for kind, *arguments in steps:
                if kind == "send":
                    subject, age, model, tokens = arguments
                    event = llm(f"e{len(counts)}", subject, age, world, tokens=tokens, model=model)
                    assert world.send(replace(event, customer="dan")) == ["accepted"]
                    counts.append(tokens)
                elif kind == "buy":
                    world.app.customers.move("dan", "free")
                elif kind == "wait":
                    world.time.move(arguments[0] * 1_000_000_000)
                elif kind == "cut":
                    at = (world.now - arguments[0] * SECOND) // SECOND * SECOND
                    assert world.app.usage_file.cuts.cut("live", "dan", at)
                elif arguments[0] < len(counts) and counts[arguments[0]] is not None:
                    number, *changed = arguments
                    asked = void(one(f"e{number}"))
                    if changed:
                        asked = amend(one(f"e{number}"), {"model": changed[0], "tokens": changed[1]})
                    world.app.corrections.correct(asked)
                    counts[number] = changed[1] if changed else None
            found = verified(world)
            assert found.ok, found.shown
            whole = world.used("tokens", customer="dan", start=world.now - 40 * DAY_US, end=world.now + DAY_US)
            assert whole == str(sum(count for count in counts if count is not None))
        finally:
            world.app.close()
