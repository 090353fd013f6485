from __future__ import annotations

import calendar
import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.periods import (
    CELL_US,
    EARLIEST_US,
    LATEST_US,
    Interval,
    ZoneInvalid,
    cell_start,
    find_zone,
    period_at,
)

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",  # -03:30, changed its clocks at 00:01
    "America/Santiago",  # changes at midnight
    "Africa/Cairo",
    "Asia/Kathmandu",  # +05:45
    "Asia/Kolkata",
    "Asia/Tehran",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Pacific/Chatham",  # +12:45
    "Pacific/Apia",  # 30 December 2011 did not happen
    "Pacific/Kiritimati",
    "Etc/GMT+12",
]
DAY_US = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

zones = st.sampled_from(ZONES)
intervals: st.SearchStrategy[Interval] = st.sampled_from(["month", "year"])
instants = st.integers(0, 4_102_444_800_000_000)  # 1970 to 2100
month_ends = st.builds(
    lambda year, month, back: us(
        datetime(year, month, calendar.monthrange(year, month)[1], 15, 37, 12, tzinfo=UTC) - timedelta(days=back)
    ),
    st.integers(1970, 2099),
    st.integers(1, 12),
    st.integers(0, 3),
)
anchors = instants | month_ends


def us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def at(text: str, zone: str = "UTC") -> int:
    return us(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)))


def shown(bounds: tuple[int, int], zone: str = "UTC") -> list[str]:
    return [(EPOCH + timedelta(microseconds=b)).astimezone(ZoneInfo(zone)).isoformat() for b in bounds]


@given(anchors, zones, instants | month_ends, intervals)
@example(at("2024-01-31 15:37:12"), "Pacific/Apia", at("2011-12-30 12:00"), "month")
def test_periods_tile_time_with_no_gap_and_no_overlap(anchor: int, zone: str, instant: int, interval: Interval) -> None:
    start, end = period_at(anchor, zone, instant, interval)
    assert start <= instant < end
    assert period_at(anchor, zone, start, interval) == (start, end)
    assert period_at(anchor, zone, end - 1, interval) == (start, end)
    assert period_at(anchor, zone, end, interval)[0] == end
    assert period_at(anchor, zone, start - 1, interval)[1] == start


@given(anchors, zones, instants, intervals)
def test_a_period_is_a_month_or_a_year_long(anchor: int, zone: str, instant: int, interval: Interval) -> None:
    start, end = period_at(anchor, zone, instant, interval)
    shortest, longest = (28, 31) if interval == "month" else (365, 366)
    # A change of the clocks adds or takes an hour; Apia and its like, a day.
    assert (shortest - 1) * DAY_US <= end - start <= (longest + 1) * DAY_US


@given(anchors, zones, intervals)
def test_the_anchor_itself_begins_a_period_to_the_second(anchor: int, zone: str, interval: Interval) -> None:
    assert period_at(anchor, zone, anchor, interval)[0] == anchor - anchor % 1_000_000


@given(anchors, zones, instants)
def test_a_boundary_has_the_anchors_wall_time_and_day_or_the_months_last_day(
    anchor: int, zone: str, instant: int
) -> None:
    rules = ZoneInfo(zone)
    wall = (EPOCH + timedelta(microseconds=anchor - anchor % 1_000_000)).astimezone(rules)
    start = (EPOCH + timedelta(microseconds=period_at(anchor, zone, instant)[0])).astimezone(rules)
    day = min(wall.day, calendar.monthrange(start.year, start.month)[1])
    wanted = wall.replace(year=start.year, month=start.month, day=day, fold=0)
    assume(wanted.astimezone(UTC).astimezone(rules).replace(tzinfo=None) == wanted.replace(tzinfo=None))  # not in a gap
    assert start.replace(tzinfo=None) == wanted.replace(tzinfo=None)


def test_the_31st_clamps_to_the_last_day_and_comes_back() -> None:
    anchor = at("2024-01-31 15:37:12")
    starts = [period_at(anchor, "UTC", at(f"2024-{month:02}-28 12:00"))[1] for month in range(1, 7)]
    assert [shown((s, s))[0][:19] for s in starts] == [
        "2024-01-31T15:37:12",
        "2024-02-29T15:37:12",
        "2024-03-31T15:37:12",
        "2024-04-30T15:37:12",
        "2024-05-31T15:37:12",
        "2024-06-30T15:37:12",
    ]


def test_29_february_clamps_in_common_years_and_comes_back_in_leap_years() -> None:
    anchor = at("2024-02-29 00:00:00")
    ends = [period_at(anchor, "UTC", at(f"{year}-03-01 00:00"), "year")[1] for year in range(2024, 2028)]
    assert [shown((e, e))[0][:10] for e in ends] == ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]


def test_2100_is_not_a_leap_year() -> None:
    assert shown(period_at(at("2100-01-31 00:00"), "UTC", at("2100-02-27 00:00")))[1] == "2100-02-28T00:00:00+00:00"


def test_a_wall_time_that_the_clocks_skip_moves_forward() -> None:
    anchor = at("2026-02-08 02:30:00", "America/New_York")  # on 8 March 2026 the clocks go from 02:00 to 03:00
    bounds = period_at(anchor, "America/New_York", anchor)
    assert shown(bounds, "America/New_York") == ["2026-02-08T02:30:00-05:00", "2026-03-08T03:30:00-04:00"]
    assert shown(period_at(anchor, "America/New_York", bounds[1]), "America/New_York")[1] == "2026-04-08T02:30:00-04:00"


def test_a_wall_time_that_occurs_twice_is_its_first_occurrence() -> None:
    anchor = at("2026-10-01 01:30:00", "America/New_York")  # on 1 November 2026 01:30 occurs twice
    assert shown(period_at(anchor, "America/New_York", anchor), "America/New_York")[1] == "2026-11-01T01:30:00-04:00"


def test_a_purchase_in_the_second_occurrence_begins_its_period_then_and_not_an_hour_earlier() -> None:
    anchor = us(datetime(2026, 11, 1, 6, 30, tzinfo=UTC))  # 01:30 -05:00, the second
    assert shown(period_at(anchor, "America/New_York", anchor), "America/New_York") == [
        "2026-11-01T01:30:00-05:00",
        "2026-12-01T01:30:00-05:00",
    ]


def test_a_day_that_a_zone_skipped_moves_forward_by_a_day() -> None:
    anchor = at("2011-11-30 12:00:00", "Pacific/Apia")
    assert shown(period_at(anchor, "Pacific/Apia", anchor), "Pacific/Apia")[1] == "2011-12-31T12:00:00+14:00"


def test_periods_before_the_anchor_follow_the_same_calendar() -> None:
    anchor = at("2024-03-31 08:00:00", "Europe/Berlin")
    assert shown(period_at(anchor, "Europe/Berlin", at("2024-02-10 00:00")), "Europe/Berlin") == [
        "2024-01-31T08:00:00+01:00",
        "2024-02-29T08:00:00+01:00",
    ]


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "Mars/Olympus",
        "utc",
        "../etc/passwd",
        "/etc/localtime",
        "America",
        "localtime",
        "right/UTC",
        "Europe/Berlin\0",
        "A" * 65,
    ],
)
def test_a_name_that_is_not_an_iana_zone_is_refused(zone: str) -> None:
    with pytest.raises(ZoneInvalid):
        find_zone(zone)


@given(st.text(max_size=80))
def test_any_text_is_a_zone_or_refused(name: str) -> None:
    with contextlib.suppress(ZoneInvalid):
        assert find_zone(name).key == name


@pytest.mark.parametrize("outside", [EARLIEST_US - 1, LATEST_US, -(10**30), 10**30])
def test_an_instant_outside_the_supported_years_is_refused(outside: int) -> None:
    with pytest.raises(InvalidRequest):
        period_at(0, "UTC", outside)
    with pytest.raises(InvalidRequest):
        period_at(outside, "UTC", 0)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("edge", [EARLIEST_US, LATEST_US - 1])
def test_the_first_and_the_last_supported_instant_have_a_period(zone: str, edge: int) -> None:
    for anchor in (EARLIEST_US, LATEST_US - 1):
        start, end = period_at(anchor, zone, edge, "year")
        assert start <= edge < end


@given(anchors, zones, instants)
def test_a_cell_is_a_quarter_of_an_hour_in_utc_cut_at_the_period(anchor: int, zone: str, instant: int) -> None:
    start, end = period_at(anchor, zone, instant)
    cell = cell_start(instant, start)
    assert start <= cell <= instant < min(cell + CELL_US, end)
    assert cell == start or cell % CELL_US == 0
    assert cell_start(cell, start) == cell  # every instant of a cell names the same start
    assert cell_start(min(cell - cell % CELL_US + CELL_US, end) - 1, start) == cell


def test_a_period_that_begins_inside_a_quarter_cuts_the_cell_in_two() -> None:
    anchor = at("2026-01-10 15:37:12")
    end = period_at(anchor, "UTC", anchor)[1]
    assert cell_start(anchor + 1, anchor) == anchor
    assert cell_start(end - 1, anchor) == at("2026-02-10 15:30")
    assert cell_start(end, end) == at("2026-02-10 15:37:12")
    assert cell_start(at("2026-02-10 15:45"), end) == at("2026-02-10 15:45")
