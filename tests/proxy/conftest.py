"""A whole Tollkeeper on a folder of its own, an upstream and a proxy between, all on loopback in the test's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from listening import listening
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.web.errors import Problems
from tollkeeper.web.proxy import Proxy
from tollkeeper.web.proxy_options import ProxyOptions
from tollkeeper.web.rules import read_rules

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CATALOG = """
currency = "usd"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"

[meters.searches]
event_type = "search"
aggregation = "count"

[meters.tokens]
event_type = "llm.completion"
aggregation = "sum"
value_property = "tokens"

[plans.free]
limits = [{name = "minute", limit = 1000, window_seconds = 60}]
quotas = [{meter = "api_calls", limit = "300", kind = "hard"}, {meter = "tokens", limit = "1000", kind = "hard"}]

[plans.tight]
limits = [{name = "burst", limit = 2, window_seconds = 3600}]
"""


@dataclass
class Upstream:
    """A server that knows nothing of the gate. `handle` is what a test wants it to do; `seen` every request's head."""

    url: str = ""
    seen: list[web.Request] = field(default_factory=list)
    handle: Handler | None = None
    runner: Any = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if self.handle is not None:
            return await self.handle(request)
        return web.json_response({"path": request.raw_path})


@dataclass
class Stage:
    """Everything up. `key` is a live key of customer `acme` on the plan free; `tight` of one with a limit of two calls."""

    toll: Tollkeeper
    upstream: Upstream
    proxy: Proxy
    url: str
    port: int
    key: str
    key_id: str
    tight: str
    client: aiohttp.ClientSession

    def auth(self, key: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {key or self.key}"}

    def used(self, meter: str = "api_calls", environment: Any = "live", customer: str = "acme") -> str:
        return self.toll.usage.query(meter, environment=environment, customer=customer).total

    async def wire(self, request: bytes) -> bytes:
        """Send bytes as they are and read until the proxy closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


@asynccontextmanager
async def staged(folder: Path, **options: Any) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        upstream = Upstream()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{tail:.*}", upstream.answer)
        upstream.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await upstream.runner.setup()
        stack.push_async_callback(upstream.runner.cleanup)
        site = web.TCPSite(upstream.runner, "127.0.0.1", 0)
        await site.start()
        upstream.url = f"http://127.0.0.1:{upstream.runner.addresses[0][1]}"
        toll = stack.enter_context(Tollkeeper(f"sqlite:///{folder / 'toll.db'}"))
        toll.catalog.apply(CATALOG)
        toll.customers.create("acme", "Acme", plan="free")
        toll.customers.create("slow", "Slow", plan="tight")
        key = toll.keys.create("acme", "live", "main")
        tight = toll.keys.create("slow", "live", "main")
        chosen = {"upstream": upstream.url, "rules": read_rules("api_calls", "1"), **options}
        problems = Problems("http://docs.test", lambda: "req_test")
        proxy = Proxy(toll.gate, ProxyOptions(**chosen), problems, "http://docs.test", reservations=toll.reservations)
        await proxy.start()
        stack.push_async_callback(proxy.close)
        url = await stack.enter_async_context(listening(proxy))
        client = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        port = int(url.rpartition(":")[2])
        yield Stage(toll, upstream, proxy, url, port, key.key, key.id, tight.key, client)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as up:
        yield up
