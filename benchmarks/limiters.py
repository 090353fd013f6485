"""One limiter of another library, one bucket in memory, timed call by call: `python -m benchmarks.limiters NAME CALLS`.

Each only limits: it knows no key, no quota, and records nothing. Each gets an algorithm of constant cost.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from time import perf_counter_ns

RATE = 1_000_000_000  # a second: never refused


def _admitting(call: Callable[[], object]) -> Callable[[], object]:
    """A limiter that refuses is not doing the work that is timed."""
    answer = call()
    if getattr(answer, "limited", not answer):
        raise RuntimeError(f"refused: {answer}")
    return call


def _limits_fixed() -> Callable[[], object]:
    import limits

    limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.RateLimitItemPerSecond(RATE)
    return _admitting(lambda: limiter.hit(item, "customer"))


def _limits_sliding() -> Callable[[], object]:
    import limits

    limiter = limits.strategies.SlidingWindowCounterRateLimiter(limits.storage.MemoryStorage())
    item = limits.RateLimitItemPerSecond(RATE)
    return _admitting(lambda: limiter.hit(item, "customer"))


def _throttled() -> Callable[[], object]:
    import throttled

    limiter = throttled.Throttled(
        using="gcra", quota=throttled.per_sec(RATE, burst=RATE), store=throttled.MemoryStore(), key="customer"
    )
    return _admitting(lambda: limiter.limit("customer"))


def _pyrate() -> Callable[[], object]:
    import pyrate_limiter

    limiter = pyrate_limiter.Limiter(
        pyrate_limiter.StateBucket([pyrate_limiter.Rate(RATE, pyrate_limiter.Duration.SECOND)])
    )
    return _admitting(lambda: limiter.try_acquire("customer", blocking=False))


LIMITERS: dict[str, tuple[str, Callable[[], Callable[[], object]]]] = {
    "limits-fixed": ("limits, fixed window", _limits_fixed),
    "limits-sliding": ("limits, sliding window counter", _limits_sliding),
    "throttled": ("throttled-py, GCRA", _throttled),
    "pyrate": ("pyrate-limiter, GCRA", _pyrate),
}


def timed(call: Callable[[], object], calls: int) -> dict[str, float]:
    """Median and p99 in µs of single calls, and the cost of looking at the clock, which both contain."""
    for _ in range(2000):
        call()
    gc.collect()
    spent = [0] * calls
    for n in range(calls):
        start = perf_counter_ns()
        call()
        spent[n] = perf_counter_ns() - start
    empty = [0] * 10_000
    for n in range(len(empty)):
        start = perf_counter_ns()
        empty[n] = perf_counter_ns() - start
    spent.sort()
    return {
        "median_us": spent[calls // 2] / 1000,
        "p99_us": spent[calls * 99 // 100] / 1000,
        "clock_us": sorted(empty)[len(empty) // 2] / 1000,
    }


if __name__ == "__main__":
    print(json.dumps(timed(LIMITERS[sys.argv[1]][1](), int(sys.argv[2]))))
