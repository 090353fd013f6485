"""A request that is answered by the protocol itself, without an ASGI task: for endpoints that decide in memory.

An application offers such endpoints by an attribute `direct`, handlers by method and path, and by `direct_below`, handlers of all paths
that begin alike. A handler gets the whole request and says
whether it takes it. One that it leaves, and any that is not plain (large, pipelined, HTTP/1.0, `Expect`, an upgrade), goes the way of ASGI.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

MAX_DIRECT_BODY: Final = 64 * 1024
"""Bytes. A larger body is read by the application, which bounds it."""

logger = logging.getLogger("tollkeeper.web")


class Connection(Protocol):
    """What an exchange needs of the protocol it came in by."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def default_head(self) -> bytes: ...

    def on_response_complete(self) -> None: ...


class _Nobody:
    """Stands where uvicorn's protocol wakes the task of a request; here is none."""

    __slots__ = ()

    def set(self) -> None:
        pass


_NOBODY: Final = _Nobody()


class Exchange:
    """One request and its answer. It has the attributes by which uvicorn's protocol knows a request under way.

    `scope` is an ASGI scope. `answer` is called once, on the loop's thread.
    """

    __slots__ = ("body", "connection", "disconnected", "keep_alive", "message_event", "response_complete", "scope")

    response_started: Final = False  # an answer is written whole

    def __init__(self, connection: Connection, scope: dict[str, Any]) -> None:
        self.connection = connection
        self.scope = scope
        self.body = b""
        self.disconnected = False
        self.keep_alive = True
        self.message_event = _NOBODY
        self.response_complete = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self.connection.loop

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Write head and body in one piece. A client that went away gets nothing."""
        self.answer_text(status, b"".join([b"%b: %b\r\n" % header for header in headers]), body)

    def answer_text(self, status: int, head: bytes, body: bytes) -> None:
        """As `answer`, with the headers as they are written: each ends in CR LF."""
        connection = self.connection
        self.response_complete = True
        transport = connection.transport
        if self.disconnected or transport.is_closing():
            return
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        transport.write(b"".join((STATUS_LINE[status], connection.default_head(), head, end, body)))
        if not self.keep_alive:
            transport.close()
        connection.on_response_complete()


Direct: TypeAlias = Callable[[Exchange], bool]
"""True: it was answered, or will be. False: nothing was done, the application is to have it. Raises nothing."""

Below: TypeAlias = tuple[bytes, bytes, Direct]
"""Method, how the path begins, and who has it. Looked at only where no path is found as it is."""

NONE: Final[Mapping[tuple[bytes, bytes], Direct]] = {}
