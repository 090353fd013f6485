"""The hot endpoints as plain ASGI: `/v1/check`, `/v1/events`. `direct` offers checks to the protocol; the rest goes to the application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any
from urllib.parse import parse_qs

import msgspec

from tollkeeper.core.context import SCOPE_CALLER
from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import Forbidden, InvalidRequest, TollkeeperError, TooLarge
from tollkeeper.services.gate import Gate
from tollkeeper.services.inbox import Inbox
from tollkeeper.services.ingest import Ingest, Result
from tollkeeper.services.reservations import Reservations
from tollkeeper.web.auth import Authenticator, Caller, authorization_of
from tollkeeper.web.authz import Authz
from tollkeeper.web.check import JSON, MAX_CHECK_BODY, Check
from tollkeeper.web.direct import Below, Direct
from tollkeeper.web.errors import Problems
from tollkeeper.web.events import read_events
from tollkeeper.web.hooks import MAX_WEBHOOK_BODY, Hooks
from tollkeeper.web.hooks import PATH as WEBHOOKS
from tollkeeper.web.reservations import BELOW, ReservationsDirect

Scope = dict[str, Any]
Finished = Callable[[Any, int, float], None]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("tollkeeper.web")

MAX_EVENTS_BODY = 8 * 1024 * 1024

_encode = msgspec.json.Encoder().encode


class HotEndpoints:
    """In front of `app`: the same authentication, the same problem answers, none of the framework."""

    def __init__(
        self,
        app: App,
        gate: Gate,
        reservations: Reservations,
        ingest: Ingest,
        inbox: Inbox,
        authenticator: Authenticator,
        problems: Problems,
        *,
        docs: str = "",
        finished: Mapping[str, Finished],
    ) -> None:
        self._app = app
        self._ingest = ingest
        self._authenticator = authenticator
        self._problems = problems
        self._finished_check = finished["/v1/check"]
        self._finished_events = finished["/v1/events"]
        self._finished_authz = finished["/authz"]
        self._authz = Authz(gate, reservations, problems, self._failure, self._finished_authz, docs)
        self._check = Check(gate, reservations, authenticator, self._failure, self._finished_check, docs=docs)
        self._finished_webhook = finished[WEBHOOKS]
        self.hooks = Hooks(inbox, self._failure, problems.request_id, self._finished_webhook)
        self.direct: Mapping[tuple[bytes, bytes], Direct] = {
            (b"POST", b"/v1/check"): self._check.direct,
            (b"GET", b"/authz"): self._authz.direct,
            (b"POST", WEBHOOKS.encode()): self.hooks.direct,
        }
        reserved = ReservationsDirect(reservations, authenticator, problems, self._failure, finished)
        self.direct_below: Sequence[Below] = ((b"POST", BELOW, reserved.direct),)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path == "/v1/check" and scope["method"] == "POST":
            answer, finished = self.check, self._finished_check
        elif path == "/v1/events" and scope["method"] == "POST":
            answer, finished = self.events, self._finished_events
        elif path == WEBHOOKS and scope["method"] == "POST":
            answer, finished = self.webhook, self._finished_webhook
        elif path.startswith("/authz") and (path == "/authz" or path.startswith("/authz/envoy/")):
            await self._forward_auth(scope, send)
            return
        else:
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        status = 200
        try:
            request_id, body = await answer(scope, receive)
            # with its length, or the server would frame it in chunks
            headers = [JSON, (b"content-length", b"%d" % len(body)), (b"x-request-id", request_id)]
        except Exception as error:
            status, headers, body = self._failure(scope, error)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        finished(scope, status, started)

    async def _forward_auth(self, scope: Scope, send: Send) -> None:
        started = perf_counter()
        try:
            status, headers, body = await self._authz.answer(scope)
        except Exception as error:
            status, headers, body = self._failure(scope, error)
        headers = [header for header in headers if header[0] != b"content-length"]
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._finished_authz(scope, status, started)

    def _failure(self, scope: Scope, error: BaseException) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        if not isinstance(error, TollkeeperError):
            logger.error("request failed", exc_info=error, extra={"request_id": self._problems.request_id(scope)})
            error = TollkeeperError("Something failed inside Tollkeeper. The log tells more under this request_id.")
        return self._problems.answer(scope, error)

    async def _caller(self, scope: Scope, need: str) -> Caller:
        authorization = authorization_of(scope)
        client = scope.get("client")
        peer = client[0] if client else None
        caller = self._authenticator.from_memory(authorization, peer)
        if caller is None:
            caller = await asyncio.to_thread(self._authenticator.authenticate, authorization, peer)
        caller.require(need)
        return caller

    async def webhook(self, scope: Scope, receive: Receive) -> tuple[bytes, bytes]:
        """`POST /webhooks/stripe`: stored, then answered."""
        try:
            body = await read_body(scope, receive, MAX_WEBHOOK_BODY)
        except TooLarge:
            self.hooks.refuse_large()
            raise
        return await self.hooks.asgi(scope, body)

    async def check(self, scope: Scope, receive: Receive) -> tuple[bytes, bytes]:
        """`POST /v1/check`: the decision, after its usage event is committed."""
        caller = await self._caller(scope, "check")
        return await self._check.asgi(scope, caller, await read_body(scope, receive, MAX_CHECK_BODY))

    async def events(self, scope: Scope, receive: Receive) -> tuple[bytes, bytes]:
        """`POST /v1/events`: an answer per event, after the commit. The answer, not the HTTP status, is the acknowledgement."""
        scope[SCOPE_CALLER] = caller = await self._caller(scope, "events:write")
        environment = environment_of(scope["query_string"], caller.environment)
        body = await read_body(scope, receive, MAX_EVENTS_BODY)
        content_type = ""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value.decode("latin-1")
        results = await self._ingest.ingest(environment, await read_events(body, content_type))
        return self._problems.request_id(scope).encode(), encode_results(results)


def encode_results(results: Sequence[Result]) -> bytes:
    """The shape of `POST /v1/events`, with counts per status."""
    counts = {"accepted": 0, "duplicate": 0, "conflict": 0, "rejected": 0}
    for result in results:
        counts[result.status] += 1
    return _encode({"results": results, **counts})


def environment_of(query_string: bytes, own: Environment | None) -> Environment:
    """`?environment=live|test` of a caller who may speak for both (`own` None); live by default. Raises InvalidRequest, Forbidden."""
    if not query_string:
        return own or "live"
    query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True)
    if unknown := [name for name in query if name != "environment"]:  # misspelt, it would be counted as live
        raise InvalidRequest(f"query.{ascii(unknown[0][:60])[1:-1]}: there is no such parameter; there is environment.")
    wanted = query.get("environment", [own or "live"])
    if wanted in (["live"], ["test"]):
        if own is not None and wanted != [own]:
            raise Forbidden(f"This is a {own} key; it does not write {wanted[0]} usage.")
        return "test" if wanted == ["test"] else "live"
    raise InvalidRequest(f"environment is {','.join(wanted)[:60]!r}; expected live or test.")


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """The whole body, bounded. Raises TooLarge, and InvalidRequest when the client went away half-way."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise InvalidRequest("The client went away before the body was complete.")
    if message.get("more_body", False):
        parts = [body]
        size = len(body)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidRequest("The client went away before the body was complete.")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                break
            if not message.get("more_body", False):
                break
        body = b"".join(parts)
    if len(body) > most:
        raise TooLarge(f"The body is larger than {most:,} bytes.")
    return body
