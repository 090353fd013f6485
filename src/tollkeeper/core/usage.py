"""Usage looked up: rollup cells gathered into windows of a zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from tollkeeper.core.aggregation import Rank
from tollkeeper.core.periods import period_at

Window = Literal["hour", "day", "month", "period"]
WINDOWS: tuple[Window, ...] = ("hour", "day", "month", "period")
OTHER = "other"
"""The name of what was folded together beyond a bound: subjects, combinations of dimensions."""


class CellRow(NamedTuple):
    """What one cell, or several added up, hold. `cell`: the start in seconds of the (first) one.

    `combination` is the JSON array of the dimensions' values, or OTHER where several were folded together.
    """

    cell: int
    customer: str | None
    subject: str | None
    combination: str | None
    events: int
    units: int
    nanos: int


class KeptRow(NamedTuple):
    """The value that stays of one cell, or of several: max, min, latest."""

    cell: int
    customer: str | None
    subject: str | None
    combination: str | None
    kept: Rank


class DistinctRow(NamedTuple):
    """How many values were seen, by the text of each asked dimension."""

    customer: str | None
    subject: str | None
    dimensions: tuple[str | None, ...]
    values: int


class Touched(NamedTuple):
    """Usage that some rows of the log may have changed: of a meter, in a quarter of an hour that begins at `cell` (s).

    The events of these rows lie within [first, last] (µs), for a quarter that a period's boundary divides.
    """

    environment: str
    customer: str
    meter: str
    cell: int
    first: int
    last: int


class UnmatchedType(NamedTuple):
    type: str
    source: str
    events: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One window (or all of it) of one group. `value` is None where `state` is unknown: an unknown is not a zero.

    It is None, too, where it is known that there was no event to take a max, min, average or latest value of.
    """

    start: int
    end: int
    group: dict[str, str | None]
    value: str | None
    events: int
    state: Literal["known", "unknown"]


def windows(start: int, end: int, window: Window, zone: str, anchor: int | None = None) -> Iterator[tuple[int, int]]:
    """Half-open windows (µs) that tile [start, end): whole hours, days or months of `zone`, or periods counted from `anchor`.

    The first and the last are cut at `start` and `end`. A day of a clock change has 23 or 25 hours; an hour is 3,600 seconds.
    """
    at = start
    while at < end:
        if window == "period" and anchor is not None:
            until = period_at(anchor, zone, at)[1]
        else:
            until = _next(at, window, zone)
        until = min(until, end)
        yield at, until
        at = until


def _next(at: int, window: Window, zone: str) -> int:
    tz = ZoneInfo(zone)
    local = datetime.fromtimestamp(at // 1_000_000, UTC).astimezone(tz)
    if window == "hour":
        into = local.minute * 60 + local.second
        return (at // 1_000_000 - into + 3600) * 1_000_000
    midnight = datetime(local.year, local.month, local.day)  # noqa: DTZ001 - wall time of the zone
    if window == "day":
        following = midnight + timedelta(days=1)
    else:
        following = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    until = int(following.replace(tzinfo=tz).timestamp())
    return until * 1_000_000
