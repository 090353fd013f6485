"""A server on a socket that takes webhooks of a test account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from listening import listening
from spine import ManualClock
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.inbox import InboxEvent
from tollkeeper.server import Server
from tollkeeper.settings import Settings

from .parts import NOW, OTHER, SECRET, send, signature, written

ADMIN = "admin-token-of-the-tests"


class Post:
    """`send` goes over a socket, from a thread; `server` is in this process."""

    def __init__(self, server: Server, time: ManualClock) -> None:
        self.server = server
        self.toll = server.toll
        self.inbox = server.money.inbox
        self.time = time
        self.port = 0

    async def send(self, body: Any, header: str | None = "", **signing: Any) -> tuple[int, Any]:
        """`header` "": signed now. A dict is written first."""
        raw = body if isinstance(body, bytes) else written(body)
        header = signature(raw, **({"at": self.time.now // 10**9} | signing)) if header == "" else header
        return await asyncio.to_thread(send, self.port, raw, header)

    def stored(self) -> list[InboxEvent]:
        """All of it, oldest first, with payloads."""
        with self.toll.database.read() as rows:
            found = rows.inbox.list(None, None, None, 10_000)
            whole = [rows.inbox.get(event.provider, event.id) for event in found]
        return [event for event in reversed(whole) if event is not None]


Open = Callable[..., Any]


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    async with AsyncExitStack() as stack:
        yield await open_post(stack, tmp_path)


async def open_post(
    stack: AsyncExitStack, folder: Path, secrets: str | None = f"{SECRET},{OTHER}", account: str = "test"
) -> Post:
    time = ManualClock(NOW * 10**9)
    toll = Tollkeeper(str(folder / "toll.db"), clock=time.clock())
    stack.callback(toll.close)
    environ = {"TOLLKEEPER_ADMIN_TOKEN": ADMIN, "PORT": "0", "STRIPE_SECRET_KEY": f"sk_{account}_none"}
    settings = Settings.load(environ | ({} if secrets is None else {"STRIPE_WEBHOOK_SECRET": secrets}), folder)
    made = Post(Server(toll, settings), time)
    stack.callback(made.server.money.close)
    url = await stack.enter_async_context(listening(made.server.app, plain=False))
    made.port = int(url.rpartition(":")[2])
    return made
