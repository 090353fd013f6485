"""`/authz`: forward-auth for nginx, Caddy, Traefik and Envoy. The gateway asks before each call, and passes it on when the answer is 2xx.

A gateway sees attempts only, so every allowed call counts, after its commit. With `settle=log` the call is reserved instead, and
committed or released by the status in the gateway's access log (`tollkeeper settle`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from json import dumps, loads
from typing import Any, Final

import msgspec

from tollkeeper.core.context import SCOPE_CALLER, SCOPE_REQUEST_ID
from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.gate import Decision
from tollkeeper.services.gate import Gate
from tollkeeper.services.reservations import Reservations
from tollkeeper.web.authz_options import ENVOY, AuthzOptions, read_asked, read_envoy, read_options
from tollkeeper.web.errors import MEDIA_TYPE, Problems
from tollkeeper.web.identity import called, identity_fields
from tollkeeper.web.judging import judge
from tollkeeper.web.key_places import KeyPlaces

Scope = MutableMapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MOST_OPTIONS: Final = 1000
PASSED_BY_NGINX: Final = (200, 401, 403)

logger = logging.getLogger("tollkeeper.gate")
_encode = msgspec.json.Encoder().encode


class Authz:
    """The endpoint. `docs` begins the links in problems."""

    def __init__(self, gate: Gate, reservations: Reservations, problems: Problems, docs: str = "") -> None:
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
            own_path = None
            if scope["raw_path"].startswith(ENVOY):
                options, own_path = read_envoy(scope["raw_path"])
            else:
                options = self._read_options(scope["query_string"])
            asked = read_asked(scope, options, own_path, self._places)
            rule = options.rules.find(asked.path, asked.method)
            if rule.meter is None:
                return 200, self._identity(scope, None), b""
            decision = await judge(self._gate, asked.keys, rule, asked.ip, self._places)
            scope[SCOPE_CALLER] = decision.who
            scope[SCOPE_REQUEST_ID] = decision.request_id
            if not decision.allowed:
                return self._refuse(options, decision)
            if options.settled:
                self._reservations.hold(decision)
            elif decision.amount:
                await self._gate.commit(decision)
            return 200, self._identity(scope, decision), b""
        except TollkeeperError as error:
            if not error.permanent:
                logger.warning("%s", error.detail, extra={"request_id": self._problems.request_id(scope)})
            status, headers, body = self._problems.answer(scope, error)
            return self._as_told(options, status, error.code, headers, body)

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
        if options is not None and options.profile == "nginx" and status not in PASSED_BY_NGINX:
            status = 403
        return status, headers, body
