"""A gate of one process on a folder of its own, with customers and keys, for applications of every kind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

import tollkeeper
from tollkeeper.core.errors import StorageUnavailable

settings.configure(ALLOWED_HOSTS=["*"], MIDDLEWARE=["tollkeeper.django.TollkeeperMiddleware"], SECRET_KEY="test")

CATALOG = """
currency = "usd"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"

[meters.searches]
event_type = "search"
aggregation = "count"

[meters.tries]
event_type = "try"
aggregation = "count"
count_on = "attempt"

[plans.free]
limits = [{name = "minute", limit = 1000, window_seconds = 60}]
quotas = [{meter = "api_calls", limit = "300", kind = "hard"}]

[plans.tight]
limits = [{name = "burst", limit = 2, window_seconds = 3600}]

[plans.few]
quotas = [{meter = "api_calls", limit = "7", kind = "hard"}]
"""


class Stage:
    """`gate` is open; `key` is a live key of customer `acme` on the plan free."""

    def __init__(self, folder: Path) -> None:
        catalog = folder / "tollkeeper.toml"
        catalog.write_text(CATALOG)
        self.folder = folder
        self.gate = tollkeeper.Gate.open(str(folder / "toll.db"), catalog=catalog)
        self.gate.toll.customers.create("acme", "Acme", plan="free")
        self.gate.toll.customers.create("slow", "Slow", plan="tight")
        self.gate.toll.customers.create("poor", "Poor", plan="few")
        made = self.new_key("acme")
        self.key, self.key_id = made.key, made.id

    def new_key(self, customer: str, **fields: Any) -> Any:
        return self.gate.toll.keys.create(customer=customer, **fields)

    def auth(self, key: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {key or self.key}"}

    def used(self, meter: str = "api_calls", customer: str = "acme", **query: Any) -> str:
        return self.gate.usage(meter, customer=customer, **query).total

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Every commit fails while the block runs."""
        gate = self.gate.toll.gate
        log, gate._log = gate._log, FullDisk()
        try:
            yield
        finally:
            gate._log = log

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """No commit ends while the block runs."""
        entered, release = threading.Event(), threading.Event()

        def stall(_log: object) -> None:
            entered.set()
            release.wait()

        thread = threading.Thread(target=self.gate.toll.usage_file.writer.call, args=(stall,))
        thread.start()
        entered.wait()
        try:
            yield
        finally:
            release.set()
            thread.join()


class FullDisk:
    """A log that takes everything and commits nothing."""

    def put(self, submission: Any) -> None:
        submission.error = StorageUnavailable("The disk is full.")
        if submission.loop is None:
            submission.done()
        else:
            submission.loop.call_soon_threadsafe(submission.done)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.gate.close()
