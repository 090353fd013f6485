"""The gate of a server, asked over HTTP: for several workers, and for every process that does not own the files.

A call that is judged now and counted later is a reservation there: exact, and if this process dies in between, free again after an hour.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, ParamSpec, TypeVar

from tollkeeper.client import ApiError, Tollkeeper
from tollkeeper.client import Unreachable as NoAnswer
from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    StorageUnavailable,
    TollkeeperError,
    Unauthorized,
    Unreachable,
)
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.gate import NOBODY, Decision, instant
from tollkeeper.core.ids import ulid
from tollkeeper.core.keys import looks_like_key
from tollkeeper.core.metering import NANOS, QuantityInvalid, format_quantity, join_quantity, split_quantity
from tollkeeper.core.told import Told
from tollkeeper.core.usage import UsageRow
from tollkeeper.services.ingest import Result
from tollkeeper.services.reservations import Committed, Released
from tollkeeper.services.usage import UsageAnswer

log = logging.getLogger("tollkeeper.connected")

Away = Literal["closed", "open"]
METERS_SECONDS = 60.0
"""How long it may take until a change of a meter's `count_on` is known here."""
_ERRORS: Mapping[str, type[TollkeeperError]] = {
    error.code: error for error in (Conflict, Forbidden, InvalidRequest, NotFound, StorageUnavailable, Unauthorized)
} | {"quantity_invalid": QuantityInvalid}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
P = ParamSpec("P")
T = TypeVar("T")


class ConnectedGate:
    """`Gate`, answered by a server. Safe to use from any number of threads and on any event loop, also after a fork."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        test_token: str | None = None,
        timeout: float = 2.0,
        away: Away = "closed",
        imported_keys: bool = False,
        connections: int = 32,
    ) -> None:
        """`connections`: how many requests of event loops are under way at once; threads bring their own. Raises InvalidRequest."""
        if away not in ("closed", "open"):
            raise InvalidRequest(f"away is {away!r}; expected closed or open.")
        try:
            self.client = Tollkeeper(url, token, timeout=timeout)
            self._of_tests = Tollkeeper(url, test_token, timeout=timeout) if test_token else self.client
        except ValueError as fault:
            raise InvalidRequest(f"{fault}.") from None
        self.away = away
        self.imported_keys = imported_keys
        self.unjudged = 0
        self.uncounted = 0
        self._connections = connections
        self._threads: tuple[int, ThreadPoolExecutor] | None = None
        self._attempts: tuple[float, frozenset[str]] = (0.0, frozenset())

    def check(
        self,
        key: str,
        meter: str | None = None,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
        id: str | None = None,
        wait: bool = True,
    ) -> Decision:
        """As `Gate.check`. Raises Unreachable too: whether it was counted is then not known, and with `id` it is safe to repeat."""
        if meter is not None and id is None:
            id = ulid(time.time_ns() // 1_000_000, secrets.randbits(80))  # so that it may be sent again
        decision = self._ask(key, meter, cost, {"scope": scope, "ip": ip, "id": id, "durable": wait})
        decision.settle()
        return decision

    async def check_async(
        self,
        key: str,
        meter: str | None = None,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
        id: str | None = None,
    ) -> Decision:
        """`check` on an event loop."""
        return await asyncio.wrap_future(self._submit(self.check, key, meter, cost, scope=scope, ip=ip, id=id))

    def judge(
        self,
        key: str,
        meter: str | None = None,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
    ) -> Decision:
        """As `Gate.judge`: reserved on the server, to be counted or refunded. Raises Unreachable too."""
        if meter is not None:
            self._learn_meters()
        return self._ask(key, meter, cost, {"scope": scope, "ip": ip, "reserve": meter is not None})

    async def judge_async(
        self,
        key: str,
        meter: str | None = None,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
    ) -> Decision:
        """`judge` on an event loop. When its caller is cancelled meanwhile, what was reserved is released."""
        future = self._submit(self.judge, key, meter, cost, scope=scope, ip=ip)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            future.add_done_callback(self._give_back)
            raise

    def count(self, decision: Decision) -> None:
        """As `Gate.count`; asked twice before Unreachable is raised, since a commit counts once."""
        if not isinstance(decision, Told) or not decision.settle():
            return
        client, reservation = self._client(decision.who.environment), decision.reservation or ""
        try:
            try:
                self._call(client.commit, reservation, decision.cost)
            except Unreachable:
                self._call(client.commit, reservation, decision.cost)
        except Unreachable as fault:
            if self.away == "closed":
                raise
            self.uncounted += 1
            log.error("a use was not counted: %s", fault.detail, extra={"request_id": decision.request_id})
        except TollkeeperError:
            self._release(decision)
            raise

    async def count_async(self, decision: Decision) -> None:
        """`count` on an event loop."""
        await asyncio.shield(asyncio.wrap_future(self._submit(self.count, decision)))

    def refund(self, decision: Decision, *, limits: bool = True) -> None:
        """Release what was judged. Limits by request keep the call, whatever `limits` says. What cannot be released lapses by itself."""
        if not isinstance(decision, Told) or not decision.settle():
            return
        self._release(decision)

    def _release(self, decision: Told) -> None:
        decision.amount = 0
        try:
            self._call(self._client(decision.who.environment).release, decision.reservation or "")
        except TollkeeperError as fault:
            log.warning("a reservation was left to lapse: %s", fault.detail, extra={"request_id": decision.request_id})

    async def refund_async(self, decision: Decision, *, limits: bool = True) -> None:
        """`refund` on an event loop."""
        if decision.amount and not hasattr(decision, "settled"):
            await asyncio.shield(asyncio.wrap_future(self._submit(self.refund, decision)))

    def counts_attempts(self, meter: str) -> bool:
        """What the catalog says, as it was read from the server within METERS_SECONDS before the last `judge`."""
        return meter in self._attempts[1]

    def reserve(
        self,
        key: str,
        meter: str,
        cost: int | str | Decimal,
        *,
        scope: str | None = None,
        ip: str | None = None,
    ) -> Decision:
        """As `Gate.reserve`: pass the decision's `reservation` to `commit` or `release`."""
        decision = self.judge(key, meter, cost, scope=scope, ip=ip)
        decision.settle()
        return decision

    def commit(self, reservation: str, quantity: int | str | Decimal) -> Committed:
        """As `Gate.commit`. After Unreachable it is safe to repeat."""
        return Committed(**self._of_either(lambda client: client.commit(reservation, quantity)))

    def release(self, reservation: str) -> Released:
        """As `Gate.release`."""
        return Released(**self._of_either(lambda client: client.release(reservation)))

    def record(
        self, events: Sequence[UsageEvent | Mapping[str, Any]], environment: Environment = "live"
    ) -> list[Result]:
        """As `Gate.record`; the token needs the scope `events:write`. After Unreachable it is safe to repeat."""
        client = self._client(environment)
        answer = self._call(client.events, [_sent(event) for event in events], environment)
        return [Result(**{**result, "meters": tuple(result["meters"])}) for result in answer["results"]]

    def usage(self, meter: str, **query: Any) -> UsageAnswer:
        """As `Gate.usage`; the token needs the scope `usage:read`."""
        start, end, group_by = (query.pop(name, None) for name in ("start", "end", "group_by"))
        query["from"] = None if start is None else instant(start)
        query["to"] = None if end is None else instant(end)
        query["group_by"] = ",".join(group_by) if group_by else None
        answer = self._call(self._client(query.get("environment")).usage, meter=meter, **query)
        rows = [UsageRow(**{**row, "start": _us(row["start"]), "end": _us(row["end"])}) for row in answer["data"]]
        return UsageAnswer(answer["meter"], answer["total"], rows)

    def close(self) -> None:
        """Close connections and threads. They are opened again when needed."""
        threads, self._threads = self._threads, None
        if threads is not None and threads[0] == os.getpid():
            threads[1].shutdown()
        self.client.close()
        self._of_tests.close()

    def __enter__(self) -> ConnectedGate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _of_either(self, ask: Callable[[Tollkeeper], dict[str, Any]]) -> dict[str, Any]:
        """A reservation does not show of which environment it is."""
        try:
            return self._call(ask, self.client)
        except NotFound:
            if self._of_tests is self.client:
                raise
            return self._call(ask, self._of_tests)

    def _client(self, environment: str | None) -> Tollkeeper:
        return self._of_tests if environment == "test" else self.client

    def _ask(self, key: str, meter: str | None, cost: int | str | Decimal, more: Mapping[str, Any]) -> Decision:
        if not (type(key) is str and (meter is None or type(meter) is str)):
            raise InvalidRequest("key and meter: text is expected.")
        environment = looks_like_key(key)
        if environment is None and not (self.imported_keys and key.isascii()):
            return Decision("NOT_FOUND", _new_id(), NOBODY)
        units, nanos = split_quantity(cost)
        amount = units * NANOS + nanos
        body = {"key": key, "meter": meter, "cost": format_quantity(join_quantity(units, nanos))}
        body |= {name: value for name, value in more.items() if value is not None}
        try:
            told = self._call(self._client(environment).request, "POST", "/v1/check", body, repeatable=True)
        except Unreachable as fault:
            if self.away == "closed" or environment is None:  # any text might be an imported key
                raise
            self.unjudged += 1
            log.warning("a call was let through unjudged: %s", fault.detail)
            return Decision("VALID", _new_id(), NOBODY)
        return Told(told, amount)

    def _learn_meters(self) -> None:
        """Read anew which meters count attempts, when that is old. Without an answer what was known holds on."""
        now = time.monotonic()
        if now < self._attempts[0]:
            return
        try:
            meters = self._call(self.client.request, "GET", "/v1/meters")["data"]
        except Unreachable:
            return  # the question that follows says so, or is let through
        attempts = frozenset(meter["key"] for meter in meters if meter["count_on"] == "attempt")
        self._attempts = (now + METERS_SECONDS, attempts)

    def _call(self, ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The client's failures, as the rest of Tollkeeper knows them."""
        try:
            return ask(*args, **kwargs)
        except NoAnswer as fault:
            raise Unreachable(str(fault)) from fault
        except ApiError as fault:
            kind = _ERRORS.get(
                fault.code, Unreachable if fault.status >= 500 or fault.code == "bad_answer" else InvalidRequest
            )
            raise kind(fault.detail) from fault
        except (TypeError, ValueError) as fault:
            raise InvalidRequest(f"{fault}.") from fault

    def _submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        threads = self._threads
        if threads is None or threads[0] != os.getpid():  # after a fork there are no threads
            pool = ThreadPoolExecutor(self._connections, thread_name_prefix="tollkeeper")
            threads = self._threads = (os.getpid(), pool)
        return threads[1].submit(work, *args, **kwargs)

    def _give_back(self, future: Future[Decision]) -> None:
        if future.exception() is None:
            self.refund(future.result())


def _new_id() -> int:
    return (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)


def _sent(event: UsageEvent | Mapping[str, Any]) -> dict[str, Any]:
    """An event as the wire has it."""
    fields = asdict(event) if isinstance(event, UsageEvent) else dict(event)
    if isinstance(time := fields.get("time"), datetime):
        fields["time"] = time.isoformat()
    return {name: value for name, value in fields.items() if value is not None}


def _us(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
