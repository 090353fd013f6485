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
    secret = _secrets(app.world, f"{settings.public_url.rstrip('/')}/webhooks/stripe")
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


def _secrets(world: Any, url: str) -> str:
    """The secrets of what sends everything to `url`: the endpoint and the destination of thin events, made when there are none."""
    from tollkeeper.integrations.stripe.client import API_VERSION
    from tollkeeper.sandbox import thin_events, webhook_endpoints

    common = {"description": "Tollkeeper", "enabled_events": ["*"]}
    endpoint = next((row for row in world.store.table(webhook_endpoints.KIND) if row["url"] == url), None)
    if endpoint is None:
        endpoint = webhook_endpoints.make(world, {**common, "url": url, "api_version": API_VERSION})
    thin = next((row for row in world.store.table(thin_events.DESTINATION) if row["_url"] == url), None)
    if thin is None:
        wanted = {"name": "Tollkeeper", "event_payload": "thin", "webhook_endpoint": {"url": url}}
        thin = thin_events.make_destination(world, {**common, **wanted})
    world.store.commit()
    return f"{endpoint['_secret']},{thin['_secret']}"
