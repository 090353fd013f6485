"""The hot endpoints, plain ASGI: `/v1/check` and `/v1/events`. Everything else goes on to the application behind them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hmac import compare_digest
from time import perf_counter
from typing import Any
from urllib.parse import parse_qs

import msgspec

from tollkeeper.core.context import SCOPE_CALLER, SCOPE_REQUEST_ID
from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import InvalidRequest, TollkeeperError, TooLarge
from tollkeeper.core.keys import looks_like_key
from tollkeeper.services.gate import Gate
from tollkeeper.services.ingest import Ingest, Result
from tollkeeper.web.auth import ADMIN, Authenticator, Caller
from tollkeeper.web.errors import Problems
from tollkeeper.web.events import decode_events
from tollkeeper.web.json import LONG_BITS, UNDECODED, inspect, refusal

Scope = dict[str, Any]
Finished = Callable[[Any, int, float], None]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("tollkeeper.web")

MAX_CHECK_BODY = 64 * 1024
MAX_EVENTS_BODY = 8 * 1024 * 1024

JSON = (b"content-type", b"application/json")


class CheckRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/check`. `cost` a decimal; `id` makes a retry safe; `durable` false asks for the early answer."""

    key: str
    meter: str | None = None
    cost: str | int = "1"
    scope: str | None = None
    ip: str | None = None
    id: str | None = None
    reserve: bool = False
    durable: bool = True


FIELD_NAMES = [b'"%s"' % name.encode() for name in CheckRequest.__struct_fields__]

_check = msgspec.json.Decoder(CheckRequest)
_encode = msgspec.json.Encoder().encode


class HotEndpoints:
    """In front of `app`: the same authentication, the same problem answers, none of the framework."""

    def __init__(
        self,
        app: App,
        gate: Gate,
        ingest: Ingest,
        authenticator: Authenticator,
        problems: Problems,
        *,
        docs: str = "",
        finished: Mapping[str, Finished],
    ) -> None:
        self._app = app
        self._gate = gate
        self._ingest = ingest
        self._authenticator = authenticator
        self._problems = problems
        self._admin = b"Bearer " + authenticator.admin_token.encode()
        self._known: set[str] = set()
        self._docs = docs
        self._finished_check = finished["/v1/check"]
        self._finished_events = finished["/v1/events"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if path == "/v1/check" and scope["method"] == "POST":
            answer, finished = self.check, self._finished_check
        elif path == "/v1/events" and scope["method"] == "POST":
            answer, finished = self.events, self._finished_events
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

    def _failure(self, scope: Scope, error: Exception) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        if not isinstance(error, TollkeeperError):
            logger.error("request failed", exc_info=error, extra={"request_id": self._problems.request_id(scope)})
            error = TollkeeperError("Something failed inside Tollkeeper. The log tells more under this request_id.")
        return self._problems.answer(scope, error)

    async def _caller(self, scope: Scope, need: str) -> Caller:
        authorization = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if compare_digest(value, self._admin):
                    return ADMIN
                authorization = value.decode("latin-1")
                break
        client = scope.get("client")
        peer = client[0] if client else None
        authenticator = self._authenticator
        if authorization in self._known or authenticator.knows(authorization):
            caller = authenticator.authenticate(authorization, peer)
        else:
            caller = await asyncio.to_thread(authenticator.authenticate, authorization, peer)
            if authorization is not None and len(self._known) < 10_000:
                self._known.add(authorization)  # from now on without a thread; still judged each time
        caller.require(need)
        return caller

    async def check(self, scope: Scope, receive: Receive) -> tuple[bytes, bytes]:
        """`POST /v1/check`: the decision, after its usage event is committed."""
        caller = await self._caller(scope, "check")
        body = await read_body(scope, receive, MAX_CHECK_BODY)
        request = decode_check(body)
        gate = self._gate
        snapshot = gate.find(request.key)
        if snapshot is None and looks_like_key(request.key) is not None:
            snapshot = await asyncio.to_thread(gate.load, request.key)
        if snapshot is not None and caller.environment is not None and snapshot.who.environment != caller.environment:
            snapshot = None  # a test token does not see live keys, nor the other way round
        cost = request.cost
        decision = gate.judge(snapshot, request.meter, 1 if cost == "1" else cost, request.scope, request.ip)
        scope[SCOPE_CALLER] = decision.who
        scope[SCOPE_REQUEST_ID] = decision.request_id
        request_id = decision.request_id.encode()
        if not decision.amount:
            return request_id, decision.to_json(self._docs)
        if request.durable:
            future = asyncio.get_running_loop().create_future()
            ticket = gate.submit(decision, request.id, future)
            try:
                await future
            except TollkeeperError:
                gate.refund(decision)
                raise
            if ticket.outcomes is not None:
                gate.settle(decision, ticket.outcomes)
            return request_id, decision.to_json(self._docs)
        gate.record(decision, request.id)
        return request_id, decision.to_json(self._docs, pending=True)

    async def events(self, scope: Scope, receive: Receive) -> tuple[bytes, bytes]:
        """`POST /v1/events`: an answer per event, after the commit. The answer, not the HTTP status, is the acknowledgement."""
        scope[SCOPE_CALLER] = caller = await self._caller(scope, "events:write")
        environment = caller.environment or environment_of(scope)
        body = await read_body(scope, receive, MAX_EVENTS_BODY)
        content_type = ""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value.decode("latin-1")
        results = await self._ingest.ingest(environment, decode_events(body, content_type))
        return self._problems.request_id(scope).encode(), encode_results(results)


def decode_check(body: bytes) -> CheckRequest:
    """Raises InvalidRequest, naming the field."""
    try:
        request = _check.decode(body)
    except UNDECODED as error:
        raise refusal(body, error) from None
    # a known field twice is the one fault the decoder lets pass, beside a long number; without escapes it shows in the text
    if (
        b"\\" in body
        or any(body.count(name) > 1 for name in FIELD_NAMES)
        or (type(request.cost) is int and request.cost.bit_length() > LONG_BITS)
    ):
        inspect(body)
    if request.reserve:
        raise InvalidRequest("reserve is not offered by this version; leave it out.")
    if request.id is not None and not 0 < len(request.id) <= 256:
        raise InvalidRequest(f"id has {len(request.id)} characters; expected 1 to 256.")
    return request


def encode_results(results: Sequence[Result]) -> bytes:
    """The shape of `POST /v1/events`, with counts per status."""
    counts = {"accepted": 0, "duplicate": 0, "conflict": 0, "rejected": 0}
    for result in results:
        counts[result.status] += 1
    return _encode({"results": results, **counts})


def environment_of(scope: Scope) -> Environment:
    """`?environment=live|test` of a caller who may speak for both; live by default."""
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    wanted = query.get("environment", ["live"])
    if wanted == ["live"]:
        return "live"
    if wanted == ["test"]:
        return "test"
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
