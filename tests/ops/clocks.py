"""A clock that moves only when told."""

from __future__ import annotations

from tollkeeper.services.clock import Clock

START_US = 1_795_000_000_000_000


class ManualClock:
    def __init__(self) -> None:
        self.us = START_US

    def advance(self, seconds: float) -> None:
        self.us += round(seconds * 1_000_000)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.us * 1000, lambda: self.us * 1000, lambda bits: 1 << (bits - 1))
