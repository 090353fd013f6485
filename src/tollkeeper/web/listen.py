"""Several ASGI applications, each on its own socket, in one event loop of one process: the files have one owner, so its listeners share it.

A stop signal closes the sockets, lets every request that has begun end, and then returns; a second one does not wait.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

from tollkeeper.core.errors import AlreadyOpen
from tollkeeper.web.protocol import BoundedProtocol

GRACE: Final = 20
"""Seconds that requests under way are given after a stop signal; a stream that has no end is cut then."""
BACKLOG: Final = 2048


class AddressTaken(AlreadyOpen):
    """Another process listens there, or it is no address of this machine."""


@dataclass(frozen=True, slots=True)
class Listener:
    """An ASGI application and the bound socket it answers on. `plain`: no Date of its own, since a proxy passes the upstream's on."""

    app: Any
    socket: socket.socket
    plain: bool = False

    @property
    def url(self) -> str:
        """How this machine reaches it."""
        host, port = self.socket.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what was chosen, not what we choose
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises AddressTaken, which names `setting` as the way to another port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as fault:
        raise AddressTaken(f"{host}:{port} is no address to listen on: {fault.strerror}.") from None
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as fault:
        bound.close()
        raise AddressTaken(
            f"{host}:{port} cannot be listened on: {(fault.strerror or str(fault)).lower()}. "
            f"Stop what uses it, or choose another port with {setting}."
        ) from None
    return bound


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPV6]:PORT`, `:PORT` or `PORT`; without a host, this machine alone. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError("HOST:PORT is expected")
    return host or "127.0.0.1", int(port)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are for all listeners together


async def serve(
    listeners: Sequence[Listener],
    *,
    ready: Callable[[], None] = lambda: None,
    stopping: Callable[[], None] = lambda: None,
    stop: asyncio.Event | None = None,
    grace: int = GRACE,
) -> None:
    """Answer until SIGINT, SIGTERM or `stop`. `ready` runs once all answer, `stopping` at the first signal.

    Closes the sockets.
    """
    stop = stop or asyncio.Event()
    servers = [_Server(_config(listener, grace)) for listener in listeners]
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        stop.set()
        if signals > 1:
            for server in servers:
                server.force_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    tasks = [
        loop.create_task(server.serve(sockets=[listener.socket]))
        for server, listener in zip(servers, listeners, strict=True)
    ]
    up = loop.create_task(_all(server.up for server in servers))
    stopper = loop.create_task(stop.wait())
    try:
        await asyncio.wait([*tasks, up], return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            ready()
        await asyncio.wait([*tasks, stopper], return_when=asyncio.FIRST_COMPLETED)
        stopping()
    finally:
        up.cancel()
        stopper.cancel()
        for server in servers:
            server.should_exit = True
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        for listener in listeners:
            listener.socket.close()
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _config(listener: Listener, grace: int) -> uvicorn.Config:
    return uvicorn.Config(
        listener.app,
        loop="none",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,  # its lines would hold query strings, and so keys
        proxy_headers=False,
        server_header=False,
        date_header=not listener.plain,
        timeout_graceful_shutdown=grace,
    )
