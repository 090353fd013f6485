"""A whole Tollkeeper on fresh files, with a clock moved by hand and seeded chance."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.services.clock import Clock

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
START = 1_790_000_000 * SECOND

CATALOG = """
currency = "usd"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"

[meters.tokens]
event_type = "llm.completion"
aggregation = "sum"
value_property = "tokens"

[plans.free]
product = "api"
limits = [{name = "burst", limit = 10, window_seconds = 1}]
quotas = [{meter = "api_calls", limit = "25", kind = "hard"}]

[plans.pro]
product = "api"
quotas = [{meter = "api_calls", limit = "1000", kind = "soft"}]

[[plans.pro.prices]]
key = "calls"
meter = "api_calls"
model = "per_unit"
unit_amount = "0.002"
"""


class ManualClock:
    """Wall and steady time move together, only when told."""

    def __init__(self, now: int = START) -> None:
        self.now = now
        self._random = random.Random(7)

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now, self._random.getrandbits)

    def move(self, nanoseconds: int) -> None:
        self.now += nanoseconds


class Spine:
    """`app` is the Tollkeeper; `reopen` closes it and opens the same files again."""

    def __init__(self, folder: Path, catalog: str = CATALOG) -> None:
        self.time = ManualClock()
        self.url = str(folder / "toll.db")
        self.app = Tollkeeper(self.url, clock=self.time.clock())
        self.app.catalog.apply(catalog)

    def reopen(self) -> None:
        self.app.close()
        self.app = Tollkeeper(self.url, clock=self.time.clock())

    def customer(self, plan: str | None = "free", **fields: Any) -> str:
        return self.app.customers.create(name="Ann", plan=plan, **fields).customer.id

    def key(self, customer: str, **fields: Any) -> str:
        return self.app.keys.create(customer=customer, **fields).key

    def used(self, meter: str = "api_calls", **query: Any) -> str:
        return self.app.usage.query(meter, **query).total

    def recount(self) -> dict[tuple[str, str, str | None], int]:
        """Events in the log by (environment, type, subject): counted from the log alone."""
        counts: dict[tuple[str, str, str | None], int] = {}
        for event in self.app.usage_file.reader.events():
            where = (event.environment, event.type, event.subject)
            counts[where] = counts.get(where, 0) + event.quantity
        return counts

    @contextmanager
    def stalled_writer(self) -> Iterator[None]:
        """No commit ends while the block runs: a slow fsync, as long as wished."""
        entered, release = threading.Event(), threading.Event()

        def stall(_log: object) -> None:
            entered.set()
            release.wait()

        thread = threading.Thread(target=self.app.usage_file.writer.call, args=(stall,))
        thread.start()
        entered.wait()
        try:
            yield
        finally:
            release.set()
            thread.join()
