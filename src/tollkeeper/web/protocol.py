"""uvicorn's HTTP protocol with three differences: heads are bounded (431), a request that is no HTTP is told why it is refused, and
what the application offers as `direct` is answered without a task (`web.direct`).

A refused connection is read on for LINGER seconds: closed with bytes unread it would be reset, and the answer lost with it.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tollkeeper.core.errors import InvalidRequest, TollkeeperError
from tollkeeper.core.ids import new_id
from tollkeeper.web import direct
from tollkeeper.web.errors import ERRORS, HeadersTooLarge

MAX_HEADER_BYTES: Final = 32 * 1024
LINGER: Final = 2.0


class BoundedProtocol(HttpToolsProtocol):
    """Counts what arrives between a message's begin and the end of its head; the parser keeps an unfinished line to itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url = b""
        self.headers = []
        self._in_head = True
        self._head_ended = False
        self._head_bytes = 0
        self._chunk = 0
        self._refused = False
        self._endpoints = getattr(self.app, "direct", direct.NONE)
        self._below: Sequence[direct.Below] = getattr(self.app, "direct_below", ())
        self._exchange: direct.Exchange | None = None  # while its request is read
        self._endpoint: direct.Direct | None = None
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._default_head = b""

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        only_head = self._in_head
        self._head_ended = False
        self._chunk = len(data)
        super().data_received(data)
        if only_head and not self._head_ended and not self._refused:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEADER_BYTES:
                self._refuse_head()

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()  # the request before it may have been answered in this very call
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_ended = True
        came = self._head_bytes + self._chunk
        self._head_bytes = 0
        if came > MAX_HEADER_BYTES and self._size_of_head() > MAX_HEADER_BYTES:
            raise ValueError("the head is too large")  # ends in send_400_response
        method = self.parser.get_method()
        path, _, query = self.url.partition(b"?")
        endpoint = self._endpoints.get((method, path))
        if endpoint is None:
            endpoint = next((one for of, begin, one in self._below if of == method and path.startswith(begin)), None)
        if endpoint is not None and self._is_plain():
            self._endpoint = endpoint
            scope: Any = self.scope
            scope["method"], scope["path"] = method.decode(), path.decode()
            scope["raw_path"], scope["query_string"] = path, query
            self._exchange = self.cycle = direct.Exchange(self, self.scope)  # type: ignore[assignment,arg-type]
        else:
            super().on_headers_complete()

    def _is_plain(self) -> bool:
        parser, cycle = self.parser, self.cycle
        return (
            (cycle is None or cycle.response_complete)
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
        )

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            super().on_body(body)
            return
        exchange.body += body
        if len(exchange.body) > direct.MAX_DIRECT_BODY:
            self._leave_to_app(exchange)

    def on_message_complete(self) -> None:
        self._in_head = True
        exchange = self._exchange
        if exchange is not None:
            assert self._endpoint is not None
            self._exchange = None
            if self._endpoint(exchange):
                return
            self._leave_to_app(exchange)
        super().on_message_complete()

    def _leave_to_app(self, exchange: direct.Exchange) -> None:
        """The request goes the way of ASGI after all, with what has been read of it."""
        self._exchange = None
        self.cycle = None  # type: ignore[assignment]
        super().on_headers_complete()
        self.cycle.keep_alive = self.cycle.keep_alive and exchange.keep_alive
        if exchange.body:
            super().on_body(exchange.body)

    def default_head(self) -> bytes:
        """The server's own headers (the date), which uvicorn makes anew each second."""
        defaults = self.server_state.default_headers
        if defaults is not self._defaults:
            self._defaults = defaults
            self._default_head = b"".join(b"%b: %b\r\n" % header for header in defaults)
        return self._default_head

    def send_400_response(self, msg: str) -> None:
        """Called while the parser's error is handled."""
        if self._size_of_head() > MAX_HEADER_BYTES:
            self._refuse_head()
            return
        fault = sys.exception()
        reason = "its first line is malformed" if isinstance(fault, httptools.HttpParserCallbackError) else str(fault)
        self._refuse(InvalidRequest(f"This is no HTTP/1.1 request: {reason.rstrip('.')}."))

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse_head(self) -> None:
        self._refuse(HeadersTooLarge(f"The request line and headers are larger than {MAX_HEADER_BYTES:,} bytes."))

    def _refuse(self, error: TollkeeperError) -> None:
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whoever serves the request is told, and writes nothing more
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        status, title = ERRORS[error.code]
        request_id = new_id("req", time.time_ns() // 1_000_000, secrets.randbits(80))
        problem = {"type": "about:blank", "title": title, "status": status, "detail": error.detail}
        body = json.dumps({**problem, "code": error.code, "request_id": request_id})
        self.transport.write(
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n{body}".encode()
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade that is not taken is answered as if it had not been asked for; that is nothing to warn of."""
