"""Several applications in one loop: they start together, stop together, and let what has begun end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import aiohttp
import pytest

from tollkeeper.web.listen import AddressTaken, Listener, bind, parse_address, serve


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.set()
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_lets_every_request_of_every_listener_end(number: signal.Signals) -> None:
    apps = [Slow(), Slow()]
    listeners = [Listener(app, bind("127.0.0.1", 0, "--port")) for app in apps]
    urls = [listener.url for listener in listeners]
    ready, stopping = asyncio.Event(), asyncio.Event()
    served = asyncio.create_task(serve(listeners, ready=ready.set, stopping=stopping.set))
    await asyncio.wait_for(ready.wait(), 10)
    async with aiohttp.ClientSession() as client:

        async def ask(url: str) -> str:
            async with client.get(url) as answer:
                return await answer.text()

        asked = [asyncio.create_task(ask(url)) for url in urls]
        for app in apps:
            await asyncio.wait_for(app.begun.wait(), 10)
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stopping.wait(), 10)
        assert not served.done()
        for app in apps:
            app.go.set()
        assert await asyncio.gather(*asked) == ["ok", "ok"]
        await asyncio.wait_for(served, 10)
        for url in urls:
            with pytest.raises(aiohttp.ClientConnectorError):
                await ask(url)


def test_a_busy_port_is_named_with_the_way_to_another() -> None:
    with bind("127.0.0.1", 0, "--listen") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressTaken, match=f"127.0.0.1:{port} .* in use.* --listen"):
            bind("127.0.0.1", port, "--listen")


def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(AddressTaken, match=r"no-such-host\.invalid:80"):
        bind("no-such-host.invalid", 80, "--listen")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_an_address_is_read(text: str, read: tuple[str, int]) -> None:
    assert parse_address(text) == read


@pytest.mark.parametrize("text", ["", "localhost", "::1:80", "host:", "host:99999", "host:8٣", "a:b"])
def test_an_address_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|brackets"):
        parse_address(text)
