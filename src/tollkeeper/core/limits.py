"""GCRA: one number per bucket, exact under concurrency; a denied request costs nothing.

The number is the theoretical arrival time (TAT). With emission interval T = window / limit and burst tolerance
τ = window − T, a request of cost n at time t is allowed when max(TAT, t) + n·T − t ≤ window, and then TAT = max(TAT, t) + n·T.
Source: ITU-T I.371, as used by https://brandur.org/rate-limiting. Times are integer nanoseconds, so nothing drifts.
"""

from __future__ import annotations

from typing import NamedTuple


class LimitState(NamedTuple):
    """What the RateLimit headers say after a judgement. `retry_after_ns` None: cost above the limit, never allowed."""

    allowed: bool
    remaining: int
    reset_ns: int
    retry_after_ns: int | None


def judge(tat: int, now: int, interval: int, window: int, cost: int) -> LimitState:
    """Judge one bucket without taking. `interval` = window // limit in ns; `tat` 0 for a fresh bucket."""
    base = tat if tat > now else now
    new = base + cost * interval
    over = new - now - window
    if over > 0:
        spent = base - now
        remaining = (window - spent) // interval if spent < window else 0
        return LimitState(False, remaining, spent, None if cost * interval > window else over)
    return LimitState(True, (window - (new - now)) // interval, new - now, 0)


def take(tat: int, now: int, interval: int, cost: int) -> int:
    """The bucket's value after an allowed request."""
    return (tat if tat > now else now) + cost * interval


def refund(tat: int, now: int, interval: int, cost: int) -> int:
    """The bucket's value after a request that was admitted but not carried out."""
    back = tat - cost * interval
    return back if back > now else now
