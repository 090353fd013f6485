from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from tollkeeper.core.context import SCOPE_CALLER
from tollkeeper.core.stats import RequestStats
from tollkeeper.integrations import access
from tollkeeper.integrations.access import Access, hot


def scope(path: str = "/v1/keys/key_1", method: str = "GET") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"key=tk_live_secret",
        "headers": [(b"authorization", b"Bearer hidden")],
        "route": SimpleNamespace(path="/v1/keys/{id}"),
    }


def answering(status: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope[SCOPE_CALLER] = SimpleNamespace(customer="cus_1", key_id="key_9")
        headers = [(b"x-request-id", b"req_1")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"secret body"})

    return app


async def receive() -> Any:
    return {"type": "http.request", "body": b"{}", "more_body": False}


async def send(message: Any) -> None:
    return None


def counted(stats: RequestStats) -> list[tuple[str, str, str, int]]:
    return [(m, r, s, h.cumulative()[-1]) for m, r, s, h in stats.all()]


async def test_a_request_leaves_one_line_that_names_who_and_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    stats = RequestStats()
    with caplog.at_level(logging.INFO, "tollkeeper.access"):
        await Access(answering(201), stats)(scope(), receive, send)
    [record] = caplog.records
    told = {name: getattr(record, name) for name in ("method", "path", "status", "request_id", "customer", "key_id")}
    assert told == {
        "method": "GET",
        "path": "/v1/keys/key_1",
        "status": 201,
        "request_id": "req_1",
        "customer": "cus_1",
        "key_id": "key_9",
    }
    assert record.ms >= 0  # type: ignore[attr-defined]
    assert record.getMessage() == "GET /v1/keys/key_1 201"
    for secret in ("secret", "hidden"):
        assert secret not in str(vars(record))
    assert counted(stats) == [("GET", "/v1/keys/{id}", "2xx", 1)]


async def test_a_link_to_buy_by_is_in_no_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tollkeeper.access"):
        await Access(answering(200), RequestStats())(scope("/buy/c2lnbmVkdG9rZW4/done"), receive, send)
    [record] = caplog.records
    assert record.path == "/buy/…"  # type: ignore[attr-defined]
    assert "c2lnbmVk" not in record.getMessage()


async def test_a_request_that_fails_before_its_answer_is_a_500() -> None:
    stats = RequestStats()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        await Access(app, stats, "none")(scope(), receive, send)
    assert counted(stats) == [("GET", "/v1/keys/{id}", "5xx", 1)]


async def test_paths_and_methods_that_do_not_exist_share_one_series() -> None:
    stats = RequestStats()
    for path in ("/a", "/b", "/c"):
        asked = scope(path, "BREW")
        del asked["route"]
        await Access(answering(404), stats, "none")(asked, receive, send)
    assert counted(stats) == [("_OTHER", "unmatched", "4xx", 3)]


async def test_what_is_no_http_request_passes_through() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    stats = RequestStats()
    await Access(app, stats)({"type": "lifespan"}, receive, send)
    assert (seen, counted(stats)) == (["lifespan"], [])


async def test_all_that_a_proxy_passes_on_is_one_series_and_only_its_failures_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stats = RequestStats()
    with caplog.at_level(logging.INFO, "tollkeeper.access"):
        for status in (200, 404, 502):
            await Access(answering(status), stats, route="proxy")(scope(f"/any/{status}"), receive, send)
    assert [record.path for record in caplog.records] == ["/any/502"]  # type: ignore[attr-defined]
    assert counted(stats) == [("GET", "proxy", "2xx", 1), ("GET", "proxy", "4xx", 1), ("GET", "proxy", "5xx", 1)]


@pytest.mark.parametrize(
    ("which", "told"), [("none", []), ("some", [503, 200]), ("all", [200, 403, 503, 200])], ids=["none", "some", "all"]
)
def test_hot_endpoints_are_always_counted_and_told_as_the_setting_says(
    which: Any, told: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access, "perf_counter", lambda: 100.0)
    stats = RequestStats()
    finished = hot(stats, "POST", "/v1/check", which)
    asked = scope("/v1/check", "POST")
    with caplog.at_level(logging.INFO, "tollkeeper.access"):
        for status, started in ((200, 99.999), (403, 99.999), (503, 99.999), (200, 98.0)):  # the last one took 2 s
            finished(asked, status, started)
    assert [record.status for record in caplog.records] == told  # type: ignore[attr-defined]
    assert counted(stats) == [
        ("POST", "/v1/check", "2xx", 2),
        ("POST", "/v1/check", "4xx", 1),
        ("POST", "/v1/check", "5xx", 1),
    ]
