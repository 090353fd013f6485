"""The sandbox's time, which can be moved and stopped, and what is to happen at a later instant of it.

Things to come are kept as objects of the kind "_task", so that they survive a restart. They run in the order of their
instants, then of their
making, each with the clock standing at its own instant: moving the clock by a month does what a month would have done.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tollkeeper.sandbox.store import Object, Store


class Clock:
    """Seconds since 1970 UTC. Runs beside the wall clock at an offset, or stands still."""

    def __init__(self, store: Store, wall: Callable[[], float] = time.time) -> None:
        self._store = store
        self._wall = wall
        kept = store.setting("clock") or {}
        self._offset: float = kept.get("offset", 0.0)
        self._frozen: float | None = kept.get("frozen")
        self._pinned: float | None = None

    def now(self) -> float:
        if self._pinned is not None:
            return self._pinned
        return self._wall() + self._offset if self._frozen is None else self._frozen

    def wall(self) -> float:
        """The machine's own time."""
        return self._wall()

    @property
    def frozen(self) -> bool:
        return self._frozen is not None

    def set(self, instant: float, *, frozen: bool) -> None:
        """Stand at `instant`, or run on from it."""
        self._offset = instant - self._wall()
        self._frozen = instant if frozen else None
        self._store.set_setting("clock", {"offset": self._offset, "frozen": self._frozen})

    @contextmanager
    def pinned(self, instant: float) -> Iterator[None]:
        """The clock stands at `instant` inside the block."""
        before, self._pinned = self._pinned, instant
        try:
            yield
        finally:
            self._pinned = before


class Tasks:
    """What is to happen, by clock: None is the sandbox's own, a test clock goes by its id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heaps: dict[str | None, list[tuple[float, int, str]]] = {}
        for task in store.table("_task"):
            self._push(task)

    def _push(self, task: Object) -> None:
        heap = self._heaps.setdefault(task["clock"], [])
        heapq.heappush(heap, (task["at"], task["_sequence"], task["id"]))

    def add(self, id: str, at: float, name: str, data: dict[str, Any], clock: str | None) -> Object:
        task = self._store.save({"object": "_task", "id": id, "at": at, "name": name, "data": data, "clock": clock})
        self._push(task)
        return task

    def cancel(self, id: str) -> None:
        task = self._store.get("_task", id)
        if task is not None:
            self._store.remove(task)

    def cancel_clock(self, clock: str) -> None:
        """Forget everything of a test clock that is deleted."""
        for _, _, id in self._heaps.pop(clock, []):
            self.cancel(id)

    def next_at(self, clock: str | None) -> float | None:
        heap = self._heaps.get(clock)
        while heap and self._store.get("_task", heap[0][2]) is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take(self, clock: str | None, until: float) -> Object | None:
        """The next task that is due at `until`, taken out."""
        at = self.next_at(clock)
        if at is None or at > until:
            return None
        task = self._store.get("_task", heapq.heappop(self._heaps[clock])[2])
        assert task is not None
        self._store.remove(task)
        return task
