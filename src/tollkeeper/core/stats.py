"""Counts that busy paths keep and a collector reads: plain numbers, so that counting costs tens of nanoseconds.

Each object is written by one thread (the event loop, or a writer thread); a reader may see a value that is one event old.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

LATENCY_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.4, 1.0, 2.5, 10.0)
"""Upper bounds in seconds, inclusive; 0.4 s is where waiting is felt, and where the service's own promise is measured."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "_OTHER"
STATUS_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")


class Histogram:
    """Observations by upper bound. `counts` has one entry a bound and a last one for what lies above them all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[int]:
        """How many are at or below each bound; the last entry is how many there are."""
        total, running = [], 0
        for count in list(self.counts):
            running += count
            total.append(running)
        return total


class RouteStats:
    """Durations of one method and route, by class of status."""

    __slots__ = ("_by_class",)

    def __init__(self) -> None:
        self._by_class: list[Histogram | None] = [None] * len(STATUS_CLASSES)

    def observe(self, status: int, seconds: float) -> None:
        index = status // 100 - 1
        if not 0 <= index < len(STATUS_CLASSES):
            index = 4
        histogram = self._by_class[index]
        if histogram is None:
            histogram = self._by_class[index] = Histogram()
        histogram.observe(seconds)

    def classes(self) -> Iterator[tuple[str, Histogram]]:
        """Only classes that occurred."""
        for name, histogram in zip(STATUS_CLASSES, self._by_class, strict=True):
            if histogram is not None:
                yield name, histogram


class RequestStats:
    """Every route that was asked for. Routes are templates (`/v1/keys/{id}`), so there is a bounded number of them."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], RouteStats] = {}

    def route(self, method: str, route: str) -> RouteStats:
        where = (method if method in METHODS else OTHER, route)
        found = self._routes.get(where)
        if found is None:
            found = self._routes[where] = RouteStats()
        return found

    def all(self) -> Iterator[tuple[str, str, str, Histogram]]:
        """Method, route, class of status and durations."""
        for (method, route), stats in list(self._routes.items()):
            for status, histogram in stats.classes():
                yield method, route, status, histogram
