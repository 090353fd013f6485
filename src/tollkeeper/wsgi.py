"""The gate inside a WSGI application (Flask, Bottle, Pyramid, Django without async …).

    from tollkeeper import Gate
    from tollkeeper.wsgi import TollkeeperMiddleware

    gate = Gate.open("tollkeeper.db", catalog="tollkeeper.toml")
    application = TollkeeperMiddleware(application, gate=gate, meter="api_calls", free=["/status"])

The application finds the decision in `environ["tollkeeper.decision"]`: `.who.customer`, `.who.plan`, `.request_id`; None where a path is
free. The protocol is PEP 3333.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final, Unpack

from tollkeeper.web.identity import IDENTITY, spelled
from tollkeeper.web.inside import Answer, Call, Gate, Options, Toll

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

DECISION: Final = "tollkeeper.decision"


class TollkeeperMiddleware:
    """Judges every call before `application` hears of it, and counts it when it has answered 2xx, before the first byte leaves.

    `meter`: what is counted; None: only what has a price of its own in `prices`. The options are those of `tollkeeper.web.inside.Toll`.
    Raises InvalidRequest for one that is off.
    """

    def __init__(self, application: Application, *, gate: Gate, meter: str | None, **options: Unpack[Options]) -> None:
        self.application = application
        self.toll = Toll(gate, meter, **options)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        call = call_of(self.toll, environ)
        answer = call.enter()
        if answer is not None:
            start_response(status_line(answer.status), headers_of(answer))
            return [answer.body]
        identify(environ, call)
        return Passage(call, start_response).run(self.application, environ)


class Passage:
    """An answer on its way: held back until its status is final, which it is with the first piece of the body (PEP 3333)."""

    def __init__(self, call: Call, start_response: StartResponse) -> None:
        self._call = call
        self._start_response = start_response
        self._start: tuple[str, list[tuple[str, str]], Any] | None = None
        self._write: Callable[[bytes], object] | None = None
        self._body: Iterable[bytes] = ()
        self._pieces: Iterator[bytes] = iter(())
        self._ours: list[bytes] | None = None

    def run(self, application: Application, environ: Environ) -> Iterable[bytes]:
        try:
            self._body = application(environ, self._started)
            file = environ.get("wsgi.file_wrapper")
            if isinstance(file, type) and isinstance(self._body, file) and self._start is not None:
                self._begin()
                if self._ours is None:
                    return self._body  # as it is, so that the server may send the file by itself
            self._pieces = iter(self._body)
        except BaseException:
            self._call.settle(False)
            raise
        return self

    def _started(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        if self._write is not None:  # begun already: only an error may come, and the server raises it
            return self._start_response(status, headers, exc_info)
        if self._start is not None and exc_info is None:
            raise AssertionError("start_response was called twice")
        self._start = (status, headers, exc_info)
        return self._written

    def _written(self, data: bytes) -> None:
        """PEP 3333's `write`, for applications from before it."""
        self._begin()
        if self._ours is None and self._write is not None:
            self._write(data)

    def _begin(self) -> None:
        """Settle, then send the head: the application's, or ours when the call cannot be counted."""
        if self._write is not None:
            return
        if self._start is None:
            self._call.settle(False)
            raise AssertionError("the application answered without start_response")
        status, headers, exc_info = self._start
        answer = self._call.settle(status[:1] == "2")
        if answer is not None:
            self._ours = [answer.body]
            self._write = self._start_response(status_line(answer.status), headers_of(answer))
            return
        told = self._call.told((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in told]
        self._write = self._start_response(status, pairs, *((exc_info,) if exc_info else ()))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._ours is None:
            try:
                piece = next(self._pieces)
            except StopIteration:
                self._begin()
                if self._ours is None:
                    raise
            else:
                self._begin()
                if self._ours is None:
                    return piece
        assert self._ours is not None
        if not self._ours:
            raise StopIteration
        return self._ours.pop()

    def close(self) -> None:
        """Called by the server in the end, also when the client left."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._call.settle(False)  # does nothing to what was settled


def call_of(toll: Toll, environ: Environ) -> Call:
    """A call as WSGI tells it."""
    headers = [
        (name[5:].replace("_", "-").lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    return Call(
        toll,
        environ["REQUEST_METHOD"],
        environ.get("PATH_INFO", "").encode("latin-1"),
        headers,
        environ.get("QUERY_STRING", "").encode("latin-1"),
        environ.get("REMOTE_ADDR"),
    )


def identify(environ: Environ, call: Call) -> None:
    """Who calls, where the application looks for it; what was sent under those names is dropped."""
    for name in [name for name in environ if name.startswith("HTTP_")]:
        if spelled(name[5:].encode("latin-1")).startswith(IDENTITY):
            del environ[name]
    for name, value in call.identity():
        environ["HTTP_" + name.upper().replace("-", "_")] = value.encode().decode("latin-1")
    environ[DECISION] = call.decision


def status_line(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"


def headers_of(answer: Answer) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in answer.headers]
