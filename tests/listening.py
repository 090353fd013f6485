"""An application on a real socket, in the test's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tollkeeper.web.listen import Listener, bind, serve


@asynccontextmanager
async def listening(app: Any, plain: bool = True, grace: int = 5) -> AsyncIterator[str]:
    """An ASGI application on a free port of loopback."""
    listener = Listener(app, bind("127.0.0.1", 0, "--listen"), plain)
    url = listener.url
    ready, stop = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(serve([listener], ready=ready.set, stop=stop, grace=grace))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield url
    finally:
        waiting.cancel()
        stop.set()
        await task
