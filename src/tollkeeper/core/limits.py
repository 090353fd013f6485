"""GCRA: one number per bucket, exact under concurrency; a denied request costs nothing. `core.gate.decide` judges by it.

The number is the theoretical arrival time (TAT). With emission interval T and capacity C = limit · T, a request of cost n at time t
is allowed when max(TAT, t) + n·T − t ≤ C, and then TAT = max(TAT, t) + n·T.
Source: ITU-T I.371, as used by https://brandur.org/rate-limiting. Times are integer nanoseconds, so nothing drifts.
"""

from __future__ import annotations

SECOND_NS = 1_000_000_000
MAX_LIMIT_PER_SECOND = 1_000_000


def policy(limit: int, window_seconds: int) -> tuple[int, int]:
    """(interval, capacity) in ns of `limit` requests per window: at most `limit` at once, then one per interval.

    The interval is rounded up to a nanosecond and the capacity is a multiple of it, so that rounding never admits more than the
    limit (window // limit would: 70,003 at once for 70,000 a second). That costs less than 0.1 % up to MAX_LIMIT_PER_SECOND.
    """
    interval = -(-window_seconds * SECOND_NS // limit)
    return interval, interval * limit


def refund(tat: int, now: int, spent: int) -> int:
    """The bucket's number after a request that was admitted and not carried out, `spent` = cost · interval; at most a full bucket.

    A refund made later than its take may also give back what would have been refilled meanwhile: at most the refunded cost again.
    """
    back = tat - spent
    return back if back > now else now
