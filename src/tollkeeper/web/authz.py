"""`/authz`: forward-auth for nginx, Caddy, Traefik and Envoy. The gateway asks before each call, and passes it on when the answer is 2xx.

A gateway sees attempts only, so every allowed call counts, after its commit. With `settle=log` the call is reserved instead, and
committed or released by the status in the gateway's access log (`tollkeeper settle`).

With `cache=SECONDS` nginx may keep an answer so long. Calls that it lets through by it reach only its log, so the answer counts nothing
itself: it carries a pass, and each line of the log with that pass is a call.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from json import dumps, loads
from time import perf_counter
from typing import Any, Final

import msgspec

from tollkeeper.core.context import SCOPE_CALLER, SCOPE_REQUEST_ID
from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.events import Outcome
from tollkeeper.core.gate import Decision
from tollkeeper.core.reservations import MANY_PREFIX
from tollkeeper.services.gate import Gate
from tollkeeper.services.reservations import Reservations
from tollkeeper.web.authz_options import ENVOY, Asked, AuthzOptions, read_asked, read_envoy, read_options
from tollkeeper.web.direct import Exchange
from tollkeeper.web.errors import MEDIA_TYPE, Problems
from tollkeeper.web.identity import called, identity_fields
from tollkeeper.web.judging import judge, judge_from_memory
from tollkeeper.web.key_places import KeyPlaces

Scope = MutableMapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]

MOST_OPTIONS: Final = 1000
PASSED_BY_NGINX: Final = (200, 401, 403)

logger = logging.getLogger("tollkeeper.gate")
_encode = msgspec.json.Encoder().encode


class Authz:
    """The endpoint. `docs` begins the links in problems; `finished(scope, status, started)` is told of each direct answer."""

    def __init__(
        self,
        gate: Gate,
        reservations: Reservations,
        problems: Problems,
        failure: Callable[[Any, BaseException], Answer],
        finished: Callable[[Any, int, float], None],
        docs: str = "",
    ) -> None:
        self._failure = failure
        self._finished = finished
        self._gate = gate
        self._reservations = reservations
        self._problems = problems
        self._docs = docs
        self._places = KeyPlaces()
        self._options: dict[bytes, AuthzOptions] = {}

    async def answer(self, scope: Scope) -> tuple[int, Headers, bytes]:
        """Status, headers and body for the gateway. Raises nothing but what is no TollkeeperError."""
        options = None
        try:
            options, own_path = self._options_of(scope)
            asked = read_asked(scope, options, own_path, self._places)
            rule = options.rules.find(asked.path, asked.method)
            if rule.meter is None:
                return 200, self._identity(scope, None), b""
            decision = await judge(self._gate, asked.keys, rule, asked.ip, self._places)
            answer = self._judged(scope, options, asked, decision)
            if decision.amount and decision.reservation is None:
                await self._gate.commit(decision)
            return answer or self._allow(scope, options, decision)
        except TollkeeperError as error:
            return self._fail(scope, options, error)

    def direct(self, exchange: Exchange) -> bool:
        """Decide from memory, in the protocol; False when a key must be read first."""
        started = perf_counter()
        scope = exchange.scope
        options = None
        try:
            options, own_path = self._options_of(scope)
            asked = read_asked(scope, options, own_path, self._places)
            rule = options.rules.find(asked.path, asked.method)
            if rule.meter is None:
                answer = 200, self._identity(scope, None), b""
            else:
                decision = judge_from_memory(self._gate, asked.keys, rule, asked.ip, self._places)
                if decision is None:
                    return False
                told = self._judged(scope, options, asked, decision)
                if decision.amount and decision.reservation is None:
                    self._gate.put(decision, _Waiting(self, exchange, started, options, decision))
                    return True
                answer = told or self._allow(scope, options, decision)
        except TollkeeperError as error:
            answer = self._fail(scope, options, error)
        except Exception as error:
            answer = self._failure(scope, error)
        self._send(exchange, started, answer)
        return True

    def _send(self, exchange: Exchange, started: float, answer: Answer) -> None:
        status, headers, body = answer
        exchange.answer(status, [*headers, (b"content-length", b"%d" % len(body))], body)
        self._finished(exchange.scope, status, started)

    def _options_of(self, scope: Scope) -> tuple[AuthzOptions, bytes | None]:
        """What the gateway's configuration says, and the call's own path where it is the request's (Envoy)."""
        path = scope["raw_path"]
        return read_envoy(path) if path.startswith(ENVOY) else (self._read_options(scope["query_string"]), None)

    def _judged(self, scope: Scope, options: AuthzOptions, asked: Asked, decision: Decision) -> Answer | None:
        """The refusal; None when it is allowed. Reserves what the gateway's log will settle, or makes a pass of it."""
        scope[SCOPE_CALLER] = decision.who
        scope[SCOPE_REQUEST_ID] = decision.request_id
        if not decision.allowed:
            return self._refuse(options, decision)
        if options.settled and not (
            options.cache and self._may_be_kept(options, asked) and self._reservations.admit(decision)
        ):
            self._reservations.hold(decision)
        return None

    def _may_be_kept(self, options: AuthzOptions, asked: Asked) -> bool:
        """Whether a gateway may answer the next call with the same cache key as it is told now. A key bound to addresses is asked about
        each time, since the address need not be part of the cache key.
        """
        if not asked.known_by_cache_key(options.rules):
            return False
        [raw] = asked.keys
        snapshot = self._gate.find(raw)
        return snapshot is not None and not snapshot.networks

    def _allow(self, scope: Scope, options: AuthzOptions, decision: Decision) -> Answer:
        headers = self._identity(scope, decision)
        if options.cache:
            # nginx keeps until its second has passed, and reads no `private`; one less, and it is never longer than was asked for
            kept = (decision.reservation or "").startswith(MANY_PREFIX)
            headers.append((b"x-accel-expires", b"%d" % (options.cache - 1 if kept else 0)))
        return 200, headers, b""

    def _fail(self, scope: Scope, options: AuthzOptions | None, error: TollkeeperError) -> Answer:
        if not error.permanent:
            logger.warning("%s", error.detail, extra={"request_id": self._problems.request_id(scope)})
        status, headers, body = self._problems.answer(scope, error)
        kept = [header for header in headers if header[0] != b"content-length"]
        return self._as_told(options, status, error.code, kept, body)

    def _read_options(self, query: bytes) -> AuthzOptions:
        options = self._options.get(query)
        if options is None:
            options = read_options(query)
            if len(self._options) >= MOST_OPTIONS:
                self._options.clear()
            self._options[query] = options
        return options

    def _identity(self, scope: Scope, decision: Decision | None) -> Headers:
        request_id = self._problems.request_id(scope)
        fields = [(name.encode(), value.encode()) for name, value in identity_fields(decision, request_id)]
        fields.append((b"x-tollkeeper-reservation", ((decision and decision.reservation) or "").encode()))
        return [*fields, *([(b"x-request-id", request_id.encode())] if decision is None else called(decision))]

    def _refuse(self, options: AuthzOptions, decision: Decision) -> tuple[int, Headers, bytes]:
        body = _encode(decision.problem(self._docs))
        headers = [(b"content-type", MEDIA_TYPE.encode()), *called(decision)]
        if decision.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="API"'))
        return self._as_told(options, decision.status, decision.code, headers, body)

    @staticmethod
    def _as_told(
        options: AuthzOptions | None, status: int, code: str, headers: Headers, body: bytes
    ) -> tuple[int, Headers, bytes]:
        """nginx's auth_request knows 2xx, 401 and 403, and drops the body: headers tell the rest, for its configuration to answer by."""
        headers = [
            *headers,
            (b"x-tollkeeper-status", b"%d" % status),
            (b"x-tollkeeper-code", code.encode()),
            (b"x-tollkeeper-problem", dumps(loads(body)).encode()),  # ASCII, on one line
        ]
        if options is not None and options.cache:
            headers.append((b"x-accel-expires", b"0"))
        if options is not None and options.profile == "nginx" and status not in PASSED_BY_NGINX:
            status = 403
        return status, headers, body


class _Waiting:
    """A call until the commit of its usage event (a Submission)."""

    __slots__ = ("_authz", "_decision", "_exchange", "_options", "_started", "error", "loop", "outcomes", "rows")

    early = False

    def __init__(
        self, authz: Authz, exchange: Exchange, started: float, options: AuthzOptions, decision: Decision
    ) -> None:
        self._authz = authz
        self._exchange = exchange
        self._started = started
        self._options = options
        self._decision = decision
        self.loop = exchange.loop
        self.rows = (authz._gate.row(decision),)
        self.outcomes: list[Outcome] | None = None
        self.error: TollkeeperError | None = None

    def done(self) -> None:
        authz, scope = self._authz, self._exchange.scope
        if self.error is None:
            answer = authz._allow(scope, self._options, self._decision)
        else:
            authz._gate.refund(self._decision)
            answer = authz._fail(scope, self._options, self.error)
        authz._send(self._exchange, self._started, answer)
