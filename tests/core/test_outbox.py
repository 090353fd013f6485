"""Backoff and identifiers of the outbox; when a report is dated."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.billing import MINUTE_US, SECOND_US, report_time, whole_minutes
from tollkeeper.core.outbox import backoff_us, identify

HOUR_US = 3600 * SECOND_US
INSTANTS = st.integers(1_600_000_000, 2_000_000_000).map(lambda seconds: seconds * SECOND_US)


@given(st.integers(1, 500), st.integers(0, 2**32 - 1), st.floats(0, 10_000))
def test_backoff_doubles_from_a_second_to_an_hour_and_honours_what_was_asked_for(
    attempts: int, chance: int, asked: float
) -> None:
    wait = backoff_us(attempts, chance, asked)
    full = min(2.0 ** (attempts - 1) if attempts < 40 else 1e9, 3600.0)
    assert round(max(full / 2, asked) * SECOND_US) <= wait <= round(max(full, asked) * SECOND_US)


def test_parts_are_not_run_together() -> None:
    assert identify("ab", "c") != identify("a", "bc")
    assert identify("a", 1) == identify("a", "1")
    assert len(identify("a")) == 64


@given(INSTANTS, st.integers(1, 32 * 86_400), INSTANTS)
def test_a_report_is_dated_inside_its_period_whenever_it_is_made(start: int, seconds: int, now: int) -> None:
    end = start + seconds * SECOND_US
    at = report_time(start, end, now)
    assert start <= at < end
    assert at % SECOND_US == 0
    first, last = whole_minutes(start, end)
    if first < last:
        assert first <= at < last
        assert first % MINUTE_US == last % MINUTE_US == 0
        if start <= now < end:
            assert at <= now or at == first < now + MINUTE_US


@given(INSTANTS, st.integers(1, 100), st.integers(1, 100))
def test_no_minute_that_the_provider_is_asked_for_holds_two_periods(start: int, one: int, two: int) -> None:
    middle, end = start + one * SECOND_US, start + (one + two) * SECOND_US
    assert whole_minutes(start, middle)[1] <= whole_minutes(middle, end)[0]
