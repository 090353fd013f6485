"""What is particular to WSGI, Flask and Django: answers in pieces, a status that changes, servers that close early."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import flask
import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, RequestFactory
from django.urls import re_path

from tollkeeper.django import TollkeeperMiddleware as DjangoMiddleware
from tollkeeper.flask import priced
from tollkeeper.wsgi import TollkeeperMiddleware

from .conftest import Stage


class Server:
    """A server as PEP 3333 has it, which checks what it is given. `heads` are those that it was told."""

    def __init__(self, stage: Stage, app: Any, check: bool = True) -> None:
        gated = TollkeeperMiddleware(validator(app) if check else app, gate=stage.gate, meter="api_calls")
        self.app = validator(gated) if check else gated
        self.heads: list[tuple[str, dict[str, str]]] = []
        self.written: list[bytes] = []
        self.environ: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {stage.key}", "QUERY_STRING": ""}
        setup_testing_defaults(self.environ)

    def call(self) -> Any:
        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            self.heads.append((status, dict(headers)))
            return self.written.append

        return self.app(self.environ, start_response)

    def get(self) -> tuple[str, bytes]:
        body = self.call()
        try:
            pieces = list(body)
        finally:
            body.close()
        return self.heads[-1][0], b"".join(pieces)


PLAIN = [("Content-Type", "text/plain")]


def held(stage: Stage) -> str:
    """What the quota says is used, counted or not yet."""
    quota = stage.gate.check(stage.key, "api_calls", 0).quota
    assert quota is not None
    return quota.used


def test_a_stream_is_counted_before_its_first_piece_and_stays_counted_when_it_breaks_off(stage: Stage) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"one"
        assert stage.used() == "1"
        raise ConnectionError

    server = Server(stage, app)
    body = server.call()
    assert server.heads == []
    assert next(iter(body)) == b"one"
    assert server.heads[0][1]["ratelimit"] == '"minute";r=999;t=1, "quota-api_calls";r=299'
    with pytest.raises(ConnectionError):
        next(iter(body))
    body.close()
    assert (stage.used(), held(stage)) == ("1", "1")


def test_a_status_that_changes_before_the_first_piece_is_the_one_that_counts(stage: Stage) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        try:
            raise ValueError
        except ValueError:
            start_response("500 Internal Server Error", PLAIN, sys.exc_info())
        yield b"sorry"

    server = Server(stage, app)
    assert server.get() == ("500 Internal Server Error", b"sorry")
    assert server.heads[0][1]["ratelimit"].endswith("r=300")
    assert (stage.used(), held(stage)) == ("0", "0")


def test_an_answer_without_a_body_is_counted(stage: Stage) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("204 No Content", [])
        return []

    assert Server(stage, app).get() == ("204 No Content", b"")
    assert stage.used() == "1"


def test_a_client_that_left_before_the_first_piece_is_not_billed(stage: Stage) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        return [b"never sent"]

    server = Server(stage, app, check=False)
    body = server.call()
    assert held(stage) == "1"
    body.close()
    assert (stage.used(), held(stage)) == ("0", "0")


def test_what_is_written_the_old_way_is_counted_first(stage: Stage) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        write(b"old")
        assert stage.used() == "1"
        return [b"new"]

    server = Server(stage, app)
    assert (server.get(), server.written) == (("200 OK", b"new"), [b"old"])
    with stage.full_disk():
        assert server.get()[0] == "503 Service Unavailable"
    assert server.written == [b"old"]
    assert stage.used() == "1"


def test_a_file_is_counted_and_handed_to_the_server_as_it_is(stage: Stage) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))

    server = Server(stage, app, check=False)
    server.environ["wsgi.file_wrapper"] = FileWrapper
    assert isinstance(server.call(), FileWrapper)
    assert server.get() == ("200 OK", b"file")
    with stage.full_disk():
        status, body = server.get()
    assert (status, b"storage_unavailable" in body) == ("503 Service Unavailable", True)
    assert stage.used() == "2"


def test_an_application_that_never_says_its_status_is_an_error_and_not_billed(stage: Stage) -> None:
    server = Server(stage, lambda environ, start_response: [b"x"], check=False)
    with pytest.raises(AssertionError, match="start_response"):
        server.get()
    assert (stage.used(), held(stage)) == ("0", "0")


def test_a_refusal_and_a_failure_keep_to_the_protocol(stage: Stage) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        return [b"ok"]

    server = Server(stage, app)
    with stage.full_disk():
        status, body = server.get()
    assert (status, b"storage_unavailable" in body) == ("503 Service Unavailable", True)
    del server.environ["HTTP_AUTHORIZATION"]
    status, body = server.get()
    assert (status, b"NOT_FOUND" in body) == ("401 Unauthorized", True)


def test_flask_gives_back_what_a_view_without_an_answer_took_also_when_errors_are_passed_on(stage: Stage) -> None:
    app = flask.Flask("app")
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.get("/")
    @priced(stage.gate, "api_calls")
    def nothing() -> None:
        return None

    with pytest.raises(TypeError, match="did not return a valid response"):
        app.test_client().get("/", headers=stage.auth())
    assert (stage.used(), held(stage)) == ("0", "0")


def test_flask_an_error_page_tells_what_is_left(stage: Stage) -> None:
    app = flask.Flask("app")

    @app.get("/")
    @priced(stage.gate, "api_calls")
    def missing() -> None:
        flask.abort(404)

    answer = app.test_client().get("/", headers=stage.auth())
    assert (answer.status_code, answer.headers["RateLimit"]) == (404, '"minute";r=999;t=1, "quota-api_calls";r=300')


def test_flask_one_call_has_one_price(stage: Stage) -> None:
    app = flask.Flask("app")

    @app.get("/view")
    @priced(stage.gate, "searches")
    @priced(stage.gate, "api_calls")
    def twice() -> str:
        return "ok"

    @app.get("/path")
    @priced(stage.gate, "searches")
    def once() -> str:
        return "ok"

    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.wsgi_app = TollkeeperMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, gate=stage.gate, meter=None, prices=["/path=api_calls"]
    )
    for path in ("/view", "/path"):
        with pytest.raises(RuntimeError, match="two prices"):
            app.test_client().get(path, headers=stage.auth())
    assert (stage.used(), stage.used("searches"), held(stage)) == ("0", "0", "0")


def test_django_a_stream_is_counted_before_its_first_piece(stage: Stage) -> None:
    seen: list[str] = []

    def pieces() -> Iterator[bytes]:
        seen.append(stage.used())
        yield b"one"

    def view(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(pieces())

    settings.ROOT_URLCONF = (re_path("", view),)
    settings.TOLLKEEPER = {"gate": stage.gate, "meter": "api_calls"}
    answer = Client().get("/", headers=stage.auth())
    assert (answer.getvalue(), seen) == (b"one", ["1"])


def test_django_headers_that_were_read_before_the_gate_are_read_again_after_it(stage: Stage) -> None:
    seen: list[str] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(request.headers["X-Tollkeeper-Customer"])
        return HttpResponse()

    settings.TOLLKEEPER = {"gate": stage.gate, "meter": "api_calls"}
    request = RequestFactory().get("/", headers={**stage.auth(), "X-Tollkeeper-Customer": "evil"})
    assert request.headers["X-Tollkeeper-Customer"] == "evil"
    DjangoMiddleware(view)(request)
    assert seen == ["acme"]


def test_django_opens_the_gate_once_however_often_it_loads_its_middleware(stage: Stage) -> None:
    opened: list[Any] = []

    def open_gate() -> Any:
        opened.append(stage.gate)
        return stage.gate

    settings.TOLLKEEPER = {"gate": open_gate, "meter": "api_calls"}
    for _ in range(2):
        assert DjangoMiddleware(lambda request: None).toll.gate is stage.gate
    assert len(opened) == 1
    settings.TOLLKEEPER = {"meter": "api_calls"}
    with pytest.raises(KeyError, match="gate"):
        DjangoMiddleware(lambda request: None)
