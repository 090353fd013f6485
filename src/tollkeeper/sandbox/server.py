"""The sandbox as a process of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from tollkeeper.sandbox.app import create_app
from tollkeeper.sandbox.store import Store

BACKLOG = 2048
GRACE_SECONDS = 5


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def address_of(bound: socket.socket) -> str:
    """How this machine reaches the socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(bound: socket.socket, data: Path | None, ready: Callable[[str], None]) -> None:
    """Answer on a socket until SIGINT or SIGTERM. `ready` gets the address."""
    store = Store(data)
    url = address_of(bound)
    config = uvicorn.Config(
        create_app(store, base_url=url),
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    try:
        ready(url)
        asyncio.run(server.serve(sockets=[bound]))
    finally:
        store.close()
