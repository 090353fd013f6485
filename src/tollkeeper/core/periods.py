"""Billing periods without a provider, and the cells usage is folded into. All instants are microseconds since 1970 UTC.

A period is half-open and anchored to the instant of purchase, truncated to the second. Boundary k is the anchor's wall time in
the customer's zone, k months (or years) later: a day the month lacks becomes its last day and comes back in a longer month; a wall
time that a change of the clocks skips moves forward by the width of the gap; one that occurs twice is its first occurrence.
Boundary 0 is the anchor itself. The zone rules come from `zoneinfo`, which reads the machine's tz data or the `tzdata` package:
the one thing in core that is read from outside.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.metering import CELL_SECONDS

Interval = Literal["month", "year"]

CELL_US: Final = CELL_SECONDS * 1_000_000
SECOND_US: Final = 1_000_000
EARLIEST_US: Final = -2_208_988_800 * SECOND_US  # 1900-01-01
LATEST_US: Final = 32_503_680_000 * SECOND_US  # 3000-01-01
_MONTHS: Final = {"month": 1, "year": 12}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# A capital first: excludes `localtime`, `posixrules` and `right/…` (leap seconds), which tz data installs but IANA does not name.
_ZONE_NAME: Final = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,3}")


class ZoneInvalid(InvalidRequest):
    """A zone is an IANA name such as UTC, Europe/Berlin or Asia/Kathmandu."""

    code = "zone_invalid"


def find_zone(name: str) -> ZoneInfo:
    """The rules of an IANA zone, cached by `zoneinfo`. Raises ZoneInvalid."""
    if len(name) > 64 or not _ZONE_NAME.fullmatch(name):
        raise ZoneInvalid
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        raise ZoneInvalid(f"There is no zone {name!r}; {(ZoneInvalid.__doc__ or '').lower()}") from None


def period_at(anchor_us: int, zone: str, instant_us: int, interval: Interval = "month") -> tuple[int, int]:
    """The period [start, end) that contains `instant_us`, before the anchor too.

    Costs some ten microseconds: keep the bounds while `start <= now < end`. Instants are from 1900 up to 3000. Raises ZoneInvalid,
    InvalidRequest.
    """
    if not (EARLIEST_US <= anchor_us < LATEST_US and EARLIEST_US <= instant_us < LATEST_US):
        raise InvalidRequest("An instant lies outside the years 1900 to 2999.")
    rules = find_zone(zone)
    anchor_us -= anchor_us % SECOND_US
    anchor = _local(anchor_us, rules)
    at = _local(instant_us, rules)
    step = _MONTHS[interval]
    k = ((at.year - anchor.year) * 12 + at.month - anchor.month) // step
    start = _boundary(anchor_us, anchor, k * step)
    while start > instant_us:
        k -= 1
        start = _boundary(anchor_us, anchor, k * step)
    end = _boundary(anchor_us, anchor, (k + 1) * step)
    while end <= instant_us:
        k += 1
        start, end = end, _boundary(anchor_us, anchor, (k + 1) * step)
    return start, end


def cell_start(instant_us: int, period_start_us: int) -> int:
    """Start of an instant's rollup cell: its quarter of an hour in UTC, cut at its period's start (at or before the instant)."""
    floor = instant_us - instant_us % CELL_US
    return floor if floor > period_start_us else period_start_us


def _local(instant_us: int, rules: ZoneInfo) -> datetime:
    return (_EPOCH + timedelta(microseconds=instant_us)).astimezone(rules)


def _boundary(anchor_us: int, anchor: datetime, months: int) -> int:
    """The instant `months` after the anchor on its zone's calendar."""
    if months == 0:
        return anchor_us
    year, month0 = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    day = min(anchor.day, _days_in(year, month0 + 1))
    # PEP 495: fold 0 is the later wall time in a gap, and the first occurrence of a wall time that comes twice.
    return (anchor.replace(year=year, month=month0 + 1, day=day, fold=0) - _EPOCH) // _MICROSECOND


def _days_in(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31
