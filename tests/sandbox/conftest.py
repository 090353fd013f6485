"""A sandbox on a real socket of loopback, and the official client that speaks to it."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe
import uvicorn

from tollkeeper.sandbox import API_VERSION, Store, World, create_app
from tollkeeper.sandbox.server import address_of, bind

KEY = "sk_test_tests1234"


class Running:
    """A sandbox that answers at `url`, in a thread of its own."""

    def __init__(self, file: Path | None = None) -> None:
        bound = bind("127.0.0.1", 0)
        self.url = address_of(bound)
        self.store = Store(file)
        self.world = World(self.store, seed=7)
        app: Any = create_app(world=self.world, base_url=self.url)
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [bound]})
        self._thread.start()
        self.client = self.client_with(KEY)

    def client_with(self, key: str, retries: int = 0) -> stripe.StripeClient:
        return stripe.StripeClient(
            key,
            stripe_version=API_VERSION,
            base_addresses={"api": self.url, "meter_events": self.url},
            max_network_retries=retries,
            http_client=stripe.RequestsClient(timeout=30),
        )

    def control(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        """One call of the control surface. Raises AssertionError with its words when it is refused."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/sandbox{path}", data, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as fault:
            with fault:
                raise AssertionError(fault.read().decode()) from None

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.store.close()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()


@pytest.fixture
def client(running: Running) -> stripe.StripeClient:
    return running.client
