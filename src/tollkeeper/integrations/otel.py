"""OpenTelemetry traces over OTLP/HTTP. Loaded only when OTEL_EXPORTER_OTLP_ENDPOINT is set; without it nothing here is imported.

One server span a request, by the stable HTTP conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/), never
with a query string, a header or a body. W3C trace context comes in by `traceparent`, and goes out by it: the request handed on
names this span as its parent, so that what a proxy forwards continues the trace.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_REQUEST_METHOD_ORIGINAL,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_SCHEME
from opentelemetry.semconv.attributes.user_agent_attributes import USER_AGENT_ORIGINAL
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.re import parse_env_headers

from tollkeeper.core.context import TRACE_ID
from tollkeeper.core.stats import METHODS, OTHER

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSE_SECONDS: Final = 3.0
HOT_ROUTES: Final = frozenset({"/v1/check", "/v1/events", "/authz", "/webhooks/stripe"})
"""Served before routing, so that no route stands in their scope."""

_propagator = TraceContextTextMapPropagator()


class Tracing:
    """The exporter and its queue. `endpoint` is the collector's base address; `headers` is `name=value,name=value`."""

    def __init__(
        self, endpoint: str, headers: str | None, service_name: str, version: str, *, export_seconds: float = 5.0
    ) -> None:
        resource = Resource.create({"service.name": service_name, "service.version": version})
        exporter = OTLPSpanExporter(
            endpoint=f"{endpoint.rstrip('/')}/v1/traces",
            headers=parse_env_headers(headers or "", liberal=True),
            timeout=export_seconds,
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("tollkeeper", version)

    def wrap(self, app: App) -> App:
        """`app` with a span round every HTTP request."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            parent = _propagator.extract(scope["headers"], Context(), _HEADERS)
            span = self._tracer.start_span(scope["method"], parent, SpanKind.SERVER, _before(scope))
            scope["headers"] = _handed_on(scope["headers"], span)
            token = TRACE_ID.set(format_trace_id(span.get_span_context().trace_id))
            status = 0

            async def watched(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, watched)
            except BaseException as error:
                span.set_attribute(ERROR_TYPE, type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise
            finally:
                _after(span, scope, status)
                span.end()
                TRACE_ID.reset(token)

        return traced

    def close(self) -> None:
        """Send what is queued, for at most three seconds: a collector that is away must not hold up the stop."""
        flushing = threading.Thread(target=self._provider.shutdown, name="otel-close", daemon=True)
        flushing.start()
        flushing.join(CLOSE_SECONDS)


def _before(scope: Scope) -> dict[str, str | int]:
    method = scope["method"]
    attributes: dict[str, str | int] = {
        HTTP_REQUEST_METHOD: method if method in METHODS else OTHER,
        URL_PATH: scope["path"],
        URL_SCHEME: scope.get("scheme", "http"),
        NETWORK_PROTOCOL_VERSION: scope.get("http_version", "1.1"),
    }
    if method not in METHODS:
        attributes[HTTP_REQUEST_METHOD_ORIGINAL] = method[:64]
    if scope.get("server"):
        attributes[SERVER_ADDRESS] = scope["server"][0]
        if scope["server"][1] is not None:
            attributes[SERVER_PORT] = scope["server"][1]
    if scope.get("client"):
        attributes[CLIENT_ADDRESS] = scope["client"][0]
    for name, value in scope["headers"]:
        if name == b"user-agent":
            attributes[USER_AGENT_ORIGINAL] = value.decode("latin-1")[:256]
    return attributes


def _after(span: Span, scope: Scope, status: int) -> None:
    path = scope["path"]
    route = path if path in HOT_ROUTES else getattr(scope.get("route"), "path", None)
    method = scope["method"] if scope["method"] in METHODS else "HTTP"
    span.update_name(f"{method} {route}" if route else method)
    if route:
        span.set_attribute(HTTP_ROUTE, route)
    if status:
        span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
    if status >= 500:
        span.set_attribute(ERROR_TYPE, str(status))
        span.set_status(Status(StatusCode.ERROR))


def _handed_on(headers: list[tuple[bytes, bytes]], span: Span) -> list[tuple[bytes, bytes]]:
    handed = [pair for pair in headers if pair[0] not in (b"traceparent", b"tracestate")]
    _propagator.inject(handed, set_span_in_context(span), _HEADERS)
    return handed


class _AsgiHeaders(Getter[Any], Setter[Any]):
    def get(self, carrier: list[tuple[bytes, bytes]], key: str) -> list[str] | None:
        wanted = key.lower().encode()
        return [value.decode("latin-1") for name, value in carrier if name == wanted] or None

    def keys(self, carrier: list[tuple[bytes, bytes]]) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]

    def set(self, carrier: list[tuple[bytes, bytes]], key: str, value: str) -> None:
        carrier.append((key.lower().encode(), value.encode("latin-1")))


_HEADERS = _AsgiHeaders()
