from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tollkeeper.core.context import TRACE_ID
from tollkeeper.integrations import otel
from tollkeeper.integrations.otel import Tracing

from .collector import PARENT, Collector


def scope(**changes: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/v1/keys/key_1",
        "query_string": b"token=hidden",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 3000),
        "client": ("127.0.0.1", 40000),
        "headers": [
            (b"authorization", b"Bearer hidden"),
            (b"user-agent", b"curl/8"),
            (b"traceparent", PARENT.encode()),
        ],
    } | changes


class Inner:
    """The application behind: notes what it was given, and routes as the framework does."""

    def __init__(self, status: int = 200, fails: bool = False) -> None:
        self.status, self.fails = status, fails
        self.headers: list[tuple[bytes, bytes]] = []
        self.trace_id: str | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers, self.trace_id = scope["headers"], TRACE_ID.get()
        scope["route"] = SimpleNamespace(path="/v1/keys/{id}")
        if self.fails:
            raise RuntimeError("boom")
        await send({"type": "http.response.start", "status": self.status, "headers": []})


async def traced(collector: Collector, inner: Inner, **changes: Any) -> Any:
    async def send(message: Any) -> None:
        return None

    tracing = Tracing(collector.url, "x-team=a%20b", "shop", "1.2.3")
    try:
        await tracing.wrap(inner)(scope(**changes), None, send)  # type: ignore[arg-type]
    finally:
        tracing.close()
    [span] = collector.spans()
    return span


def attributes(found: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in found.attributes}


async def test_a_request_becomes_a_server_span_by_the_stable_conventions(collector: Collector) -> None:
    span = await traced(collector, Inner())
    assert (span.name, span.kind) == ("GET /v1/keys/{id}", span.SPAN_KIND_SERVER)
    assert attributes(span) == {
        "http.request.method": "GET",
        "http.route": "/v1/keys/{id}",
        "http.response.status_code": 200,
        "url.path": "/v1/keys/key_1",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": 3000,
        "client.address": "127.0.0.1",
        "user_agent.original": "curl/8",
    }
    assert span.status.code == span.status.STATUS_CODE_UNSET
    [(path, headers, request)] = collector.requests
    assert (path, headers["content-type"], headers["x-team"]) == ("/v1/traces", "application/x-protobuf", "a b")
    resource = attributes(request.resource_spans[0].resource)
    assert (resource["service.name"], resource["service.version"]) == ("shop", "1.2.3")
    assert b"hidden" not in request.SerializeToString()


async def test_a_trace_that_comes_in_goes_on_with_this_span_as_its_parent(collector: Collector) -> None:
    inner = Inner()
    span = await traced(collector, inner)
    assert span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c" == inner.trace_id
    assert span.parent_span_id.hex() == "b7ad6b7169203331"
    handed = [value.decode() for name, value in inner.headers if name == b"traceparent"]
    assert handed == [f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"]
    assert TRACE_ID.get() is None


async def test_without_or_with_a_broken_parent_a_trace_begins(collector: Collector) -> None:
    span = await traced(collector, Inner(), headers=[(b"traceparent", b"00-zz-1")])
    assert span.parent_span_id == b""
    assert len(span.trace_id) == 16


async def test_a_failure_of_ours_is_an_error_and_a_refusal_is_not(collector: Collector) -> None:
    span = await traced(collector, Inner(status=503))
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert attributes(span)["error.type"] == "503"
    collector.requests.clear()
    span = await traced(collector, Inner(status=429))
    assert span.status.code == span.status.STATUS_CODE_UNSET


async def test_a_request_that_raises_ends_its_span(collector: Collector) -> None:
    with pytest.raises(RuntimeError):
        await traced(collector, Inner(fails=True))
    [span] = collector.spans()
    assert attributes(span)["error.type"] == "RuntimeError"
    assert span.status.code == span.status.STATUS_CODE_ERROR


async def test_the_hot_endpoints_have_a_route_though_nothing_routes_them(collector: Collector) -> None:
    span = await traced(collector, Inner(), path="/v1/check", method="POST")
    assert (span.name, attributes(span)["http.route"]) == ("POST /v1/check", "/v1/check")


async def test_an_unknown_method_does_not_become_a_name(collector: Collector) -> None:
    span = await traced(collector, Inner(), method="BREW")
    told = attributes(span)
    assert (span.name, told["http.request.method"]) == ("HTTP /v1/keys/{id}", "_OTHER")
    assert told["http.request.method_original"] == "BREW"


async def test_a_collector_that_does_not_answer_does_not_hold_up_the_stop(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "CLOSE_SECONDS", 0.05)
    collector.answers.clear()
    tracing = Tracing(collector.url, None, "shop", "1")

    async def send(message: Any) -> None:
        return None

    await tracing.wrap(Inner())(scope(), None, send)  # type: ignore[arg-type]
    tracing.close()
    assert collector.requests == []
