"""One small application behind the gate, in each framework: the same paths, so that one set of tests holds for all.

`/` answers ok; `/status/N` that status; `/raise` raises; `/who` says who calls and which headers arrived; `/own` sets fields of the gate's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flask as flask_
import httpx
import werkzeug.test
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client
from django.urls import re_path
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.applications import Starlette
from starlette.routing import Route

from tollkeeper.asgi import TollkeeperMiddleware
from tollkeeper.core.gate import Decision
from tollkeeper.fastapi import priced
from tollkeeper.flask import priced as priced_view
from tollkeeper.wsgi import TollkeeperMiddleware as WsgiMiddleware

OWN = {"x-request-id": "own", "ratelimit": "own", "x-ratelimit-limit": "own", "x-kept": "kept"}


class Boom(Exception):
    """What the handler raises."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Surface:
    """`calls`: what reached the handlers."""

    ask: Callable[[str, str, Mapping[str, str]], Answer]
    calls: list[str]

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        return self.ask(method, path, headers or {})


def who(decision: Decision | None, headers: list[tuple[str, str]]) -> dict[str, Any]:
    told = None if decision is None else [decision.who.customer, decision.who.key_id, decision.request_id]
    return {"who": told, "headers": [[name.lower(), value] for name, value in headers]}


def over_asgi(app: Any, calls: list[str]) -> Surface:
    async def ask(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("203.0.113.9", 40000))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            found = await client.request(method, path, headers=headers)
        return Answer(found.status_code, dict(found.headers), found.content)

    return Surface(lambda *call: asyncio.run(ask(*call)), calls)


def asgi(gate: Any, meter: str | None = "api_calls", **options: Any) -> Surface:
    calls: list[str] = []

    async def handle(request: Request) -> Response:
        calls.append(request.url.path)
        match request.url.path.split("/")[1:]:
            case ["status", status]:
                return Response(None if status in ("204", "304") else b"body", int(status))
            case ["raise"]:
                raise Boom
            case ["who"]:
                return JSONResponse(who(request.scope["tollkeeper"], request.headers.items()))
            case ["own"]:
                return Response(b"ok", headers=OWN)
        return Response(b"ok")

    app = Starlette(routes=[Route("/{rest:path}", handle, methods=["GET", "POST", "PUT"])])
    app.add_middleware(TollkeeperMiddleware, gate=gate, meter=meter, **options)
    app.middleware_stack = app.build_middleware_stack()
    return over_asgi(app, calls)


def fastapi(gate: Any, meter: str = "api_calls", cost: Any = 1, count_on: Any = None, **options: Any) -> Surface:
    calls: list[str] = []
    app = FastAPI()
    app.add_middleware(TollkeeperMiddleware, gate=gate, meter=None, count_on=count_on)
    toll = Depends(priced(meter, cost, **options))

    @app.get("/")
    async def ok(call: Decision = toll) -> str:
        calls.append("/")
        return "ok"

    @app.get("/status/{status}")
    def status(status: int, call: Decision = toll) -> Response:
        calls.append("/status")
        return Response(None if status in (204, 304) else b"body", status)

    @app.get("/raise")
    def fail(call: Decision = toll) -> None:
        calls.append("/raise")
        raise Boom

    @app.get("/who")
    async def tell(request: Request, call: Decision = toll) -> dict[str, Any]:
        calls.append("/who")
        assert request.scope["tollkeeper"] is call
        return who(call, [pair for pair in request.headers.items() if not pair[0].startswith("x-tollkeeper-")])

    @app.get("/own")
    async def own(call: Decision = toll) -> Response:
        calls.append("/own")
        return Response(b"ok", headers=OWN)

    return over_asgi(app, calls)


def over_wsgi(app: Any, calls: list[str]) -> Surface:
    def ask(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        peer = {"REMOTE_ADDR": "203.0.113.9"}
        client = werkzeug.test.Client(app)
        with client.open(path, method=method, headers=dict(headers), environ_overrides=peer) as found:
            return Answer(found.status_code, {n.lower(): v for n, v in found.headers}, found.get_data())

    return Surface(ask, calls)


def wsgi(gate: Any, meter: str | None = "api_calls", **options: Any) -> Surface:
    """A bare application and a server such as wsgiref, which answers 500 when it raises."""
    calls: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        calls.append(path)
        status, headers, body = "200 OK", [("Content-Type", "text/plain")], b"ok"
        match path.split("/")[1:]:
            case ["status", told]:
                status, body = f"{told} Told", b"" if told in ("204", "304") else b"body"
            case ["raise"]:
                raise Boom
            case ["who"]:
                seen = [(n[5:].replace("_", "-"), v) for n, v in environ.items() if n.startswith("HTTP_")]
                body = json.dumps(who(environ["tollkeeper.decision"], seen)).encode()
            case ["own"]:
                headers += OWN.items()
        start_response(status, headers)
        return [body]

    gated = WsgiMiddleware(app, gate=gate, meter=meter, **options)

    def server(environ: Any, start_response: Any) -> Any:
        try:
            return gated(environ, start_response)
        except Boom:
            start_response("500 Internal Server Error", [])
            return []

    return over_wsgi(server, calls)


def flask(gate: Any, meter: str = "api_calls", cost: Any = 1, **options: Any) -> Surface:
    calls: list[str] = []
    app = flask_.Flask("surface")
    toll = priced_view(gate, meter, cost, **options)

    @app.get("/")
    @toll
    def ok() -> str:
        calls.append("/")
        return "ok"

    @app.get("/status/<int:status>")
    @toll
    async def told(status: int) -> Any:
        calls.append("/status")
        if status in (404, 422):
            flask_.abort(status)
        return b"" if status in (204, 304) else b"body", status

    @app.get("/raise")
    @toll
    def fail() -> None:
        calls.append("/raise")
        raise Boom

    @app.get("/who")
    @toll
    def tell() -> dict[str, Any]:
        calls.append("/who")
        return who(flask_.g.tollkeeper, [p for p in flask_.request.headers if not p[0].startswith("X-Tollkeeper-")])

    @app.get("/own")
    @toll
    def own() -> Any:
        calls.append("/own")
        return "ok", 200, OWN

    return over_wsgi(app, calls)


def django_project(gate: Any, meter: str | None, options: dict[str, Any], client: Any) -> tuple[Any, list[str]]:
    calls: list[str] = []

    def view(request: HttpRequest) -> HttpResponse:
        calls.append(request.path)
        match request.path.split("/")[1:]:
            case ["status", told]:
                return HttpResponse(b"" if told in ("204", "304") else b"body", status=int(told))
            case ["raise"]:
                raise Boom
            case ["who"]:
                return JsonResponse(who(request.tollkeeper, list(request.headers.items())))
            case ["own"]:
                return HttpResponse(b"ok", headers=OWN)
        return HttpResponse(b"ok")

    settings.ROOT_URLCONF = (re_path("", view),)
    settings.TOLLKEEPER = {"gate": gate, "meter": meter, **options}
    made = client(raise_request_exception=False, REMOTE_ADDR="203.0.113.9")
    made.handler.load_middleware(is_async=client is AsyncClient)
    return made, calls


def django(gate: Any, meter: str | None = "api_calls", **options: Any) -> Surface:
    client, calls = django_project(gate, meter, options, Client)

    def ask(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        found = client.generic(method, path, headers=dict(headers))
        return Answer(found.status_code, {n.lower(): v for n, v in found.headers.items()}, found.content)

    return Surface(ask, calls)


def django_async(gate: Any, meter: str | None = "api_calls", **options: Any) -> Surface:
    client, calls = django_project(gate, meter, options, AsyncClient)

    def ask(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        found = asyncio.run(client.generic(method, path, headers=dict(headers)))
        return Answer(found.status_code, {n.lower(): v for n, v in found.headers.items()}, found.content)

    return Surface(ask, calls)
