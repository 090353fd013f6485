"""How many requests an upstream is asked at once: additive increase, multiplicative decrease, on latency and failures. No clock, no I/O.

As TCP does (Chiu and Jain 1989, "Analysis of the increase and decrease algorithms for congestion avoidance"): while answers come as fast
as the upstream can, the limit grows by one for each limit's worth of them; when they come slower than TOLERANCE times the best of the
last minutes, or fail, it shrinks to BACKOFF of itself, at most once for each time an answer takes.
"""

from __future__ import annotations

from math import ceil
from typing import Final

TOLERANCE: Final = 2.0
BACKOFF: Final = 0.75
WINDOW: Final = 60.0
"""Seconds. The best latency is that of this window and the one before, so that an upstream that became slower for good is believed."""
FIRST: Final = 20.0
LEAST: Final = 1.0
NEAR: Final = 0.8
"""The limit grows only where it is nearly used: what is not tried proves nothing."""
FULL_WEIGHT: Final = 100


class Throttle:
    """`enter` before a request, `leave` once its answer began or failed. Seconds of one steady clock. `most`: a bound of your own."""

    __slots__ = (
        "_best",
        "_best_before",
        "_decreased_at",
        "_latency",
        "_window_at",
        "in_flight",
        "limit",
        "most",
        "shed",
    )

    def __init__(self, most: float = 1000.0) -> None:
        self.most = most
        self.limit = min(FIRST, most)
        self.in_flight = 0
        self.shed = 0
        self._best = self._best_before = float("inf")
        self._latency = 0.0
        self._window_at = self._decreased_at = float("-inf")

    def enter(self, weight: int = FULL_WEIGHT) -> bool:
        """Whether the upstream may be asked. The lighter, the earlier it is shed: weight 1 may use half of the limit, 100 all of it."""
        share = 0.5 + 0.5 * weight / FULL_WEIGHT
        if self.in_flight >= max(1.0, self.limit * share):
            self.shed += 1
            return False
        self.in_flight += 1
        return True

    def leave(self, began: float, now: float, failed: bool | None) -> None:
        """`failed` None: the caller went away, which says nothing of the upstream."""
        busy = self.in_flight >= NEAR * self.limit
        self.in_flight -= 1
        if failed is None:
            return
        latency = max(now - began, 1e-6)
        if failed:
            self._decrease(began, now)
            return
        self._latency = latency if not self._latency else 0.9 * self._latency + 0.1 * latency
        self._keep_best(latency, now)
        if latency > TOLERANCE * self.best:
            self._decrease(began, now)
        elif busy:
            self.limit = min(self.limit + 1 / self.limit, self.most)

    @property
    def best(self) -> float:
        """The shortest latency of the last one to two minutes; infinity before there is one."""
        return min(self._best, self._best_before)

    @property
    def retry_after(self) -> int:
        """Seconds (≥ 1) after which what is in flight should be answered."""
        return max(1, ceil(self._latency * self.in_flight / self.limit))

    def _decrease(self, began: float, now: float) -> None:
        if began >= self._decreased_at:  # one asked before the last decrease tells nothing new
            self.limit = max(LEAST, self.limit * BACKOFF)
            self._decreased_at = now

    def _keep_best(self, latency: float, now: float) -> None:
        if now - self._window_at >= WINDOW:
            old = now - self._window_at >= 2 * WINDOW
            self._best_before = float("inf") if old else self._best
            self._best, self._window_at = latency, now
        elif latency < self._best:
            self._best = latency
