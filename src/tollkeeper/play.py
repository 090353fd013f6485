"""A sandbox of Stripe beside the server, on a thread of its own: what `demo` and `wrap` collect money with while there is no account."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tollkeeper.settings import Settings

PORT: Final = 12111
KEY: Final = "sk_test_sandbox"
CARD: Final = "4242 4242 4242 4242"
STOP_SECONDS: Final = 5.0


@contextlib.contextmanager
def stripe(settings: Settings, data: Path) -> Iterator[tuple[Settings, str | None]]:
    """Settings with which money can be collected, and the address of the sandbox; with a key of Stripe set, those given and None.

    The sandbox keeps what it has in `data` and sends its webhooks to the server's public address.
    """
    if settings.stripe_secret_key is not None:
        yield settings, None
        return
    import uvicorn

    from tollkeeper.sandbox.app import create_app
    from tollkeeper.sandbox.server import address_of, bind
    from tollkeeper.sandbox.store import Store

    try:
        bound = bind("127.0.0.1", PORT)
    except OSError:
        bound = bind("127.0.0.1", 0)
    url = address_of(bound)
    store = Store(data)
    app: Any = create_app(store, base_url=url)
    secret = _endpoint(app.world, f"{settings.public_url.rstrip('/')}/webhooks/stripe")
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on", server_header=False)
    )
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[bound])), name="sandbox of Stripe", daemon=True
    )
    thread.start()
    try:
        yield (
            replace(
                settings,
                stripe_secret_key=KEY,
                stripe_api_base=url,
                stripe_meter_events_base=url,
                stripe_webhook_secret=secret,
            ),
            url,
        )
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)
        store.close()


def _endpoint(world: Any, url: str) -> str:
    """The secrets of what sends everything to `url`, the endpoint and the destination of thin events; they are made when there are none."""
    secrets: list[str] = []
    for kind, address in (("webhook_endpoint", "url"), ("v2.core.event_destination", "_url")):
        found = [row for row in world.store.table(kind) if row[address] == url]
        if found:
            secrets.append(str(found[0]["_secret"]))
            continue
        secrets.append(world.ids.new("whsec_", 32))
        common = {
            "object": kind,
            "description": "Tollkeeper",
            "enabled_events": ["*"],
            "livemode": False,
            "metadata": {},
            "status": "enabled",
            address: url,
            "_secret": secrets[-1],
        }
        world.store.save({**common, **(_snapshots(world) if kind == "webhook_endpoint" else _thin(world))})
    world.store.commit()
    return ",".join(secrets)


def _snapshots(world: Any) -> dict[str, Any]:
    return {
        "id": world.ids.new("we_1"),
        "api_version": "2026-10-28.endive",
        "application": None,
        "created": world.now(),
    }


def _thin(world: Any) -> dict[str, Any]:
    from tollkeeper.sandbox.thin_events import instant_text

    now = instant_text(world.clock.now())
    return {
        "id": world.ids.new("ed_test_"),
        "created": now,
        "event_payload": "thin",
        "events_from": ["@self"],
        "name": "Tollkeeper",
        "snapshot_api_version": None,
        "status_details": None,
        "type": "webhook_endpoint",
        "updated": now,
        "webhook_endpoint": None,
    }
