"""`POST /v1/check`: who is this, may they, and count it. Answered by the protocol itself where memory is enough, else as ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

import msgspec

from tollkeeper.core.context import SCOPE_CALLER, SCOPE_REQUEST_ID
from tollkeeper.core.errors import InvalidRequest, TollkeeperError
from tollkeeper.core.events import LogRow, Outcome
from tollkeeper.core.gate import Decision
from tollkeeper.services.gate import Gate
from tollkeeper.services.reservations import Reservations
from tollkeeper.services.snapshots import Snapshot
from tollkeeper.web.auth import Authenticator, Caller, authorization_of
from tollkeeper.web.direct import MAX_DIRECT_BODY, Exchange, Headers
from tollkeeper.web.json import LONG_BITS, UNDECODED, inspect, refusal

Scope = dict[str, Any]
Failure = Callable[[Scope, BaseException], tuple[int, Headers, bytes]]
Finished = Callable[[Any, int, float], None]

MAX_CHECK_BODY: Final = MAX_DIRECT_BODY
JSON: Final = (b"content-type", b"application/json")


class CheckRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/check`. `cost` a decimal; `id` makes a retry safe; `durable` false: the early answer; `reserve`: take, record later."""

    key: str
    meter: str | None = None
    cost: str | int = "1"
    scope: str | None = None
    ip: str | None = None
    id: str | None = None
    reserve: bool = False
    durable: bool = True


_FIELDS: Final = [b'"%b"' % name.encode() for name in CheckRequest.__struct_fields__]
_decode: Final = msgspec.json.Decoder(CheckRequest).decode


def decode_check(body: bytes) -> CheckRequest:
    """Raises InvalidRequest, naming the field."""
    try:
        request = _decode(body)
    except UNDECODED as error:
        raise refusal(body, error) from None
    # a known field twice is the one fault the decoder lets pass, beside a long number; without escapes it shows in the text
    cost = request.cost
    if b"\\" in body or (type(cost) is int and cost.bit_length() > LONG_BITS):
        inspect(body)
    else:
        count = body.count
        for name in _FIELDS:
            if count(name) > 1:
                inspect(body)
                break
    if request.reserve:
        if request.meter is None:
            raise InvalidRequest("reserve needs a meter.", field="meter")
        if request.id is not None or not request.durable:
            raise InvalidRequest("reserve goes without id and durable: its commit is safe to repeat, and durable.")
    if request.id is not None and not 0 < len(request.id) <= 256:
        raise InvalidRequest(f"id has {len(request.id)} characters; expected 1 to 256.")
    return request


class Check:
    """The endpoint. `docs` begins the links in problems; `finished(scope, status, started)` is told of each direct answer."""

    def __init__(
        self,
        gate: Gate,
        reservations: Reservations,
        authenticator: Authenticator,
        failure: Failure,
        finished: Finished,
        *,
        docs: str = "",
    ) -> None:
        self._gate = gate
        self._reservations = reservations
        self._authenticator = authenticator
        self._failure = failure
        self._finished = finished
        self._docs = docs

    def direct(self, exchange: Exchange) -> bool:
        """Decide from memory; False when storage must be read first."""
        started = perf_counter()
        scope = exchange.scope
        gate = self._gate
        try:
            client = scope["client"]
            caller = self._authenticator.from_memory(authorization_of(scope), client[0] if client else None)
            if caller is None:
                return False
            caller.require("check")
            request = decode_check(exchange.body)
            snapshot = gate.find(request.key)
            if snapshot is None and gate.may_be_key(request.key):
                return False
            decision = self._judge(scope, caller, request, snapshot)
            if gate.may_be_known(decision, request.id):
                gate.recount(decision, None)
                return False
            if request.reserve:
                self._reservations.hold(decision)
                self._answer(exchange, started, decision)
            elif not decision.amount:
                self._answer(exchange, started, decision)
            elif request.durable:
                gate.put(decision, _Waiting(self, exchange, started, decision, gate.row(decision, request.id)))
            else:
                gate.record(decision, request.id)
                self._answer(exchange, started, decision, pending=True)
        except Exception as error:
            self._fail(exchange, started, error)
        return True

    async def asgi(self, scope: Scope, caller: Caller, body: bytes) -> tuple[bytes, bytes]:
        """The request's id, and the decision after its usage event is committed."""
        request = decode_check(body)
        gate = self._gate
        snapshot = gate.find(request.key)
        if snapshot is None and gate.may_be_key(request.key):
            snapshot = await asyncio.to_thread(gate.load, request.key)
        decision = self._judge(scope, caller, request, snapshot)
        if gate.may_be_known(decision, request.id):
            decision = await asyncio.to_thread(gate.known, decision, request.cost, str(request.id))
        pending = False
        if request.reserve:
            self._reservations.hold(decision)
        elif decision.amount:
            if request.durable:
                await gate.commit(decision, request.id)
            else:
                pending = True
                gate.record(decision, request.id)
        return decision.request_id.encode(), decision.to_json(self._docs, pending=pending)

    def _judge(self, scope: Scope, caller: Caller, request: CheckRequest, snapshot: Snapshot | None) -> Decision:
        if snapshot is not None and caller.environment is not None and snapshot.who.environment != caller.environment:
            snapshot = None  # a test token does not see live keys, nor the other way round
        cost = request.cost
        decision = self._gate.judge(snapshot, request.meter, 1 if cost == "1" else cost, request.scope, request.ip)
        scope[SCOPE_CALLER] = decision.who
        scope[SCOPE_REQUEST_ID] = decision.request_id
        return decision

    def _answer(self, exchange: Exchange, started: float, decision: Decision, *, pending: bool = False) -> None:
        body = decision.to_json(self._docs, pending=pending)
        request_id = exchange.scope[SCOPE_REQUEST_ID].encode()
        exchange.answer(200, (JSON, (b"content-length", b"%d" % len(body)), (b"x-request-id", request_id)), body)
        self._finished(exchange.scope, 200, started)

    def _fail(self, exchange: Exchange, started: float, error: BaseException) -> None:
        status, headers, body = self._failure(exchange.scope, error)
        exchange.answer(status, headers, body)
        self._finished(exchange.scope, status, started)


class _Waiting:
    """A direct check until its commit (a Submission)."""

    __slots__ = ("_check", "_decision", "_exchange", "_started", "error", "loop", "outcomes", "rows")

    early = False

    def __init__(self, check: Check, exchange: Exchange, started: float, decision: Decision, row: LogRow) -> None:
        self._check = check
        self._exchange = exchange
        self._started = started
        self._decision = decision
        self.loop = exchange.loop
        self.rows = (row,)
        self.outcomes: list[Outcome] | None = None
        self.error: TollkeeperError | None = None

    def done(self) -> None:
        check, decision = self._check, self._decision
        try:
            if self.error is not None:
                check._gate.refund(decision)
                raise self.error
            check._gate.settle(decision, self.outcomes)
            check._answer(self._exchange, self._started, decision)
        except Exception as error:
            check._fail(self._exchange, self._started, error)
