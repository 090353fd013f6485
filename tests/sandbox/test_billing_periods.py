"""Billing periods: month ends come back, leap days, weeks, and no gap between one period and the next."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.sandbox.billing_periods import anchor_of, boundary, period_at


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("anchor", "interval", "count", "starts"),
    [
        ("2027-01-31T15:37:12", "month", 1, ["2027-02-28T15:37:12", "2027-03-31T15:37:12", "2027-04-30T15:37:12"]),
        ("2028-01-30T00:00:00", "month", 1, ["2028-02-29T00:00:00", "2028-03-30T00:00:00", "2028-04-30T00:00:00"]),
        ("2028-02-29T10:00:00", "year", 1, ["2029-02-28T10:00:00", "2030-02-28T10:00:00", "2031-02-28T10:00:00"]),
        ("2027-11-30T10:00:00", "month", 3, ["2028-02-29T10:00:00", "2028-05-30T10:00:00", "2028-08-30T10:00:00"]),
        ("2027-03-27T01:30:00", "week", 1, ["2027-04-03T01:30:00", "2027-04-10T01:30:00", "2027-04-17T01:30:00"]),
        ("2027-12-31T23:59:59", "day", 1, ["2028-01-01T23:59:59", "2028-01-02T23:59:59", "2028-01-03T23:59:59"]),
    ],
)
def test_boundaries_follow_the_anchor(anchor: str, interval: str, count: int, starts: list[str]) -> None:
    assert [boundary(at(anchor), interval, count, k) for k in (1, 2, 3)] == [at(start) for start in starts]


def test_a_leap_day_comes_back_after_four_years() -> None:
    assert boundary(at("2028-02-29T10:00:00"), "year", 1, 4) == at("2032-02-29T10:00:00")


@given(
    st.integers(0, 4_000_000_000),
    st.sampled_from(["day", "week", "month", "year"]),
    st.integers(1, 3),
    st.integers(0, 4_000_000_000),
)
def test_periods_contain_their_instants_and_meet_without_a_gap(
    anchor: int, interval: str, count: int, instant: int
) -> None:
    start, end = period_at(anchor, interval, count, instant)
    assert start <= instant < end
    assert period_at(anchor, interval, count, end)[0] == end
    assert period_at(anchor, interval, count, start - 1)[1] == start


def test_an_anchor_is_the_next_instant_that_its_configuration_names() -> None:
    now = at("2027-02-10T08:00:00")
    assert anchor_of({"day_of_month": 31}, now) == at("2027-02-28T08:00:00")
    assert anchor_of({"day_of_month": 5, "hour": 0, "minute": 0, "second": 0}, now) == at("2027-03-05T00:00:00")
    assert anchor_of({"month": 1, "day_of_month": 1, "hour": 0, "minute": 0, "second": 0}, now) == at(
        "2028-01-01T00:00:00"
    )
