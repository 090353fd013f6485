"""Whatever is voided and amended, in whatever order: usage is what it would be, had only what counts been sent."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tollkeeper.core.corrections import EventVoided, Selection
from tollkeeper.core.events import UsageEvent

from .world import DAY_US, World, amend, one, void

SOAK = bool(os.environ.get("TOLLKEEPER_SOAK"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AGES = (0, 0, 1, 700, 900, 5_000, 86_400, 20 * 86_400, 31 * 86_400, -200)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.sampled_from((1, 2, 5, Decimal("2.5"), "0.000000001", -3)),
        "model": st.sampled_from(("a", "b", "c")),
        "region": st.sampled_from((1, "eu")),
    },
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("llm", "llm", "llm", "api.call", "other")),
        st.sampled_from(("ann", "bob")),
        st.sampled_from((None, "s1", "s2")),
        st.sampled_from(AGES),
        DATA,
    ),
    min_size=1,
    max_size=14,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("void"), st.integers(0, 13)),
        st.tuples(st.just("amend"), st.integers(0, 13), DATA),
        st.tuples(
            st.sampled_from(("void range", "amend range")),
            st.sampled_from(AGES),
            st.sampled_from((60, 1_000, 86_400, 40 * 86_400)),
            st.sampled_from(
                ({}, {"customer": "ann"}, {"subject": "s1"}, {"type": "llm"}, {"meter": "tokens_of_a"}, {"source": "x"})
            ),
            DATA,
        ),
        st.tuples(st.just("reopen")),
    ),
    min_size=1,
    max_size=6,
)


def counted_by(meter: str, event: UsageEvent) -> bool:
    data = event.data or {}
    return meter != "tokens_of_a" or (event.type == "llm" and data.get("model") == "a" and "tokens" in data)


def is_in(event: UsageEvent, start: int, end: int, narrower: dict[str, Any]) -> bool:
    assert event.time is not None
    at = (event.time - EPOCH) // timedelta(microseconds=1)
    return (
        start <= at < end
        and all(getattr(event, name) == value for name, value in narrower.items() if name != "meter")
        and ("meter" not in narrower or counted_by(narrower["meter"], event))
    )


@settings(max_examples=150 if SOAK else 25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS, STEPS)
def test_usage_is_what_it_would_be_had_only_what_counts_been_sent(events: list[Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").mkdir()
        (Path(folder) / "b").mkdir()
        world = World(Path(folder) / "a")
        sent: list[UsageEvent | None] = []
        for number, (type, customer, subject, age, data) in enumerate(events):
            time = EPOCH + timedelta(microseconds=world.now - age * 1_000_000)
            sent.append(UsageEvent(f"event-{number}", type, "default", subject, customer, time, data))
        assert set(world.send(*[event for event in sent if event])) == {"accepted"}
        for step in steps:
            kind, *arguments = step
            if kind == "reopen":
                world.reopen()
                continue
            if kind in ("void", "amend"):
                number = arguments[0] % len(sent)
                event, selection = sent[number], one(f"event-{number}")
                asked = void(selection) if kind == "void" else amend(selection, arguments[1])
                if event is None:
                    try:
                        world.app.corrections.correct(asked)
                    except EventVoided:
                        continue
                    raise AssertionError("a voided event was corrected")
                world.correct(asked)
                sent[number] = None if kind == "void" else replace(event, data=arguments[1])
            else:
                age, length, narrower, data = arguments
                start = world.now - age * 1_000_000
                end = start + length * 1_000_000
                selection = Selection(start=start, end=end, **narrower)
                world.correct(void(selection) if kind == "void range" else amend(selection, data))
                for number, event in enumerate(sent):
                    if event is not None and is_in(event, start, end, narrower):
                        sent[number] = None if kind == "void range" else replace(event, data=data)
            world.hold()
        ideal = World(Path(folder) / "b")
        left = [event for event in sent if event is not None]
        if left:
            ideal.send(*left)
        assert world.usage() == ideal.usage()
        world.reopen()
        world.hold()
        world.app.close()
        ideal.app.close()


@settings(max_examples=100 if SOAK else 15, deadline=None)
@given(EVENTS, STEPS)
def test_a_scan_of_the_log_finds_every_total_that_a_correction_changed(events: list[Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        reader = world.app.usage_file.reader
        batch = [
            UsageEvent(
                f"event-{i}",
                type,
                "default",
                subject,
                customer,
                EPOCH + timedelta(microseconds=world.now - age * 1_000_000),
                data,
            )
            for i, (type, customer, subject, age, data) in enumerate(events)
        ]
        world.send(*batch)
        for step in steps:
            kind, *arguments = step
            before, after = world.usage(), reader.last_seq()
            try:
                if kind in ("void", "amend"):
                    selection = one(f"event-{arguments[0] % len(batch)}")
                    asked = void(selection) if kind == "void" else amend(selection, arguments[1])
                elif kind == "reopen":
                    continue
                else:
                    start = world.now - arguments[0] * 1_000_000
                    selection = Selection(start=start, end=start + arguments[1] * 1_000_000, **arguments[2])
                    asked = void(selection)
                made = world.app.corrections.correct(asked)
            except EventVoided:
                continue
            found, last = reader.touched(after, 1_000)
            assert last == reader.last_seq() == after + made.events
            days = {(one.customer, one.meter, day_of(world, one.customer, one.first)) for one in found}
            days |= {(one.customer, one.meter, day_of(world, one.customer, one.last)) for one in found}
            now = world.usage()
            changed = {key for key in {*before, *now} if before.get(key) != now.get(key) and len(key) > 2}
            assert {key[:3] for key in changed} <= days
            in_parts = [reader.touched(at, 1)[0] for at in range(after, last)]
            assert {touch[:4] for part in in_parts for touch in part} == {touch[:4] for touch in found}
        world.app.close()


def day_of(world: World, customer: str, at: int) -> int:
    """The start of the customer's day, as `usage` has it."""
    start = world.now - 40 * DAY_US
    start -= start % 900_000_000
    answer = world.app.usage.query("tokens", customer=customer, start=start, end=world.now + DAY_US, window="day")
    return next(row.start for row in answer.data if row.start <= at < row.end)
