"""What a log line should name without being told: set at the edge of a request, inherited by the threads that serve it."""

from __future__ import annotations

from contextvars import ContextVar

REQUEST_ID: ContextVar[str | None] = ContextVar("tollkeeper_request_id", default=None)
TRACE_ID: ContextVar[str | None] = ContextVar("tollkeeper_trace_id", default=None)
