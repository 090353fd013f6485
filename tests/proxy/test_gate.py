"""Who passes, what it costs, and what the upstream and the client are told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tollkeeper.core.errors import StorageUnavailable
from tollkeeper.web.rules import read_rules

from .conftest import Stage, staged


def address_of(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_call_without_a_key_never_reaches_the_upstream(stage: Stage) -> None:
    async with stage.client.get(f"{stage.url}/x") as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["code"]) == (401, "NOT_FOUND")
        assert (
            problem["detail"]
            == "Send your API key as `Authorization: Bearer KEY` or `x-api-key: KEY` or `?api_key=KEY`."
        )
        assert problem["type"] == "http://docs.test/docs/errors/NOT_FOUND"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.headers["X-Request-Id"] == problem["request_id"]
    assert stage.upstream.seen == []
    assert stage.used() == "0"


@pytest.mark.parametrize("key", ["tk_live_0000000000000000000000000003D7384GOp", "junk", "tk_live_" + "é" * 36, " "])
async def test_a_key_nobody_has_never_reaches_the_upstream(stage: Stage, key: str) -> None:
    async with stage.client.get(f"{stage.url}/x", params={"api_key": key}) as answer:
        assert answer.status == 401
    assert stage.upstream.seen == []


async def test_an_allowed_call_is_counted_and_told_what_is_left(stage: Stage) -> None:
    async with stage.client.get(f"{stage.url}/a%2Fb?x=1", headers=stage.auth()) as answer:
        assert (answer.status, await answer.json()) == (200, {"path": "/a%2Fb?x=1"})
        assert answer.headers["RateLimit"] == '"minute";r=999;t=1, "quota-api_calls";r=299'
        assert answer.headers["RateLimit-Policy"] == '"minute";q=1000;w=60, "quota-api_calls";q=300'
        assert answer.headers["X-RateLimit-Remaining"] == "999"
        assert answer.headers["X-Request-Id"].startswith("req_")
    assert stage.used() == "1"


async def test_a_call_that_failed_is_not_shown_as_used(stage: Stage) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=404)

    stage.upstream.handle = refuse
    async with stage.client.get(f"{stage.url}/x", headers=stage.auth()) as answer:
        assert answer.status == 404
        assert answer.headers["RateLimit"] == '"minute";r=999;t=1, "quota-api_calls";r=300'
    await stage.upstream.runner.cleanup()
    async with stage.client.get(f"{stage.url}/x", headers=stage.auth()) as answer:
        assert answer.status == 502
        assert answer.headers["RateLimit"].endswith('"quota-api_calls";r=300')


async def test_a_path_that_costs_nothing_still_meets_the_rate_limits(tmp_path: Path) -> None:
    async with staged(tmp_path, rules=read_rules("api_calls", "1", (), ["/free=api_calls:0"])) as stage:
        statuses = []
        for _ in range(3):
            async with stage.client.get(f"{stage.url}/free", headers=stage.auth(stage.tight)) as answer:
                statuses.append(answer.status)
        assert statuses == [200, 200, 429]
        assert stage.used(customer="slow") == "0"


async def test_the_upstream_learns_who_calls_and_never_the_key(stage: Stage) -> None:
    forged = {"X-Tollkeeper-Customer": "evil", "X_Tollkeeper_Plan": "pro", "x-tollkeeper-request-id": "evil"}
    async with stage.client.get(f"{stage.url}/", headers={**stage.auth(), **forged, "Cookie": "a=1"}) as answer:
        request_id = answer.headers["X-Request-Id"]
    seen = stage.upstream.seen[0]
    told = [(name.lower(), value) for name, value in seen.headers.items() if "tollkeeper" in name.lower()]
    assert sorted(told) == [
        ("x-tollkeeper-customer", "acme"),
        ("x-tollkeeper-environment", "live"),
        ("x-tollkeeper-key", stage.key_id),
        ("x-tollkeeper-plan", "free"),
        ("x-tollkeeper-request-id", request_id),
    ]
    assert seen.headers["Cookie"] == "a=1"
    assert seen.headers["Host"] == stage.upstream.url.removeprefix("http://")
    assert seen.headers["X-Forwarded-Host"] == stage.url.removeprefix("http://")
    assert not [value for value in seen.headers.values() if stage.key in value]


async def test_several_different_keys_are_refused(stage: Stage) -> None:
    async with stage.client.get(f"{stage.url}/?api_key={stage.tight}", headers=stage.auth()) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["code"]) == (400, "invalid_request")
        assert "X-Request-Id" in answer.headers
    assert stage.upstream.seen == []


async def test_a_limited_call_says_when_to_come_back_and_stays_here(stage: Stage) -> None:
    statuses = []
    for _ in range(3):
        async with stage.client.get(f"{stage.url}/", headers=stage.auth(stage.tight)) as answer:
            statuses.append(answer.status)
            headers = answer.headers
    assert statuses == [200, 200, 429]
    assert 1 <= int(headers["Retry-After"]) <= 1800
    assert headers["RateLimit"].startswith('"burst";r=0')
    assert len(stage.upstream.seen) == 2
    assert stage.used(customer="slow") == "2"


async def test_a_revoked_key_stops(stage: Stage) -> None:
    stage.toll.keys.revoke(stage.key_id)
    async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
        problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["code"]) == (401, "DISABLED")


async def test_test_keys_and_live_keys_are_counted_apart(stage: Stage) -> None:
    key = stage.toll.keys.create("acme", "test", "try").key
    async with stage.client.get(f"{stage.url}/", headers=stage.auth(key)) as answer:
        assert answer.status == 200
    assert (stage.used(environment="test"), stage.used(environment="live")) == ("1", "0")
    assert stage.upstream.seen[0].headers["X-Tollkeeper-Environment"] == "test"


@pytest.mark.parametrize(
    ("status", "used"), [(200, "1"), (201, "1"), (204, "1"), (304, "0"), (307, "0"), (404, "0"), (500, "0")]
)
async def test_only_successes_are_counted(stage: Stage, status: int, used: str) -> None:
    async def handle(request: web.Request) -> web.Response:
        headers = {"Location": "/elsewhere"} if status == 307 else {}
        return web.Response(status=status, headers=headers, body=None if status in (204, 304) else b"body")

    stage.upstream.handle = handle
    async with stage.client.get(f"{stage.url}/", headers=stage.auth(), allow_redirects=False) as answer:
        assert answer.status == status
        assert await answer.read() == (b"" if status in (204, 304) else b"body")
        assert answer.headers["RateLimit"] == f'"minute";r=999;t=1, "quota-api_calls";r={300 - int(used)}'
    assert stage.used() == used
    assert len(stage.upstream.seen) == 1


async def test_calls_that_fail_are_not_billed_but_limited(stage: Stage) -> None:
    async def fail(request: web.Request) -> web.Response:
        return web.Response(status=404)

    stage.upstream.handle = fail
    statuses = []
    for _ in range(3):
        async with stage.client.get(f"{stage.url}/", headers=stage.auth(stage.tight)) as answer:
            statuses.append(answer.status)
    assert statuses == [404, 404, 429]
    assert stage.used(customer="slow") == "0"


async def test_an_upstream_that_is_away_costs_nothing(stage: Stage) -> None:
    await stage.upstream.runner.cleanup()
    async with stage.client.post(f"{stage.url}/", headers=stage.auth(), data=b"x") as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["code"]) == (502, "upstream_unreachable")
        assert "RateLimit" in answer.headers
        assert answer.headers["X-Request-Id"] == problem["request_id"]
        assert problem["detail"] == "The API behind this gate does not answer. This call was not counted."
        assert stage.upstream.url.removeprefix("http://") not in str(problem)
    assert stage.used() == "0"
    assert stage.proxy.counts.given_back == 1
    async with stage.client.get(f"{stage.url}/", headers=stage.auth(stage.tight)) as answer:
        assert answer.headers["X-RateLimit-Remaining"] == "2"
    async with stage.client.get(f"{stage.url}/", headers=stage.auth(stage.tight)) as answer:
        assert answer.headers["X-RateLimit-Remaining"] == "2"  # the first was given back


async def test_an_upstream_that_is_late_costs_nothing(tmp_path: Path) -> None:
    async with staged(tmp_path, timeout=0.05) as stage:
        never = asyncio.Event()

        async def handle(request: web.Request) -> web.Response:
            await never.wait()
            return web.Response()

        stage.upstream.handle = handle
        async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
            problem = await answer.json(content_type="application/problem+json")
            assert (answer.status, problem["code"]) == (504, "upstream_timeout")
            assert "RateLimit" in answer.headers
        assert stage.used() == "0"


async def test_an_upstream_that_breaks_off_before_it_answers_costs_nothing(stage: Stage) -> None:
    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    stage.upstream.handle = handle
    async with stage.client.post(f"{stage.url}/", headers=stage.auth()) as answer:
        assert answer.status == 502
    assert stage.used() == "0"


async def test_attempts_are_counted_where_the_meter_or_the_flag_says_so(tmp_path: Path) -> None:
    async def fail(request: web.Request) -> web.Response:
        return web.Response(status=500)

    async with staged(tmp_path, count_on="attempt") as stage:
        stage.upstream.handle = fail
        async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
            assert answer.status == 500
        assert stage.used() == "1"
        await stage.upstream.runner.cleanup()
        async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
            problem = await answer.json(content_type="application/problem+json")
            assert (
                problem["detail"]
                == "The API behind this gate does not answer. This call was counted, as every attempt is."
            )
        assert stage.used() == "2"


async def test_nothing_is_answered_before_the_count_is_durable(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the commit hangs the client hears nothing, though the upstream has answered."""
    commit, reached, release = stage.toll.gate.commit, asyncio.Event(), asyncio.Event()

    async def slow(decision: Any, id: str | None = None) -> None:
        reached.set()
        await release.wait()
        await commit(decision, id)

    monkeypatch.setattr(stage.toll.gate, "commit", slow)
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: {stage.key}\r\n\r\n".encode())
    await asyncio.wait_for(reached.wait(), 10)
    assert len(stage.upstream.seen) == 1
    read = asyncio.create_task(reader.read(1))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not read.done()
    release.set()
    assert await asyncio.wait_for(read, 10) == b"H"
    assert stage.used() == "1"
    writer.close()


async def test_a_count_that_cannot_be_stored_is_no_success(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(decision: Any, id: str | None = None) -> None:
        stage.toll.gate.refund(decision)
        raise StorageUnavailable

    monkeypatch.setattr(stage.toll.gate, "commit", broken)
    async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["code"]) == (503, "storage_unavailable")
        assert answer.headers["Retry-After"] == "1"
    assert stage.used() == "0"


async def test_each_of_200_calls_at_once_is_counted_exactly_once(stage: Stage) -> None:
    async def call() -> int:
        async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
            await answer.read()
            return answer.status

    assert await asyncio.gather(*[call() for _ in range(200)]) == [200] * 200
    assert stage.used() == "200"
    assert len(stage.upstream.seen) == 200
    statuses = await asyncio.gather(*[call() for _ in range(200)])
    assert (statuses.count(200), statuses.count(429)) == (100, 100)
    assert stage.used() == "300"
    assert len(stage.upstream.seen) == 300
    counts = stage.proxy.counts
    assert (counts.counted, counts.given_back, counts.in_flight) == (300, 0, 0)
    assert counts.calls == {"VALID": 300, "QUOTA_EXCEEDED": 100}


async def test_free_paths_pass_without_a_key_and_without_a_name(tmp_path: Path) -> None:
    async with staged(tmp_path, rules=read_rules("api_calls", "1", free=["/health"])) as stage:
        async with stage.client.get(f"{stage.url}/health", headers={"X-Tollkeeper-Customer": "evil"}) as answer:
            assert answer.status == 200
            assert answer.headers["X-Request-Id"] == "req_test"
            assert "RateLimit" not in answer.headers
        async with stage.client.get(f"{stage.url}/health", headers=stage.auth()) as answer:
            assert answer.status == 200
        for seen in stage.upstream.seen:
            assert "Authorization" not in seen.headers
            assert seen.headers.getall("X-Tollkeeper-Customer") == [""]
        async with stage.client.get(f"{stage.url}/healthy") as answer:
            assert answer.status == 401
        assert stage.used() == "0"


async def test_paths_can_cost_other_meters_and_more(tmp_path: Path) -> None:
    async with staged(tmp_path, rules=read_rules("api_calls", "2", prices=["/search=searches:5"])) as stage:
        for path in ("/search/a", "/other"):
            async with stage.client.get(f"{stage.url}{path}", headers=stage.auth()) as answer:
                assert answer.status == 200
        assert (stage.used("searches"), stage.used("api_calls")) == ("5", "2")


async def test_a_meter_that_the_catalog_lacks_is_a_fault_of_ours(tmp_path: Path) -> None:
    async with staged(tmp_path, rules=read_rules("nothing", "1")) as stage:
        async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
            problem = await answer.json(content_type="application/problem+json")
            assert (answer.status, problem["code"]) == (500, "internal_error")
        assert stage.upstream.seen == []


async def test_a_redirect_to_the_upstream_leads_back_through_the_gate(stage: Stage) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"http://{request.host}/items/"})

    stage.upstream.handle = handle
    async with stage.client.get(f"{stage.url}/items", headers=stage.auth(), allow_redirects=False) as answer:
        assert answer.headers["Location"] == f"{stage.url}/items/"


async def test_the_clients_host_is_kept_when_asked_for(tmp_path: Path) -> None:
    async with staged(tmp_path, keep_host=True) as stage:
        async with stage.client.get(f"{stage.url}/", headers={**stage.auth(), "Host": "api.test"}) as answer:
            assert answer.status == 200
        assert stage.upstream.seen[0].headers.getall("Host") == ["api.test"]


async def test_an_answer_is_dated_once(stage: Stage) -> None:
    async def bare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
        assert len(answer.headers.getall("Date")) == 1
    server = await asyncio.start_server(bare, "127.0.0.1", 0)
    async with server:
        object.__setattr__(stage.proxy.options, "upstream", address_of(server))
        async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
            assert (await answer.text(), len(answer.headers.getall("Date"))) == ("ok", 1)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"hello\r\n\r\n",
        b"",
    ],
)
async def test_an_answer_that_is_none_is_a_bad_gateway_and_costs_nothing(stage: Stage, said: bytes) -> None:
    async def bare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(bare, "127.0.0.1", 0)
    async with server:
        object.__setattr__(stage.proxy.options, "upstream", address_of(server))
        async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
            problem = await answer.json(content_type="application/problem+json")
            assert (answer.status, problem["code"]) == (502, "upstream_unreachable")
    assert stage.used() == "0"


async def test_cookies_of_one_client_are_not_sent_for_another(stage: Stage) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(headers={"Set-Cookie": "session=secret; Path=/"})

    stage.upstream.handle = handle
    for _ in range(2):
        async with stage.client.get(f"{stage.url}/", headers={**stage.auth(), "Cookie": ""}) as answer:
            assert answer.headers["Set-Cookie"] == "session=secret; Path=/"
        stage.client.cookie_jar.clear()
    assert "session" not in stage.upstream.seen[1].headers.get("Cookie", "")


async def test_each_call_is_told_of_once_it_is_over(stage: Stage) -> None:
    told: list[tuple[str, int, Any]] = []
    stage.proxy._finished = lambda scope, status, started: told.append(
        (scope["tollkeeper.request_id"], status, getattr(scope.get("tollkeeper.caller"), "customer", None))
    )
    for headers, status, customer in ((stage.auth(), 200, "acme"), ({}, 401, None)):
        async with stage.client.get(f"{stage.url}/", headers=headers) as answer:
            assert told.pop() == (answer.headers["X-Request-Id"], status, customer)
