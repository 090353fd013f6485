"""A gate inside an application: what every such surface does with a call, whatever its framework and its colour. No I/O.

Judged before the handler runs, settled by the status of its answer before the first byte of it leaves: 2xx is committed, anything
else is given back (the quota; rate limits keep it, since the call was made).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_address
from json import dumps
from typing import Any, Final, Protocol, TypedDict
from urllib.parse import quote

from tollkeeper.core.context import SCOPE_REQUEST_ID
from tollkeeper.core.errors import (
    Forbidden,
    GateUnreachable,
    InvalidRequest,
    NotFound,
    TollkeeperError,
    Unauthorized,
    Unreachable,
)
from tollkeeper.core.gate import Decision
from tollkeeper.core.ids import new_id
from tollkeeper.services.clock import Clock
from tollkeeper.web.errors import MEDIA_TYPE, Problems
from tollkeeper.web.identity import called, identity_fields, replaced, spelled
from tollkeeper.web.key_places import Pairs, read_keys, read_places, take_from_query
from tollkeeper.web.rules import CountOn, Rule, read_rules

log = logging.getLogger("tollkeeper.inside")

KEY_HEADERS: Final = ("Authorization", "X-API-Key")
KEY_PARAMETERS: Final = ("api_key",)


class Gate(Protocol):
    """What is needed of a gate: `Gate.open` and `Gate.connect` both give one."""

    def judge(
        self,
        key: str,
        meter: str | None = None,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
    ) -> Decision: ...

    async def judge_async(
        self,
        key: str,
        meter: str | None = None,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
    ) -> Decision: ...

    def count(self, decision: Decision) -> None: ...

    async def count_async(self, decision: Decision) -> None: ...

    def refund(self, decision: Decision, *, limits: bool = True) -> None: ...

    async def refund_async(self, decision: Decision, *, limits: bool = True) -> None: ...

    def counts_attempts(self, meter: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of ours, to send in place of the application's."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Options(TypedDict, total=False):
    """What a surface passes on to its Toll."""

    cost: int | str | Decimal
    free: Iterable[str]
    prices: Iterable[str]
    count_on: CountOn | None
    key_headers: Iterable[str]
    key_parameters: Iterable[str]
    docs: str


class Toll:
    """What an application takes, for which calls, and where keys stand. Raises InvalidRequest for options that are off.

    `meter`, `cost`: what a call takes; `meter` None: only what has a price of its own. `free`: `["/docs", "GET /status"]`, paths (and all
    below them) that need no key. `prices`: `["[METHOD ]/path=meter[:cost]"]`. `count_on` None: as the meter says; `"success"` or
    `"attempt"`: for all. `docs` begins the links in problems: the address of your Tollkeeper server, if you have one.
    """

    def __init__(
        self,
        gate: Gate,
        meter: str | None,
        *,
        cost: int | str | Decimal = 1,
        free: Iterable[str] = (),
        prices: Iterable[str] = (),
        count_on: CountOn | None = None,
        key_headers: Iterable[str] = KEY_HEADERS,
        key_parameters: Iterable[str] = KEY_PARAMETERS,
        docs: str = "",
    ) -> None:
        self.gate = gate
        self.rules = read_rules(meter, str(cost), free, prices)
        self.places = read_places(key_headers, key_parameters)
        if count_on not in (None, "attempt", "success"):
            raise InvalidRequest(
                f"count_on: attempt or success is expected, or None for what the meter says; found {count_on!r}."
            )
        self.count_on = count_on
        self.docs = docs.rstrip("/")
        clock = Clock()
        self.problems = Problems(self.docs, lambda: new_id("req", clock.now_ns() // 1_000_000, clock.random_bits(80)))

    def counts_attempts(self, meter: str) -> bool:
        if self.count_on is not None:
            return self.count_on == "attempt"
        return self.gate.counts_attempts(meter)


class Call:
    """One call, from its head to the head of its answer. Names of `headers` in lower case; `path` decoded, as the router sees it.

    Each step is there for a thread and for an event loop. What a step gives is an answer of ours, to be sent in the place of the
    application's; None: go on.
    """

    __slots__ = ("_headers", "_keys", "_known", "decision", "ip", "method", "path", "toll")

    def __init__(self, toll: Toll, method: str, path: bytes, headers: Pairs, query: bytes, peer: str | None) -> None:
        self.toll = toll
        self.method = method
        self.path = path
        self.ip = _address(peer)
        self.decision: Decision | None = None
        self._headers = headers
        self._keys = read_keys(headers, take_from_query(query, toll.places.query)[1], toll.places)
        self._known: dict[str, Any] = {"headers": headers}

    # before the handler

    def enter(self) -> Answer | None:
        """Judge by the rules."""
        try:
            rule = self._rule()
        except InvalidRequest as error:
            return self._failure(error)
        return None if rule.meter is None else self.judge(rule)

    async def enter_async(self) -> Answer | None:
        try:
            rule = self._rule()
        except InvalidRequest as error:
            return self._failure(error)
        return None if rule.meter is None else await self.judge_async(rule)

    def judge(self, rule: Rule, needs: str | None = None) -> Answer | None:
        """Judge by this rule; `needs` is a scope of the key. Raises RuntimeError when it is judged already."""
        gate = self.toll.gate
        try:
            key = self._key()
            with _set_up():
                decision = gate.judge(key, _meter(rule), rule.cost, scope=needs, ip=self.ip)
                if self._judged(decision, rule):
                    gate.count(decision)
        except TollkeeperError as error:
            return self._failure(error)
        return None if decision.allowed else self._refusal(decision)

    async def judge_async(self, rule: Rule, needs: str | None = None) -> Answer | None:
        gate = self.toll.gate
        try:
            key = self._key()
            with _set_up():
                decision = await gate.judge_async(key, _meter(rule), rule.cost, scope=needs, ip=self.ip)
                if self._judged(decision, rule):
                    await gate.count_async(decision)
        except TollkeeperError as error:
            return self._failure(error)
        return None if decision.allowed else self._refusal(decision)

    def identity(self) -> list[tuple[str, str]]:
        """The fields that tell the application who calls, in the place of whatever was sent under their names."""
        request_id = self.toll.problems.request_id(self._known) if self.decision is None else self.decision.request_id
        return identity_fields(self.decision, request_id)

    # after it

    def settle(self, success: bool) -> Answer | None:
        """Before the head of the answer leaves: count it, or give it back. What was settled before is left alone."""
        if self.decision is None:
            return None
        try:
            with _set_up():
                if success:
                    self.toll.gate.count(self.decision)
                else:
                    self.toll.gate.refund(self.decision, limits=False)
        except TollkeeperError as error:
            return self._failure(error)
        return None

    async def settle_async(self, success: bool) -> Answer | None:
        if self.decision is None:
            return None
        try:
            with _set_up():
                if success:
                    await self.toll.gate.count_async(self.decision)
                else:
                    await self.toll.gate.refund_async(self.decision, limits=False)
        except TollkeeperError as error:
            return self._failure(error)
        return None

    def told(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The answer's fields for the client: the application's, and what is left."""
        if self.decision is None:
            return list(headers)
        ours = called(self.decision)
        limited = any(name == b"ratelimit" for name, _ in ours)
        return [pair for pair in headers if not replaced(spelled(pair[0].lower()), limited)] + ours

    def _rule(self) -> Rule:
        return self.toll.rules.find(quote(self.path).encode(), self.method)

    def _key(self) -> str:
        """The key to judge by, blank where none was sent."""
        if self.decision is not None:
            raise RuntimeError(f"{self.method} {self.path!r} has two prices, by rule or by route: give it one.")
        if len(self._keys) > 1:
            raise InvalidRequest("Several different API keys are sent: send one.")
        return next(iter(self._keys), "")

    def _judged(self, decision: Decision, rule: Rule) -> bool:
        """Keep the decision. True when it is to be counted at once, since attempts count."""
        self.decision = decision
        if not self._keys:
            decision.reason = f"Send your API key as {self.toll.places}."
        return rule.meter is not None and decision.amount > 0 and self.toll.counts_attempts(rule.meter)

    def _refusal(self, decision: Decision) -> Answer:
        """The gate said no: its status, its problem, its fields."""
        body = dumps(decision.problem(self.toll.docs)).encode()
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body)), *called(decision)]
        if decision.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="API"'))
        return Answer(decision.status, headers, body)

    def _failure(self, error: TollkeeperError) -> Answer:
        """The call could not be judged, or not be counted."""
        if self.decision is not None:
            self._known[SCOPE_REQUEST_ID] = self.decision.request_id
        if not error.permanent:
            log.warning("%s", error.detail, extra={"request_id": self.toll.problems.request_id(self._known)})
        status, headers, body = self.toll.problems.answer(self._known, error)
        if self.decision is not None:
            headers += [pair for pair in called(self.decision) if pair[0] not in (b"x-request-id", b"retry-after")]
        return Answer(status, headers, body)


def _meter(rule: Rule) -> str | None:
    """A cost of 0 would only ask: what costs nothing is judged without its meter, and so limited."""
    return rule.meter if rule.cost else None


@contextmanager
def _set_up() -> Iterator[None]:
    """When the gate does not know the meter or our token, or is away, the client is told little and the log all."""
    try:
        yield
    except (NotFound, InvalidRequest, Unauthorized, Forbidden) as error:
        log.error("the gate cannot judge a call: %s", error.detail)
        raise TollkeeperError("The gate in front of this API is not set up for this path.") from error
    except Unreachable as error:
        log.error("the gate does not answer: %s", error.detail)
        raise GateUnreachable from error


def _address(peer: str | None) -> str | None:
    """None for what is no address: a Unix socket, a test client."""
    try:
        return None if peer is None else str(ip_address(peer))
    except ValueError:
        return None
