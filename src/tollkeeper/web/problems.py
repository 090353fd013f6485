"""The edge of the application: request ids, the bound on bodies, and the one way in which failures become answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tollkeeper.core.context import REQUEST_ID
from tollkeeper.core.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    TollkeeperError,
    TooLarge,
    Unauthorized,
)
from tollkeeper.web.errors import FieldError, MethodNotAllowed, NotReady, Problems, UnsupportedMediaType

MAX_BODY: Final = 1024 * 1024

log = logging.getLogger("tollkeeper.web")

_BY_STATUS: Final[dict[int, type[TollkeeperError]]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    413: TooLarge,
    415: UnsupportedMediaType,
    503: NotReady,
}


class Edge:
    """Outermost middleware, pure ASGI: gives each request its id, bounds its body, answers 500 for what nobody foresaw.

    The traceback is logged under the request's id; the answer tells the id and nothing of the inside.
    """

    def __init__(self, app: ASGIApp, problems: Problems, max_body: int = MAX_BODY) -> None:
        self.app = app
        self.problems = problems
        self.max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        named = self.problems.request_id(scope)
        request_id = named.encode()
        REQUEST_ID.set(named)  # for every log line of this task and the threads it asks
        only_head = scope["method"] == "HEAD"
        if only_head:  # answered as GET is, without the body; FastAPI's routes know GET only
            scope = {**scope, "method": "GET"}
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
                headers += [(b"x-request-id", request_id), (b"x-content-type-options", b"nosniff")]
                if scope["path"].startswith("/v1/"):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            elif only_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
            if declared.isdigit() and int(declared) > self.max_body:
                raise self._too_large()
            await self.app(scope, self._bounded(receive), answer)
        except ClientDisconnect:
            log.info("client went away", extra={"request_id": request_id.decode()})
        except Exception as error:
            if started:
                log.exception("failed after the answer began", extra={"request_id": request_id.decode()})
                raise
            status, headers, body = self.problems.answer(scope, self._foreseen(scope, error))
            await answer({"type": "http.response.start", "status": status, "headers": headers})
            await answer({"type": "http.response.body", "body": body})

    def _bounded(self, receive: Receive) -> Receive:
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_body:
                raise self._too_large()
            return message

        return bounded

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self.max_body:,} bytes.")

    def _foreseen(self, scope: Scope, error: Exception) -> TollkeeperError:
        if isinstance(error, TollkeeperError):
            _report(error, self.problems.request_id(scope))
            return error
        _report(error, self.problems.request_id(scope))
        return TollkeeperError("Something failed inside Tollkeeper. The log tells more under this request_id.")


def handlers(
    problems: Problems, methods: Callable[[str], Collection[str]]
) -> dict[Any, Callable[[Request, Any], Coroutine[Any, Any, Response]]]:
    """The exception handlers of the FastAPI application. `methods(path)` are those an address takes."""

    def respond(request: Request, error: TollkeeperError) -> Response:
        status, headers, body = problems.answer(request.scope, error)
        response = Response(body, status)
        response.raw_headers = headers
        return response

    async def failure(request: Request, error: TollkeeperError) -> Response:
        _report(error, problems.request_id(request.scope))
        return respond(request, error)

    async def validation(request: Request, error: RequestValidationError) -> Response:
        return respond(request, invalid(error))

    async def http(request: Request, error: HTTPException) -> Response:
        path = request.scope["path"]
        return respond(request, of_http(error, request.method, path, methods(path)))

    return {TollkeeperError: failure, RequestValidationError: validation, HTTPException: http}


def _report(error: Exception, request_id: str) -> None:
    """Failures of ours are logged with their traceback; refusals are the caller's business."""
    if not (isinstance(error, TollkeeperError) and error.permanent):
        log.error("request failed: %s", type(error).__name__, exc_info=error, extra={"request_id": request_id})


def of_http(error: HTTPException, method: str, path: str, methods: Collection[str]) -> TollkeeperError:
    """What the router refuses, in our words. `methods` are those the address takes."""
    kind = _BY_STATUS.get(error.status_code, InvalidRequest if error.status_code < 500 else TollkeeperError)
    if kind in (NotFound, MethodNotAllowed):
        if not methods:
            return NotFound(f"There is nothing at {path[:200]}.")
        allowed = ", ".join(sorted(methods))
        return MethodNotAllowed(
            f"{path[:200]} does not take {method[:20]}; it takes {allowed}.", headers={"allow": allowed}
        )
    return kind(str(error.detail), headers=dict(error.headers or {}))


def invalid(error: RequestValidationError) -> InvalidRequest:
    """Pydantic's faults, each with the path of its field. Values that were sent are not repeated: one may be a secret."""
    faults = [FieldError(field=_path(fault["loc"]), message=_message(fault)) for fault in error.errors()]
    first = faults[0]
    more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
    where = f"{first['field']}: " if first["field"] else ""
    return InvalidRequest(f"{where}{first['message']}.{more}", errors=faults)


def _path(loc: tuple[str | int, ...]) -> str:
    """`("body", "scopes", 0)` is `scopes[0]`; parameters keep their part of the request: `query.limit`."""
    parts = loc[1:] if loc and loc[0] == "body" else loc
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            shown = part if part.isprintable() and len(part) <= 60 else ascii(part[:60])[1:-1]
            path = f"{path}.{shown}" if path else shown
    return path


def _message(fault: dict[str, Any]) -> str:
    match fault["type"]:
        case "extra_forbidden":
            return "there is no such field"
        case "missing":
            return "this field is missing"
        case "value_error":
            return str(fault["ctx"]["error"]).rstrip(".")
    message: str = fault["msg"].removeprefix("Input ")
    return message[:1].lower() + message[1:]
