"""What a log line should name without being told: set at the edge of a request, inherited by the threads that serve it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

SCOPE_CALLER: Final = "tollkeeper.caller"
"""Where an ASGI scope holds who called, once that is known: an object with `customer` and `key_id`."""
SCOPE_REQUEST_ID: Final = "tollkeeper.request_id"

REQUEST_ID: ContextVar[str | None] = ContextVar("tollkeeper_request_id", default=None)
TRACE_ID: ContextVar[str | None] = ContextVar("tollkeeper_trace_id", default=None)
