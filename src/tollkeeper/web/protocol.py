"""uvicorn's HTTP protocol with two differences: heads are bounded (431), and a request that is no HTTP is told why it is refused.

A refused connection is read on for LINGER seconds: closed with bytes unread it would be reset, and the answer lost with it.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tollkeeper.core.errors import InvalidRequest, TollkeeperError
from tollkeeper.core.ids import new_id
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

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_ended = True
        came = self._head_bytes + self._chunk
        self._head_bytes = 0
        if came > MAX_HEADER_BYTES and self._size_of_head() > MAX_HEADER_BYTES:
            raise ValueError("the head is too large")  # ends in send_400_response
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

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
