from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.limits import MAX_LIMIT_PER_SECOND, SECOND_NS, judge, policy, refund, take

START = 1_700_000_000 * SECOND_NS
windows = st.sampled_from([1, 2, 7, 60, 3600, 86_400, 31_536_000]) | st.integers(1, 31_536_000)
small_limits = st.integers(1, 50)
costs = st.integers(1, 5)


@st.composite
def limits_and_windows(draw: st.DrawFn) -> tuple[int, int]:
    window = draw(windows)
    return draw(st.integers(1, min(10**9, window * MAX_LIMIT_PER_SECOND))), window


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int]]]:
    """(limit, window in seconds, [(ns since the last request, cost)]), dense enough to be refused now and then."""
    limit, window = draw(small_limits), draw(st.sampled_from([1, 2, 7, 60]))
    interval = policy(limit, window)[0]
    gaps = st.integers(0, 3 * interval) | st.sampled_from([0, interval - 1, interval, interval + 1, window * SECOND_NS])
    return limit, window, draw(st.lists(st.tuples(gaps, costs), max_size=60))


class TokenBucket:
    """The reference: a bucket of `limit` tokens, refilled one per `interval`, in exact fractions."""

    def __init__(self, limit: int, interval: Fraction, now: int) -> None:
        self.limit, self.interval, self.level, self.at = limit, interval, Fraction(limit), now

    def refill(self, now: int) -> None:
        self.level = min(Fraction(self.limit), self.level + Fraction(now - self.at) / self.interval)
        self.at = now

    def take(self, now: int, cost: int) -> bool:
        self.refill(now)
        if cost > self.level:
            return False
        self.level -= cost
        return True


@given(limits_and_windows())
def test_rounding_gives_at_most_the_limit_and_loses_under_a_thousandth(pair: tuple[int, int]) -> None:
    limit, window = pair
    interval, capacity = policy(limit, window)
    assert capacity == limit * interval
    assert Fraction(window * SECOND_NS, limit) <= interval < Fraction(window * SECOND_NS, limit) * Fraction(1001, 1000)


@given(limits_and_windows())
def test_a_fresh_bucket_admits_exactly_the_limit_at_once(pair: tuple[int, int]) -> None:
    limit, window = pair
    interval, capacity = policy(limit, window)
    assert judge(0, START, interval, capacity, limit) == (True, 0, capacity, 0)
    assert judge(0, START, interval, capacity, limit + 1) == (False, limit, 0, None)
    full = take(0, START, interval, limit)
    assert judge(full, START, interval, capacity, 1) == (False, 0, capacity, interval)
    assert judge(full, START + interval - 1, interval, capacity, 1).allowed is False
    assert judge(full, START + interval, interval, capacity, 1).allowed is True


@given(arrivals())
def test_every_answer_equals_an_exact_token_bucket(case: tuple[int, int, list[tuple[int, int]]]) -> None:
    limit, window, steps = case
    interval, capacity = policy(limit, window)
    reference = TokenBucket(limit, Fraction(interval), START)
    tat, now = 0, START
    for gap, cost in steps:
        now += gap
        state = judge(tat, now, interval, capacity, cost)
        assert state.allowed == reference.take(now, cost)
        assert state.remaining == int(reference.level)
        assert state.reset_ns == (limit - reference.level) * interval
        if state.allowed:
            tat = take(tat, now, interval, cost)
        elif cost > limit:
            assert state.retry_after_ns is None
        else:
            assert state.retry_after_ns == (cost - reference.level) * interval


@given(arrivals())
def test_no_window_admits_more_than_the_limit_and_its_refill(case: tuple[int, int, list[tuple[int, int]]]) -> None:
    limit, window, steps = case
    interval, capacity = policy(limit, window)
    tat, now = 0, START
    admitted: list[tuple[int, int]] = []
    for gap, cost in steps:
        now += gap
        if judge(tat, now, interval, capacity, cost).allowed:
            tat = take(tat, now, interval, cost)
            admitted.append((now, cost))
    for i, (begin, _) in enumerate(admitted):
        total = 0
        for end, cost in admitted[i:]:
            total += cost
            assert total <= limit + Fraction((end - begin) * limit, window * SECOND_NS)


@given(arrivals(), costs)
def test_a_refund_at_once_restores_what_the_request_took(
    case: tuple[int, int, list[tuple[int, int]]], cost: int
) -> None:
    limit, window, steps = case
    interval, capacity = policy(limit, window)
    tat, now = 0, START
    for gap, step_cost in steps:
        now += gap
        if judge(tat, now, interval, capacity, step_cost).allowed:
            tat = take(tat, now, interval, step_cost)
    if not judge(tat, now, interval, capacity, cost).allowed:
        return
    restored = refund(take(tat, now, interval, cost), now, interval, cost)
    for wanted in range(1, limit + 1):
        assert judge(restored, now, interval, capacity, wanted) == judge(tat, now, interval, capacity, wanted)


@given(arrivals(), st.data())
def test_refunds_give_back_at_most_twice_what_was_refunded_and_never_overfill(
    case: tuple[int, int, list[tuple[int, int]]], data: st.DataObject
) -> None:
    limit, window, steps = case
    interval, capacity = policy(limit, window)
    reference = TokenBucket(limit, Fraction(interval), START)
    tat, now, refunded = 0, START, 0
    held: list[int] = []
    for gap, cost in steps:
        now += gap
        reference.refill(now)
        if held and data.draw(st.booleans()):
            back = held.pop()
            refunded += back
            tat = refund(tat, now, interval, back)
        state = judge(tat, now, interval, capacity, cost)
        assert state.remaining <= limit
        if state.allowed:
            tat = take(tat, now, interval, cost)
            held.append(cost)
            reference.level -= cost
            # Without refunds the level would not go below 0; with them it goes below by no more than this.
            assert reference.level >= -2 * refunded


@pytest.mark.parametrize(
    ("limit", "window_seconds", "expected"), [(10, 1, 100_000_000), (3, 1, 333_333_334), (70_000, 1, 14_286)]
)
def test_the_interval_is_the_window_over_the_limit_rounded_up(limit: int, window_seconds: int, expected: int) -> None:
    assert policy(limit, window_seconds)[0] == expected
