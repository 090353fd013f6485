"""The gate inside your own program: it owns the files, so it is for a program of one process."""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tollkeeper.core.customers import ENVIRONMENTS, Environment
from tollkeeper.core.errors import AlreadyOpen, InvalidRequest, StorageUnavailable
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.gate import Decision
from tollkeeper.services import gate as services_gate
from tollkeeper.services.ingest import MAX_ID, Result
from tollkeeper.services.reservations import Committed, Released
from tollkeeper.services.usage import UsageAnswer

if TYPE_CHECKING:
    from tollkeeper.bootstrap import Tollkeeper
    from tollkeeper.connected import ConnectedGate

_ATTRIBUTES = ("id", "type", "source", "subject", "customer", "time", "data")


class Gate:
    """Checks keys, counts uses, looks them up. Safe to use from any number of threads and on any event loop.

    `check` counts at once. `judge` takes from limits and quota and leaves it open whether the use counts: `count` or `refund` must follow.
    `reserve` is for work whose size is known only afterwards: `commit` or `release` with its token.
    """

    def __init__(self, toll: Tollkeeper) -> None:
        self.toll = toll
        self._shut: StorageUnavailable | None = None
        _open.add(self)

    @classmethod
    def open(cls, url: str | Path = "tollkeeper.db", *, catalog: str | Path | None = None) -> Gate:
        """Open or make the files, and put the catalog in force when its path is given.

        Raises AlreadyOpen when another process (a server, another worker) owns them: then use `connect`.
        """
        from tollkeeper.bootstrap import Tollkeeper  # what only the owner of the files needs

        try:
            toll = Tollkeeper(str(url))
        except AlreadyOpen as taken:
            raise _explained(taken, url) from None
        try:
            if catalog is not None:
                toll.catalog.apply_file(Path(catalog))
        except BaseException:
            toll.close()
            raise
        return cls(toll)

    @classmethod
    def connect(
        cls,
        url: str = "http://127.0.0.1:3000",
        token: str | None = None,
        *,
        test_token: str | None = None,
        timeout: float = 2.0,
        away: Literal["closed", "open"] = "closed",
        imported_keys: bool = False,
    ) -> ConnectedGate:
        """The gate of a running server, for any number of processes. `token`: a server key with the scope `check`, or the admin token.

        A server key speaks for its own environment; with `test_token`, one of test, keys of test are judged, too.

        `timeout`: seconds to connect, and between bytes. `away`: what becomes of calls while the server does not answer: closed refuses
        them (Unreachable, 503 in applications), open lets every well-formed key through, unjudged and uncounted.

        `imported_keys`: the server is asked about keys of any format; without it a key that was not made by Tollkeeper is refused here.
        Such keys are asked for with `token`, and refused while the server is away. Raises InvalidRequest.
        """
        from tollkeeper.connected import ConnectedGate

        return ConnectedGate(url, token, test_token=test_token, timeout=timeout, away=away, imported_keys=imported_keys)

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
        """Identify, limit, count; the answer comes after the usage event is committed. A refusal is a value: look at `code`.

        `id` makes a retry safe. `wait=False` answers before the commit (refused where a quota is hard). Raises NotFound for an unknown
        meter, InvalidRequest, Conflict for an id used for another check, StorageUnavailable when nothing was counted.
        """
        _require_id(id)
        decision = self._gate(key, meter).check(key, meter, cost, scope=scope, ip=ip, id=id, wait=wait)
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
        """`check` on an event loop, which goes on meanwhile."""
        _require_id(id)
        decision = await self.judge_async(key, meter, cost, scope=scope, ip=ip)
        if decision.settle():
            await self.toll.gate.commit(decision, id)
        return decision

    def judge(
        self,
        key: str,
        meter: str | None = None,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
    ) -> Decision:
        """Identify, limit, take, and count nothing yet: what an allowed decision took is then to be counted or refunded.

        Raises NotFound for an unknown meter, InvalidRequest. May read once per key.
        """
        gate = self._gate(key, meter)
        return gate.judge(gate.find(key) or gate.load(key), meter, cost, scope, ip)

    async def judge_async(
        self,
        key: str,
        meter: str | None = None,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
    ) -> Decision:
        """`judge` on an event loop; a key that was not met before is read in a thread."""
        gate = self._gate(key, meter)
        snapshot = gate.find(key)
        if snapshot is None and gate.may_be_key(key):
            snapshot = await asyncio.to_thread(gate.load, key)
        return gate.judge(snapshot, meter, cost, scope, ip)

    def count(self, decision: Decision) -> None:
        """Count what was judged; returns after the commit. Once: what was counted or refunded before is left alone.

        Raises StorageUnavailable when it was not counted: then it was given back.
        """
        self._require_open()
        if decision.settle():
            self.toll.gate.commit_wait(decision)

    async def count_async(self, decision: Decision) -> None:
        """`count` on an event loop."""
        self._require_open()
        if decision.settle():
            await self.toll.gate.commit(decision)

    def refund(self, decision: Decision, *, limits: bool = True) -> None:
        """Give back what was judged and is not to count; once, and not after `count`.

        `limits` False: the quota alone, for a call that was made and failed.
        """
        if decision.settle():
            self.toll.gate.refund(decision, limits=limits)

    async def refund_async(self, decision: Decision, *, limits: bool = True) -> None:
        """`refund`, which waits for nothing here."""
        self.refund(decision, limits=limits)

    def counts_attempts(self, meter: str) -> bool:
        """Whether the catalog says of this meter that uses which fail count, too."""
        entry = self.toll.meters.current.by_key.get(meter)
        return entry is not None and entry.meter.count_on == "attempt"

    def reserve(
        self,
        key: str,
        meter: str,
        cost: int | str | Decimal,
        *,
        scope: str | None = None,
        ip: str | None = None,
    ) -> Decision:
        """Take `cost` from limits and quota now, record what was used later: pass the decision's `reservation` to `commit` or `release`.

        Raises as `check` does.
        """
        if type(meter) is not str:
            raise InvalidRequest("key and meter: text is expected.")
        decision = self.judge(key, meter, cost, scope=scope, ip=ip)
        self.toll.reservations.hold(decision)
        decision.settle()
        return decision

    def commit(self, reservation: str, quantity: int | str | Decimal) -> Committed:
        """Count what was used in the place of what was reserved; always counts, and once. See `services.reservations`."""
        self._require_open()
        return self.toll.reservations.commit(_text("reservation", reservation), quantity)

    def release(self, reservation: str) -> Released:
        """Give back what is held, when nothing was used."""
        self._require_open()
        return self.toll.reservations.release(_text("reservation", reservation))

    def record(
        self, events: Sequence[UsageEvent | Mapping[str, Any]], environment: Environment = "live"
    ) -> list[Result]:
        """Log usage that did not pass the gate, with an answer for each event; one that is none is `rejected`, and spoils no other.

        Raises InvalidRequest for another environment than live or test, StorageUnavailable when none of it counts.
        """
        if environment not in ENVIRONMENTS:
            raise InvalidRequest(f"environment is {environment!r}; expected live or test.", field="environment")
        self._require_open()
        return self.toll.ingest.ingest_wait(environment, [_event(i, event) for i, event in enumerate(events)])

    def usage(self, meter: str, **query: Any) -> UsageAnswer:
        """`services.usage.Usage.query`: by customer, key, window, zone."""
        self._require_open()
        return self.toll.usage.query(meter, **query)

    def close(self) -> None:
        """Commit what is queued and give the files back. A second call does nothing."""
        if self._shut is None:
            self._shut = StorageUnavailable("This gate is closed.")
            self.toll.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._shut is not None:
            raise StorageUnavailable(self._shut.detail)

    def _gate(self, key: str, meter: str | None) -> services_gate.Gate:
        if not (type(key) is str and (meter is None or type(meter) is str)):
            raise InvalidRequest("key and meter: text is expected.")
        self._require_open()
        return self.toll.gate


_open: weakref.WeakSet[Gate] = weakref.WeakSet()


def _shut_in_child() -> None:
    # The thread that commits stayed in the parent: a commit would be waited for for ever.
    for gate in list(_open):
        gate._shut = StorageUnavailable(
            "This process was forked after Gate.open, and the files stayed with its parent. "
            "For several workers use Gate.connect; for one, open the gate after the fork."
        )


os.register_at_fork(after_in_child=_shut_in_child)


@atexit.register
def _close_all() -> None:
    for gate in list(_open):
        gate.close()


def _explained(taken: AlreadyOpen, url: str | Path) -> AlreadyOpen:
    pid = taken.extra.get("pid")
    if pid == os.getpid():
        return AlreadyOpen(f"This process has {url} open already: open the gate once, and share it.", pid=pid)
    return AlreadyOpen(
        f"Process {pid or 'unknown'} owns {url}, and Gate.open is for one process. For several workers run `tollkeeper serve`, "
        "and in each of them use Gate.connect(TOLLKEEPER_URL, token).",
        pid=pid,
    )


def _require_id(id: str | None) -> None:
    if id is not None and not 0 < len(_text("id", id)) <= MAX_ID:
        raise InvalidRequest(f"id has {len(id)} characters; expected 1 to {MAX_ID}.")


def _event(index: int, given: Any) -> UsageEvent | Result:
    """An event as a program may hand it over, or the answer that it is none."""
    try:
        if isinstance(given, Mapping):
            if unknown := [name for name in given if name not in _ATTRIBUTES]:
                raise InvalidRequest(f"{unknown[0]!r}: there is no such field; there are {', '.join(_ATTRIBUTES)}.")
            if missing := [name for name in ("id", "type") if name not in given]:
                raise InvalidRequest(f"{missing[0]}: this field is missing.")
            event = UsageEvent(**given)
        elif isinstance(given, UsageEvent):
            event = given
        else:
            raise InvalidRequest(f"A UsageEvent or a mapping is expected, found {type(given).__name__}.")
        for name in ("id", "type", "source"):
            _text(name, getattr(event, name))
        for name in ("subject", "customer"):
            if (value := getattr(event, name)) is not None:
                _text(name, value)
        if event.time is not None and not isinstance(event.time, datetime):
            raise InvalidRequest(f"time: a datetime with a zone is expected, found {type(event.time).__name__}.")
        if event.data is not None and not isinstance(event.data, dict):
            raise InvalidRequest(f"data: a dict is expected, found {type(event.data).__name__}.")
    except InvalidRequest as fault:
        id = given.get("id") if isinstance(given, Mapping) else getattr(given, "id", None)
        return Result(index, id[:MAX_ID] if isinstance(id, str) else None, "rejected", "invalid_event", fault.detail)
    return event


def _text(field: str, value: Any) -> str:
    """Raises InvalidRequest for what no file and no JSON could hold."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{field}: text is expected, found {type(value).__name__}.", field=field)
    if "\0" in value:
        raise InvalidRequest(f"{field}: a NUL character is not allowed.", field=field)
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidRequest(f"{field}: half of a surrogate pair is not a character.", field=field)
    return value
