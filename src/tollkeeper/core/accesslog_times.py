"""Times of access logs to microseconds since 1970. None: no time. What repeats is looked up."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

SECOND_US: Final = 1_000_000
_MONTHS: Final = {"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * i : 3 * i + 3]: i + 1 for i in range(12)}
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NUMBER: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,9})?")
_LOCAL: Final = re.compile(r"[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}")


def log_time(text: str) -> int | None:
    """`21/Nov/2026:06:00:32 +0100`, a text of that shape. A leap second is the second after it."""
    midnight = _midnight(text[:11], text[21:26])
    hour, minute, second = int(text[12:14]), int(text[15:17]), int(text[18:20])
    if midnight is None or hour > 23 or minute > 59 or second > 60:
        return None
    return (midnight + hour * 3600 + minute * 60 + second) * SECOND_US


@lru_cache(maxsize=1024)
def _midnight(day: str, offset: str) -> int | None:
    """Seconds from 1970 to the beginning of `21/Nov/2026` at `+0100`."""
    month, east, far = _MONTHS.get(day[3:6]), int(offset[1:3]), int(offset[3:5])
    if month is None or east > 23 or far > 59:
        return None
    try:
        days = date(int(day[7:11]), month, int(day[:2])).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    return days * 86_400 - (east * 3600 + far * 60) * (-1 if offset[0] == "-" else 1)


@lru_cache(maxsize=4096)
def iso_time(text: str) -> int | None:
    """ISO 8601, such as RFC 3339. Without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None


def any_time(value: Any) -> int | None:
    """A time of JSON: a number (or its text) in s, ms, µs or ns, told apart by its size; ISO 8601; or as in the combined format."""
    if isinstance(value, str):
        value = value[:64]
        if _LOCAL.fullmatch(value):
            return log_time(value)
        if not _NUMBER.fullmatch(value):
            return iso_time(value)
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e20:
        return None
    for most, factor in ((1e11, SECOND_US), (1e14, 1000), (1e17, 1)):
        if value < most:
            return round(value * factor)
    return int(value) // 1000
