"""A gate of one process on a folder of its own, with customers and keys, for applications of every kind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

import tollkeeper
from tollkeeper.core.errors import StorageUnavailable
from tollkeeper.server import Server
from tollkeeper.settings import Settings
from tollkeeper.web.listen import Listener, _config, _Server, bind

settings.configure(ALLOWED_HOSTS=["*"], MIDDLEWARE=["tollkeeper.django.TollkeeperMiddleware"], SECRET_KEY="test")

ADMIN_TOKEN = "admin-token-of-the-tests"
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
    def served(self) -> Iterator[str]:
        """The address of a server in front of these files, on a loop of its own."""
        settings = Settings.load({"TOLLKEEPER_ADMIN_TOKEN": ADMIN_TOKEN}, self.folder)
        app = Server(self.gate.toll, settings).app
        listener = Listener(app, bind("127.0.0.1", 0, "--port"))
        ready = threading.Event()

        class Quiet(_Server):
            async def startup(self, sockets: Any = None) -> None:
                await super().startup(sockets)
                ready.set()

        async def serve() -> None:
            nonlocal server
            server = Quiet(_config(listener, 5))
            await server.serve(sockets=[listener.socket])

        server: Any = None
        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        ready.wait()
        try:
            yield listener.url
        finally:
            server.should_exit = True
            thread.join()
            listener.socket.close()

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Every commit fails while the block runs."""
        gate = self.gate.toll.gate
        reservations = self.gate.toll.reservations
        log = gate._log
        gate._log = reservations._log = FullDisk()
        try:
            yield
        finally:
            gate._log = reservations._log = log

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
