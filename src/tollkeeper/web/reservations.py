"""`POST /v1/reservations/{token}/commit` and `/release`, answered by the protocol itself where memory is enough.

Only what is right is taken here. Anything else is left to the application, with nothing done, so that every fault is told in one place;
what is told here is what the log says afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import msgspec

from tollkeeper.core.context import SCOPE_CALLER
from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.events import Outcome
from tollkeeper.services.reservations import Commit, Reservations
from tollkeeper.web.auth import Authenticator, Caller, authorization_of
from tollkeeper.web.check import JSON, Failure, Finished
from tollkeeper.web.direct import Exchange
from tollkeeper.web.errors import Problems
from tollkeeper.web.json import LONG_BITS

BELOW: Final = b"/v1/reservations/"
COMMIT: Final = "/v1/reservations/{token}/commit"
RELEASE: Final = "/v1/reservations/{token}/release"

_PATH: Final = re.compile(BELOW + rb"(rsv_[A-Za-z0-9_-]{1,2044})/(commit|release)")
_FIELD: Final = b'"quantity"'
_EDGE: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""As the application answers."""


class Used(msgspec.Struct, forbid_unknown_fields=True):
    """What a commit is sent."""

    quantity: str | int | None = None


_decode: Final = msgspec.json.Decoder(Used).decode
_encode: Final = msgspec.json.Encoder().encode


class ReservationsDirect:
    """The endpoints. `finished`: by route, told of each answer that the protocol wrote itself."""

    def __init__(
        self,
        reservations: Reservations,
        authenticator: Authenticator,
        problems: Problems,
        failure: Failure,
        finished: Mapping[str, Finished],
    ) -> None:
        self._reservations = reservations
        self._authenticator = authenticator
        self._problems = problems
        self._failure = failure
        self._finished_commit = finished[COMMIT]
        self._finished_release = finished[RELEASE]

    def direct(self, exchange: Exchange) -> bool:
        """False, with nothing done, when the application must read storage, or say what is wrong."""
        started = perf_counter()
        scope = exchange.scope
        found = _PATH.fullmatch(scope["raw_path"])
        if found is None or scope["query_string"]:
            return False
        token, commits = found[1].decode(), found[2] == b"commit"
        try:
            caller = self._caller(scope)
            if caller is None:
                return False
            if not commits:
                released = self._reservations.release(token, caller.environment)
                scope[SCOPE_CALLER] = caller
                self.answer(exchange, self._finished_release, started, released)
                return True
            if not _is_json(scope):
                return False
            quantity = _quantity(exchange.body)
            commit = self._reservations.begin_from_memory(token, quantity, caller.environment)
        except (TollkeeperError, ValueError, RecursionError):  # msgspec's own are ValueErrors
            return False
        if commit is None:
            return False
        scope[SCOPE_CALLER] = caller
        waiting = _Waiting(self, exchange, started, commit)
        try:
            self._reservations.put(waiting)
        except TollkeeperError as error:
            waiting.error = error
            waiting.done()
        return True

    def _caller(self, scope: Any) -> Caller | None:
        client = scope["client"]
        caller = self._authenticator.from_memory(authorization_of(scope), client[0] if client else None)
        if caller is not None:
            caller.require("check")
        return caller

    def answer(self, exchange: Exchange, finished: Finished, started: float, told: Any) -> None:
        body = _encode(told)
        request_id = self._problems.request_id(exchange.scope).encode()
        headers = (JSON, (b"content-length", b"%d" % len(body)), (b"x-request-id", request_id), *_EDGE)
        exchange.answer(200, headers, body)
        finished(exchange.scope, 200, started)

    def committed(self, exchange: Exchange, started: float, told: Any) -> None:
        self.answer(exchange, self._finished_commit, started, told)

    def fail(self, exchange: Exchange, started: float, error: BaseException) -> None:
        """A commit that was begun."""
        status, headers, body = self._failure(exchange.scope, error)
        exchange.answer(status, (*headers, *_EDGE), body)
        self._finished_commit(exchange.scope, status, started)


def _is_json(scope: Any) -> bool:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return len(kinds) == 1 and kinds[0].partition(b";")[0].strip().lower() == b"application/json"


def _quantity(body: bytes) -> str | int | None:
    """Raises ValueError for all that a strict reader would look at twice, too."""
    quantity = _decode(body).quantity
    if b"\\" in body or body.count(_FIELD) > 1 or (type(quantity) is int and quantity.bit_length() > LONG_BITS):
        raise ValueError
    return quantity


class _Waiting:
    """A commit until the log has it (a Submission)."""

    __slots__ = ("_commit", "_endpoint", "_exchange", "_started", "error", "loop", "outcomes", "rows")

    early = False

    def __init__(self, endpoint: ReservationsDirect, exchange: Exchange, started: float, commit: Commit) -> None:
        self._endpoint = endpoint
        self._exchange = exchange
        self._started = started
        self._commit = commit
        self.loop = exchange.loop
        self.rows = (commit.row,)
        self.outcomes: list[Outcome] | None = None
        self.error: TollkeeperError | None = None

    def done(self) -> None:
        endpoint, exchange, started = self._endpoint, self._exchange, self._started
        try:
            if self.error is not None:
                self._commit.take_back()
                raise self.error
            endpoint.committed(exchange, started, self._commit.settle(self.outcomes))
        except Exception as error:
            endpoint.fail(exchange, started, error)
