"""The throttle finds what an upstream can do, follows it, and sheds the light ones first: shown on simulated upstreams."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.throttle import FIRST, LEAST, Throttle


@dataclass
class World:
    """Callers arrive at a rate; the upstream works on `servers` at once, each for `service` seconds, the rest queue in it."""

    throttle: Throttle
    servers: int = 10
    service: float = 0.05
    now: float = 0.0
    fails: bool = False
    free_at: list[float] = field(default_factory=list)
    leaving: list[tuple[float, int, float, bool]] = field(default_factory=list)
    answered: int = 0
    shed: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    _number: int = 0

    def run(self, seconds: float, rate: float, weights: tuple[int, ...] = (100,)) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 1 / rate
            while self.leaving and self.leaving[0][0] <= self.now:
                at, _, began, failed = heapq.heappop(self.leaving)
                self.throttle.leave(began, at, failed)
                self.answered += not failed
                self.latencies.append(at - began)
            self._number += 1
            weight = weights[self._number % len(weights)]
            if not self.throttle.enter(weight):
                self.shed[weight] = self.shed.get(weight, 0) + 1
                continue
            while len(self.free_at) < self.servers:
                heapq.heappush(self.free_at, self.now)
            while len(self.free_at) > self.servers:
                heapq.heappop(self.free_at)
            start = max(self.now, heapq.heappop(self.free_at))
            done = start + self.service
            heapq.heappush(self.free_at, done)
            heapq.heappush(self.leaving, (done, self._number, self.now, self.fails))


def test_an_upstream_that_keeps_up_is_never_held_back() -> None:
    world = World(Throttle())
    world.run(60, rate=100)  # half of what 10 servers of 50 ms can do
    assert world.shed == {}
    assert world.answered >= 5990


def test_an_overloaded_upstream_is_kept_busy_and_answers_in_time() -> None:
    world = World(Throttle())
    world.run(30, rate=600)  # three times what it can do
    world.latencies.clear()
    before = world.answered
    world.run(30, rate=600)
    assert world.answered - before >= 0.9 * 30 * 200
    latencies = sorted(world.latencies)
    assert latencies[len(latencies) * 95 // 100] <= 3 * 0.05


def test_without_it_the_same_overload_ends_in_a_queue() -> None:
    """What the throttle is for: an unbounded one lets the queue, and so the wait, grow without end."""

    class Unbounded(Throttle):
        def enter(self, weight: int = 100) -> bool:
            self.in_flight += 1
            return True

    world = World(Unbounded())
    world.run(30, rate=600)
    assert max(world.latencies) > 5


def test_it_follows_an_upstream_that_becomes_slow_and_one_that_recovers() -> None:
    world = World(Throttle())
    world.run(20, rate=600)
    world.service = 0.5
    world.run(200, rate=600)
    slow = world.throttle.limit
    assert LEAST <= slow <= 30
    world.service = 0.05
    world.latencies.clear()
    before = world.answered
    world.run(30, rate=600)
    assert world.answered - before >= 0.6 * 30 * 200


def test_failures_shrink_it_to_one_and_success_brings_it_back() -> None:
    world = World(Throttle(), fails=True)
    world.run(30, rate=300)
    assert world.throttle.limit == LEAST
    world.fails = False
    world.run(60, rate=300)
    before = world.answered
    world.run(30, rate=300)
    assert world.answered - before >= 0.8 * 30 * 200


def test_light_plans_are_shed_before_heavy_ones() -> None:
    world = World(Throttle())
    world.run(60, rate=250, weights=(100, 1))
    assert world.shed.get(100, 0) < 0.2 * world.shed[1]


def test_one_caller_at_a_time_always_passes() -> None:
    throttle = Throttle()
    for number in range(200):
        assert throttle.enter(1)
        throttle.leave(number, number + 0.5, True)
    assert throttle.limit == LEAST


def test_who_went_away_says_nothing() -> None:
    throttle = Throttle()
    throttle.enter()
    throttle.leave(0, 100, None)
    assert (throttle.limit, throttle.in_flight) == (FIRST, 0)


@pytest.mark.parametrize("most", [1.0, 5.0, 1000.0])
@given(st.lists(st.tuples(st.integers(1, 100), st.sampled_from([True, False, None]), st.floats(0, 10))))
def test_it_stays_within_its_bounds(most: float, calls: list[tuple[int, bool | None, float]]) -> None:
    throttle = Throttle(most)
    now = 0.0
    under_way: list[float] = []
    for weight, failed, wait in calls:
        now += wait
        if throttle.enter(weight):
            under_way.append(now)
        elif under_way:
            throttle.leave(under_way.pop(0), now, failed)
        assert LEAST <= throttle.limit <= most
        assert 0 <= throttle.in_flight == len(under_way) <= max(1.0, most)
        assert throttle.retry_after >= 1
