"""Billing periods as Stripe counts them: from an anchor in UTC, by day, week, month or year. Instants are seconds since 1970.

A month that lacks the anchor's day ends at its last day, and a longer month has the day again
(https://docs.stripe.com/billing/subscriptions/billing-cycle). Periods are half-open: [start, end).
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}


def boundary(anchor: int, interval: str, count: int, number: int) -> int:
    """The start of period `number`; 0 is the anchor's own, -1 the one before."""
    at = datetime.fromtimestamp(anchor, UTC)
    if interval in _DAYS:
        return int((at + timedelta(days=_DAYS[interval] * count * number)).timestamp())
    months = at.year * 12 + at.month - 1 + _MONTHS[interval] * count * number
    year, month = divmod(months, 12)
    day = min(at.day, monthrange(year, month + 1)[1])
    return int(at.replace(year=year, month=month + 1, day=day).timestamp())


def period_at(anchor: int, interval: str, count: int, instant: int) -> tuple[int, int]:
    """The period [start, end) that contains the instant, before the anchor too."""
    if interval in _DAYS:
        length = _DAYS[interval] * count * 86_400
        number = (instant - anchor) // length
    else:
        at, begin = datetime.fromtimestamp(instant, UTC), datetime.fromtimestamp(anchor, UTC)
        number = ((at.year - begin.year) * 12 + at.month - begin.month) // (_MONTHS[interval] * count)
    start, end = (boundary(anchor, interval, count, number + more) for more in (0, 1))
    while start > instant:
        number -= 1
        start, end = boundary(anchor, interval, count, number), start
    while end <= instant:
        number += 1
        start, end = end, boundary(anchor, interval, count, number + 1)
    return start, end


def add(instant: int, interval: str, count: int) -> int:
    """One interval later, the day clamped to the month's last."""
    return boundary(instant, interval, count, 1)


def anchor_of(config: Mapping[str, int | None], now: int) -> int:
    """The next instant that a `billing_cycle_anchor_config` names, at or after `now`; a day the month lacks is its last."""
    at = datetime.fromtimestamp(now, UTC)
    day = config["day_of_month"] or 1
    clock = {name: config.get(name) for name in ("hour", "minute", "second")}
    time = {name: getattr(at, name) if value is None else value for name, value in clock.items()}
    month = config.get("month")
    year, following = at.year, month or at.month
    while True:
        found = datetime(year, following, min(day, monthrange(year, following)[1]), **time, tzinfo=UTC)
        if found >= at:
            return int(found.timestamp())
        if month:
            year += 1
        else:
            year, following = (year, following + 1) if following < 12 else (year + 1, 1)
