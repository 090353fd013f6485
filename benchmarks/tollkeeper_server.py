"""Tollkeeper itself, as a user runs it: `tollkeeper serve` on files that were filled by its own services."""

from __future__ import annotations

import json
import secrets
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import SERVER_CORE
from benchmarks.processes import Server, free_port, get
from tollkeeper import bootstrap

COMMAND = [sys.executable, "-m", "tollkeeper", "serve"]

CATALOG = """
currency = "usd"

[products.api]
name = "API"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"

[meters.tokens]
event_type = "llm.call"
aggregation = "sum"
value_property = "tokens"

[plans.hard]
product = "api"
limits = [{name="burst", limit=1000000, window_seconds=1}]
quotas = [{meter="api_calls", limit="1000000000000", kind="hard"}]

[plans.soft]
product = "api"
limits = [{name="burst", limit=1000000, window_seconds=1}]
quotas = [{meter="api_calls", limit="1000000000000", kind="soft"}]
"""


@dataclass(frozen=True, slots=True)
class Customer:
    id: str
    key_id: str
    key: str


class Tollkeeper:
    """A server on a folder of its own. `start` may be called again after `stop`, on the same files."""

    def __init__(self, folder: Path, before: tuple[str, ...] = ()) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "tollkeeper.toml").write_text(CATALOG)
        self.token = f"bench-{secrets.token_hex(16)}"
        self.server_key = ""
        self.before = before
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'tollkeeper.db'}"

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    @property
    def port(self) -> int:
        return self.server.port

    def start(self, stack: ExitStack | None = None) -> Tollkeeper:
        port = free_port()
        environment = {
            "PORT": str(port),
            "TOLLKEEPER_HOST": "127.0.0.1",
            "TOLLKEEPER_DATABASE_URL": self.url,
            "TOLLKEEPER_CATALOG": str(self.folder / "tollkeeper.toml"),
            "TOLLKEEPER_ADMIN_TOKEN": self.token,
        }
        log = self.folder / "server.log"
        self._server = Server([*self.before, *COMMAND], port, SERVER_CORE, log, environment, cwd=self.folder)
        if stack is not None:
            stack.callback(self.stop)
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def get(self, path: str) -> Any:
        return json.loads(get(f"http://127.0.0.1:{self.port}{path}", self.token, timeout=600))

    def fill(self, plan: str, count: int) -> list[Customer]:
        """Apply the catalog, make the key the load uses, and `count` customers of a plan with a key each. Before `start`."""
        with bootstrap.Tollkeeper(self.url) as here:
            here.catalog.apply(CATALOG)
            scopes = ["check", "events:write", "usage:read"]
            self.server_key = here.keys.create(kind="server", environment="live", name="bench", scopes=scopes).key
            made = []
            for number in range(count):
                customer = here.customers.create(name=f"{plan} {number}", plan=plan).customer.id
                key = here.keys.create(customer=customer, environment="live", name="bench")
                made.append(Customer(customer, key.id, key.key))
            return made

    def usage(self, meter: str, customer: str | None = None) -> int:
        """The total of a meter over the last day and a bit, of one customer or of all."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 100_000))
        who = "" if customer is None else f"&customer={customer}"
        return int(self.get(f"/v1/usage?meter={meter}&from={since}{who}")["total"])


def check_bodies(customers: list[Customer], durable: bool = True) -> list[str]:
    """One request body a key; the last customer is the drain."""
    extra = {} if durable else {"durable": False}
    return [
        json.dumps({"key": one.key, "meter": "api_calls", "cost": "1"} | extra, separators=(",", ":"))
        for one in customers
    ]


def event_bodies(customers: list[Customer], id_width: int) -> list[str]:
    """Event templates for events.lua: every other one sums tokens, the rest count calls; the last is the drain's."""
    lines = []
    for number, one in enumerate(customers):
        event: dict[str, Any] = {
            "id": "@" * id_width,
            "source": "api",
            "type": "api.call",
            "customer": one.id,
            "time": "#" * 24,
        }
        if number % 2 and one is not customers[-1]:
            event |= {"type": "llm.call", "data": {"tokens": 12}}
        lines.append(json.dumps(event, separators=(",", ":")))
    return lines
