"""A server that answers what a test tells it to, over real sockets, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    json: Any
    client: tuple[str, int]
    body: bytes


@dataclass
class Answer:
    """`body` is JSON unless it is bytes. `close`: end the connection afterwards without saying so; `hang_up`: before answering."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    hang_up: bool = False


@dataclass
class FakeServer:
    url: str
    asked: list[Asked] = field(default_factory=list)
    answers: dict[tuple[str, str], Any] = field(default_factory=dict)

    def on(self, method: str, path: str, answer: Any) -> None:
        """`answer`: JSON, an Answer, a list of them to be given in turn, or a function of Asked."""
        self.answers[method, path] = answer

    def bodies(self, method: str, path: str) -> list[Any]:
        return [a.json for a in self.asked if (a.method, a.path) == (method, path)]


def problem(status: int, code: str, detail: str) -> Answer:
    body = {"type": f"/docs/problems/{code}", "title": code, "status": status, "detail": detail, "code": code}
    return Answer({**body, "request_id": "req_01"}, status)


@contextmanager
def serving() -> Iterator[FakeServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            parts = urlsplit(self.path)
            asked = Asked(
                self.command,
                parts.path,
                dict(parse_qsl(parts.query)),
                dict(self.headers.items()),
                json.loads(raw) if raw else None,
                self.client_address,
                raw,
            )
            fake.asked.append(asked)
            answer = fake.answers.get((asked.method, asked.path), problem(404, "not_found", "No such thing."))
            if isinstance(answer, list):
                answer = answer.pop(0)
            if isinstance(answer, Callable):
                answer = answer(asked)
            if not isinstance(answer, Answer):
                answer = Answer(answer)
            if answer.hang_up:
                self.close_connection = True
                return
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            if answer.status == 204:
                body = b""
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = self.close_connection or answer.close

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake = FakeServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
