"""How long single events are kept; totals are kept for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

DAY_US = 86_400_000_000
PIECE = 1_000


class Compacted(Protocol):
    @property
    def removed(self) -> int: ...
    @property
    def more(self) -> bool: ...


class Retention:
    """A background step. `compact(before_us, most)` removes the oldest events that arrived before an instant.

    `days` is longer than the age at which an event is refused as too old, so that a repeated event is recognised for as long as it would be
    accepted.
    """

    def __init__(self, compact: Callable[[int, int], Compacted], now_us: Callable[[], int], days: int) -> None:
        self._compact = compact
        self._now_us = now_us
        self._days = days
        self.removed = 0

    def run_once(self) -> bool:
        """Remove a piece; true while there is more."""
        done = self._compact(self._now_us() - self._days * DAY_US, PIECE)
        self.removed += done.removed
        return done.more
