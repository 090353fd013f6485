"""Time and chance, passed in. Tests pass their own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """`now_ns`: wall clock, ns since 1970. `steady_ns`: never goes back, for limits. `random_bits(n)`: n random bits."""

    now_ns: Callable[[], int] = time.time_ns
    steady_ns: Callable[[], int] = time.monotonic_ns
    random_bits: Callable[[int], int] = secrets.randbits

    def now_us(self) -> int:
        return self.now_ns() // 1000
