from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.gate import NOBODY, Bucket, Decision, Terms, decide
from tollkeeper.core.limits import MAX_LIMIT_PER_SECOND, SECOND_NS, policy, refund

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


def ask(bucket: Bucket, now: int, cost: int) -> Decision:
    """Judge one bucket and, when it admits, take: what the gate does under its lock."""
    code, refuser, tats = decide([bucket], now, cost, None, 0, 0)
    if code == "VALID":
        bucket.tat = tats[0]
    return Decision(code, 0, NOBODY, Terms([bucket]), now, [bucket.tat], reason=refuser)


def seconds(ns: Fraction) -> int:
    return math.ceil(ns / SECOND_NS)


@given(limits_and_windows())
def test_a_fresh_bucket_admits_exactly_the_limit_at_once_and_then_one_each_interval(pair: tuple[int, int]) -> None:
    limit, window = pair
    bucket = Bucket("b", limit, window, True)
    assert ask(bucket, START, limit + 1).retry_after(limit + 1) is None
    assert ask(bucket, START, limit).allowed
    refused = ask(bucket, START, 1)
    assert not refused.allowed
    assert refused.rate_limits[0].remaining == 0
    assert not ask(bucket, START + bucket.interval - 1, 1).allowed
    assert ask(bucket, START + bucket.interval, 1).allowed


@given(arrivals())
def test_every_answer_equals_an_exact_token_bucket(case: tuple[int, int, list[tuple[int, int]]]) -> None:
    """The reference takes nothing when it refuses: a denied request costs nothing."""
    limit, window, steps = case
    bucket = Bucket("b", limit, window, True)
    reference = TokenBucket(limit, Fraction(bucket.interval), START)
    now = START
    for gap, cost in steps:
        now += gap
        allowed = reference.take(now, cost)
        answer = ask(bucket, now, cost)
        (state,) = answer.rate_limits
        assert answer.allowed == allowed
        assert state.remaining == int(reference.level)
        assert state.reset_seconds == seconds((limit - reference.level) * bucket.interval)
        if not allowed:
            wait = seconds((cost - reference.level) * bucket.interval)
            assert answer.retry_after(cost) == (None if cost > limit else max(1, wait))


@given(arrivals())
def test_no_window_admits_more_than_the_limit_and_its_refill(case: tuple[int, int, list[tuple[int, int]]]) -> None:
    limit, window, steps = case
    bucket = Bucket("b", limit, window, True)
    now = START
    admitted: list[tuple[int, int]] = []
    for gap, cost in steps:
        now += gap
        if ask(bucket, now, cost).allowed:
            admitted.append((now, cost))
    for i, (begin, _) in enumerate(admitted):
        total = 0
        for end, cost in admitted[i:]:
            total += cost
            assert total <= limit + Fraction((end - begin) * limit, window * SECOND_NS)


@given(arrivals(), small_limits)
def test_several_limits_take_all_or_nothing(case: tuple[int, int, list[tuple[int, int]]], other_limit: int) -> None:
    limit, window, steps = case
    buckets = [Bucket("weighted", limit, window, True), Bucket("calls", other_limit, 2 * window, False)]
    weighted, calls = (TokenBucket(b.limit, Fraction(b.interval), START) for b in buckets)
    now = START
    for gap, cost in steps:
        now += gap
        weighted.refill(now)
        calls.refill(now)
        code, refuser, tats = decide(buckets, now, cost, None, 0, 0)
        first = buckets[0] if weighted.level < cost else buckets[1] if calls.level < 1 else None
        assert refuser is first
        assert (code == "VALID") == (first is None)
        if first is None:
            weighted.level -= cost
            calls.level -= 1
            for bucket, tat in zip(buckets, tats, strict=True):
                bucket.tat = tat


@given(arrivals(), costs)
def test_a_refund_at_once_restores_what_the_request_took(
    case: tuple[int, int, list[tuple[int, int]]], cost: int
) -> None:
    limit, window, steps = case
    bucket = Bucket("b", limit, window, True)
    now = START
    for gap, step_cost in steps:
        now += gap
        ask(bucket, now, step_cost)
    before = max(bucket.tat, now)
    if ask(bucket, now, cost).allowed:
        bucket.tat = refund(bucket.tat, now, cost * bucket.interval)
    assert max(bucket.tat, now) == before


@given(arrivals(), st.data())
def test_late_refunds_give_back_at_most_twice_what_was_refunded_and_never_overfill(
    case: tuple[int, int, list[tuple[int, int]]], data: st.DataObject
) -> None:
    limit, window, steps = case
    bucket = Bucket("b", limit, window, True)
    reference = TokenBucket(limit, Fraction(bucket.interval), START)
    now, refunded = START, 0
    held: list[int] = []
    for gap, cost in steps:
        now += gap
        reference.refill(now)
        if held and data.draw(st.booleans()):
            back = held.pop()
            refunded += back
            bucket.tat = refund(bucket.tat, now, back * bucket.interval)
        answer = ask(bucket, now, cost)
        assert answer.rate_limits[0].remaining <= limit
        if answer.allowed:
            held.append(cost)
            # Without refunds the level stays above 0; with them it goes below by no more than this.
            reference.level -= cost
            assert reference.level >= -2 * refunded


@pytest.mark.parametrize(
    ("limit", "window_seconds", "expected"), [(10, 1, 100_000_000), (3, 1, 333_333_334), (70_000, 1, 14_286)]
)
def test_the_interval_is_the_window_over_the_limit_rounded_up(limit: int, window_seconds: int, expected: int) -> None:
    assert policy(limit, window_seconds)[0] == expected
