"""Usage looked up: zones cut days and months; periods are those that are billed."""

from __future__ import annotations

from pathlib import Path

import pytest

from spine import CATALOG, DAY, SECOND, START, ManualClock, Spine
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.periods import CELL_US, period_at
from tollkeeper.core.usage import Window

ANCHOR = START // 1000


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
def test_a_zone_in_the_question_never_moves_a_period(spine: Spine, zone: str) -> None:
    customer = spine.customer("pro", zone="America/New_York")
    key = spine.key(customer)
    first = period_at(ANCHOR, "America/New_York", ANCHOR)
    second = period_at(ANCHOR, "America/New_York", first[1])
    third = period_at(ANCHOR, "America/New_York", second[1])
    assert third[0] % (3600 * 1_000_000) == ANCHOR % (3600 * 1_000_000)
    assert third[0] - ANCHOR == (30 + 31) * DAY // 1000 + 3600 * 1_000_000  # the clocks went back on 1 November
    spine.time.now = third[0] * 1000 - 1800 * SECOND
    spine.app.gate.check(key, "api_calls")  # in UTC it would be in the next period
    spine.time.now = third[0] * 1000
    spine.app.gate.check(key, "api_calls", 2)
    usage = spine.app.usage
    assert usage.query("api_calls", customer=customer, zone=zone).total == "2"
    assert usage.query("api_calls", customer=customer, zone=zone, end=third[0]).total == "1"
    rows = usage.query("api_calls", customer=customer, zone=zone, start=ANCHOR, window="period").data
    assert [(row.start, row.value) for row in rows] == [(ANCHOR, "0"), (second[0], "1"), (third[0], "2")]


@pytest.mark.parametrize("window", [None, "hour", "day", "month", "period"])
def test_up_to_a_boundary_means_the_period_before_it(spine: Spine, window: Window | None) -> None:
    customer = spine.customer("pro")
    spine.app.gate.check(spine.key(customer), "api_calls", 3)
    start, end = period_at(ANCHOR, "UTC", ANCHOR)
    spine.time.now = end * 1000 + SECOND
    answer = spine.app.usage.query("api_calls", customer=customer, end=end, window=window)
    assert (answer.total, answer.data[0].start, answer.data[-1].end) == ("3", start, end)


def test_days_are_of_the_zone_a_customer_has_now_and_periods_of_the_one_they_bought_in(spine: Spine) -> None:
    customer = spine.customer("pro", zone="America/New_York")
    spine.app.customers.change(customer, zone="Asia/Kathmandu")
    spine.time.move(50 * DAY)
    usage = spine.app.usage
    days = usage.query("api_calls", customer=customer, start=ANCHOR, window="day").data
    assert {row.start % (DAY // 1000) for row in days[1:]} == {(18 * 60 + 15) * 60 * 1_000_000}  # midnight at +05:45
    periods = usage.query("api_calls", customer=customer, start=ANCHOR, window="period").data
    assert periods[0].end == period_at(ANCHOR, "America/New_York", ANCHOR)[1]


@pytest.mark.parametrize("age", [1, 35, 90])
def test_days_no_event_could_have_come_from_are_unknown_and_not_zero(tmp_path: Path, age: int) -> None:
    with Tollkeeper(str(tmp_path / "toll.db"), clock=ManualClock().clock(), event_max_age_days=age) as app:
        app.catalog.apply(CATALOG)
        days = app.usage.query("api_calls", start=ANCHOR - 100 * DAY // 1000, window="day").data
        unknown = [row for row in days if row.state == "unknown"]
        assert {row.value for row in unknown} == {None}
        assert unknown[-1].end <= ANCHOR - age * DAY // 1000 < unknown[-1].end + DAY // 1000


def test_times_within_a_quarter_of_an_hour_are_widened_to_it_and_told_so(spine: Spine) -> None:
    customer = spine.customer("pro")
    key = spine.key(customer)
    quarter = -(-ANCHOR // CELL_US) * CELL_US
    spine.time.now = (quarter + CELL_US - 1_000_000) * 1000  # its last second
    spine.app.gate.check(key, "api_calls")
    answer = spine.app.usage.query("api_calls", customer=customer, start=quarter + 1_000_000, end=quarter + 2_000_000)
    assert answer.total == "1"
    assert [(row.start, row.end) for row in answer.data] == [(quarter, quarter + CELL_US)]
