"""The sandbox as one ASGI application.

    /v1 /v2     Stripe's API      api.py → operations.py → one file for each resource (customers.py, prices.py, meters.py …)
    /sandbox    control           control.py: time, faults, webhooks, keys, the last calls, the state
    /           pages             page.py: what there is, for people

How a resource is added:
1. A file with functions `@operation("POST", "/v1/things/{thing}")` (operations.py); the path as in the official client. It keeps objects by
   `call.world.store.save({"object": "thing", "id": call.world.ids.new("th_"), …})`, finds them by `world.require`, changes them by
   `world.update(row, changes, "thing.updated")`, which emits the event, and lists them by `lists.page`.
2. The file stands in RESOURCES below, and pages of its own (Starlette routes) in `routes`.
3. `python tests/sandbox/write_parameters.py` writes the table of the parameters.
Fields shown only when expanded: `render.hide` and `render.lazy`. What happens later: `world.at(instant, "name", data,
clock)` and `@due("name")`
(world.py). What follows a webhook that was answered: `@delivered("invoice.created")` (webhooks.py). Names with an underscore
are never shown.
"""

from __future__ import annotations

import asyncio
import contextlib
from importlib import import_module
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute

from tollkeeper.sandbox.api import Api, Receive, Scope, Send
from tollkeeper.sandbox.billing_pages import billing_routes
from tollkeeper.sandbox.control import control_routes
from tollkeeper.sandbox.page import page_routes
from tollkeeper.sandbox.store import Store
from tollkeeper.sandbox.world import World

RESOURCES = (
    "account",
    "balance",
    "cards",
    "charges",
    "checkout",
    "coupons",
    "credit_notes",
    "customers",
    "discounts",
    "disputes",
    "events",
    "invoice_api",
    "invoice_items",
    "invoice_preview",
    "meter_events",
    "meters",
    "payments",
    "portal",
    "prices",
    "products",
    "refunds",
    "schedules",
    "setup_intents",
    "subscription_api",
    "tax_ids",
    "tax_rates",
    "test_clocks",
    "thin_events",
    "webhook_endpoints",
)
for _name in RESOURCES:
    import_module(f"tollkeeper.sandbox.{_name}")  # each registers its operations
TICK_SECONDS = 0.05
_FORGET_TICKS = 72_000


def routes(world: World) -> list[BaseRoute]:
    """Everything that is not Stripe's API."""
    return [*control_routes(world), *page_routes(world), *billing_routes(world)]


class Sandbox:
    """The application; `world` is its state. What happens by itself (time, webhooks) begins with the server's start or the
    first request."""

    def __init__(self, world: World, base_url: str) -> None:
        self.world = world
        world.base_url = base_url
        self.api = Api(world)
        self._pages = Starlette(routes=routes(world))
        self._background: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if self._background is None:
            self.start()
        if scope["type"] == "http" and scope["path"].startswith(("/v1/", "/v2/")):
            await self.api(scope, receive, send)
            return
        if scope["type"] == "http" and not _same_site(scope, self.world.base_url):
            await PlainTextResponse("This sandbox answers its own pages alone.\n", 403)(scope, receive, send)
            return
        self.world.run_due()
        await self._pages(scope, receive, send)
        self.world.store.commit()
        self.world.webhooks.start_due()

    def start(self) -> None:
        """Begin what happens by itself, in the running event loop."""
        self._background = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        """End it, and what is on its way. The store stays open."""
        if self._background is not None:
            self._background.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._background
            self._background = None
        await self.world.webhooks.stop()
        self.world.store.commit()

    async def _tick(self) -> None:
        ticks = 0
        while True:
            self.world.run_due()
            self.world.webhooks.start_due()
            ticks += 1
            if ticks % _FORGET_TICKS == 0:
                self.api.kept.forget(self.world.clock.now())
            self.world.store.commit()
            await asyncio.sleep(TICK_SECONDS)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _same_site(scope: Scope, base_url: str) -> bool:
    """Whether a call of a page or of the control surface is no other site's: a page elsewhere may not move the clock."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in (b"host", b"origin")}
    host, origin = headers.get(b"host", ""), headers.get(b"origin")
    if urlsplit(f"//{host}").hostname not in {"localhost", "127.0.0.1", "::1", urlsplit(base_url).hostname}:
        return False
    return origin is None or scope["method"] == "GET" or urlsplit(origin).netloc == host


def create_app(
    store: Store | None = None, *, base_url: str = "http://127.0.0.1:12111", world: World | None = None
) -> Sandbox:
    """A sandbox on a store, in memory without one.

    Args:
        base_url: where people reach it: the front of the addresses of its pages.
        world: instead of a store, with a clock or a seed of the caller's.
    """
    return Sandbox(world or World(store), base_url)
