"""What is particular to ASGI: the event loop goes on, streams, clients that leave, WebSockets, routes of FastAPI."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from typing import Annotated, Any

import aiohttp
import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from listening import listening
from tollkeeper.asgi import TollkeeperMiddleware
from tollkeeper.core.gate import Decision
from tollkeeper.fastapi import priced

from .conftest import Stage


def serving(stage: Stage, *routes: Any, **options: Any) -> TollkeeperMiddleware:
    return TollkeeperMiddleware(Starlette(routes=routes), **{"gate": stage.gate, "meter": "api_calls", **options})


async def fine(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://api")


async def test_calls_that_wait_for_a_commit_do_not_hold_up_others(stage: Stage) -> None:
    app = serving(stage, Route("/", fine), Route("/free", fine), free=["/free"])
    async with client(app) as api:
        with stage.stalled():
            waiting = asyncio.create_task(api.get("/", headers=stage.auth()))
            assert (await api.get("/free")).status_code == 200
            assert not waiting.done()
        assert (await waiting).status_code == 200
    assert stage.used() == "1"


async def test_n_and_more_calls_during_a_slow_commit_admit_exactly_n(stage: Stage) -> None:
    key = stage.auth(stage.new_key("poor").key)
    async with client(serving(stage, Route("/", fine))) as api:
        with stage.stalled():
            calls = [asyncio.create_task(api.get("/", headers=key)) for _ in range(20)]
            done: set[Any] = set()
            while len(done) < 13:
                done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0)
            assert {task.result().status_code for task in done} == {429}
        statuses = sorted([(await call).status_code for call in calls])
    assert (statuses, stage.used(customer="poor")) == ([200] * 7 + [429] * 13, "7")


async def test_a_key_that_must_be_read_does_not_hold_up_others(stage: Stage) -> None:
    app = serving(stage, Route("/", fine), Route("/free", fine), free=["/free"])
    loading = stage.gate.toll.gate._loading
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with loading:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        async with client(app) as api:
            waiting = asyncio.create_task(api.get("/", headers=stage.auth()))
            assert (await api.get("/free")).status_code == 200
            assert not waiting.done()
            release.set()
            assert (await waiting).status_code == 200
    finally:
        release.set()
        thread.join()


async def test_a_stream_is_counted_before_its_first_byte_and_stays_counted_when_it_breaks_off(stage: Stage) -> None:
    seen: list[str] = []

    async def chunks() -> AsyncIterator[bytes]:
        seen.append(stage.used())
        yield b"one"
        raise ConnectionError

    async def handle(request: Request) -> StreamingResponse:
        return StreamingResponse(chunks())

    async with (
        listening(serving(stage, Route("/", handle))) as url,
        aiohttp.ClientSession() as session,
        session.get(url, headers=stage.auth()) as answer,
    ):
        assert (answer.status, await answer.content.readany()) == (200, b"one")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert (seen, stage.used()) == (["1"], "1")


async def test_a_client_that_left_before_the_answer_is_not_billed_but_limited(stage: Stage) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def handle(request: Request) -> PlainTextResponse:
        entered.set()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left.set()
        return PlainTextResponse("too late")

    key = stage.auth(stage.new_key("slow").key)
    async with (
        listening(serving(stage, Route("/", handle), Route("/ok", fine))) as url,
        aiohttp.ClientSession() as session,
    ):
        call = asyncio.create_task(session.get(url, headers=key))
        await entered.wait()
        call.cancel()
        await left.wait()
        async with session.get(f"{url}/ok", headers=key) as answer:
            assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert stage.used(customer="slow") == "1"


async def test_a_handler_that_is_cancelled_is_not_billed(stage: Stage) -> None:
    entered = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with client(TollkeeperMiddleware(app, gate=stage.gate, meter="api_calls")) as api:
        call = asyncio.create_task(api.get("/", headers=stage.auth()))
        await entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    quota = stage.gate.check(stage.key, "api_calls", 0).quota
    assert quota is not None
    assert (stage.used(), quota.used) == ("0", "0")


async def test_a_stream_that_cannot_be_counted_is_stopped_before_it_began(stage: Stage) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    async def handle(request: Request) -> StreamingResponse:
        return StreamingResponse(endless())

    async with client(serving(stage, Route("/", handle))) as api:
        with stage.full_disk():
            answer = await api.get("/", headers=stage.auth())
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert stage.used() == "0"


async def test_round_the_whole_application_even_its_own_500_tells_what_is_left(stage: Stage) -> None:
    async def handle(request: Request) -> PlainTextResponse:
        raise ValueError

    async with client(serving(stage, Route("/", handle))) as api:
        answer = await api.get("/", headers=stage.auth())
    assert (answer.status_code, answer.headers["ratelimit"]) == (500, '"minute";r=999;t=1, "quota-api_calls";r=300')


async def test_paths_are_those_below_the_applications_root(stage: Stage) -> None:
    inner = serving(stage, Route("/free", fine), Route("/paid", fine), free=["/free"])
    async with client(Starlette(routes=[Mount("/api", app=inner)])) as api:
        assert (await api.get("/api/free")).status_code == 200
        assert (await api.get("/api/paid")).status_code == 401


async def drive(app: Any, scope: dict[str, Any], *incoming: str) -> list[dict[str, Any]]:
    """What `app` sends when it is told these types of messages."""
    sent: list[dict[str, Any]] = []
    coming = iter(incoming)

    async def receive() -> dict[str, Any]:
        return {"type": next(coming)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("key", [True, False])
async def test_after_an_answer_of_the_gate_nothing_of_the_applications_follows(stage: Stage, key: bool) -> None:
    """Not even where it goes on after an error, as the error page of a mounted application does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            with contextlib.suppress(OSError):
                await send({"type": "http.response.start", "status": 200, "headers": []})
            with contextlib.suppress(OSError):
                await send({"type": "http.response.body", "body": b"secret"})

    headers = [(b"x-api-key", stage.key.encode())] if key else []
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
    with stage.full_disk():
        head, body = await drive(TollkeeperMiddleware(app, gate=stage.gate, meter="api_calls"), scope)
    assert (head["status"], b"secret" in body["body"]) == (503 if key else 401, False)


async def test_start_and_stop_of_the_application_pass_through(stage: Stage) -> None:
    app = TollkeeperMiddleware(Starlette(), gate=stage.gate, meter="api_calls")
    sent = await drive(app, {"type": "lifespan"}, "lifespan.startup", "lifespan.shutdown")
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_is_judged_at_its_handshake_and_counted_when_accepted(stage: Stage) -> None:
    async def accept(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.scope["tollkeeper"].who.customer)
        await socket.close()

    async def decline(socket: WebSocket) -> None:
        await socket.close()

    app = serving(stage, WebSocketRoute("/", accept), WebSocketRoute("/no", decline))

    async def handshake(path: str, key: str | None, extensions: Any = None) -> list[dict[str, Any]]:
        headers = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
        scope = {"type": "websocket", "path": path, "query_string": b"", "headers": headers, "extensions": extensions}
        return await drive(app, scope, "websocket.connect")

    assert await handshake("/", None) == [{"type": "websocket.close", "code": 1008}]
    refused = await handshake("/", None, {"websocket.http.response": {}})
    assert [message["type"] for message in refused] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert (refused[0]["status"], json.loads(refused[1]["body"])["code"]) == (401, "NOT_FOUND")
    accepted, text, _ = await handshake("/", stage.key)
    assert (accepted["type"], text["text"], stage.used()) == ("websocket.accept", "acme", "1")
    assert dict(accepted["headers"])[b"ratelimit"] == b'"minute";r=999;t=1, "quota-api_calls";r=299'
    assert [message["type"] for message in await handshake("/no", stage.key)] == ["websocket.close"]
    quota = stage.gate.check(stage.key, "api_calls", 0).quota
    assert quota is not None
    assert (stage.used(), quota.used) == ("1", "1")


def priced_app(stage: Stage) -> FastAPI:
    app = FastAPI()

    @app.get("/search")
    def search(call: Annotated[Decision, Depends(priced("searches", cost=5))]) -> str | None:
        return call.who.customer

    @app.get("/open")
    def free() -> str:
        return "ok"

    return app


async def test_a_route_without_a_price_stays_free_and_one_with_a_price_is_in_the_document(stage: Stage) -> None:
    app = priced_app(stage)
    app.add_middleware(TollkeeperMiddleware, gate=stage.gate, meter=None)
    async with client(app) as api:
        assert (await api.get("/open")).status_code == 200
        assert (await api.get("/search", headers=stage.auth())).json() == "acme"
        document = (await api.get("/openapi.json")).json()
    assert stage.used("searches") == "5"
    assert document["paths"]["/search"]["get"]["security"] == [{"ApiKey": []}]
    assert "security" not in document["paths"]["/open"]["get"]
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"


async def test_a_refusal_of_a_route_is_ours_also_inside_a_mounted_application(stage: Stage) -> None:
    outer = FastAPI()
    outer.mount("/sub", priced_app(stage))
    outer.add_middleware(TollkeeperMiddleware, gate=stage.gate, meter=None)
    async with client(outer) as api:
        answer = await api.get("/sub/search")
    assert (answer.status_code, answer.json()["code"]) == (401, "NOT_FOUND")


async def test_a_price_that_nothing_would_settle_is_an_error(stage: Stage) -> None:
    transport = httpx.ASGITransport(priced_app(stage))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:
        with pytest.raises(RuntimeError, match="add_middleware"):
            await api.get("/search", headers=stage.auth())


async def test_one_call_has_one_price(stage: Stage) -> None:
    app = priced_app(stage)
    app.add_middleware(TollkeeperMiddleware, gate=stage.gate, meter="api_calls")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:
        with pytest.raises(RuntimeError, match="two prices"):
            await api.get("/search", headers=stage.auth())
    assert (stage.used(), stage.used("searches")) == ("0", "0")
