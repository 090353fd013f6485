"""The gate inside your own program: it owns the files, so it is for a program of one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.customers import ENVIRONMENTS, Environment
from tollkeeper.core.errors import InvalidRequest, StorageUnavailable
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.gate import Decision
from tollkeeper.services.ingest import MAX_ID, Result
from tollkeeper.services.reservations import Committed, Released
from tollkeeper.services.usage import UsageAnswer

_ATTRIBUTES = ("id", "type", "source", "subject", "customer", "time", "data")


class Gate:
    """Checks keys, counts uses, looks them up. Safe to use from any number of threads."""

    def __init__(self, toll: Tollkeeper) -> None:
        self.toll = toll
        self._closed = False

    @classmethod
    def open(cls, url: str = "tollkeeper.db", *, catalog: str | Path | None = None) -> Gate:
        """Open or make the files, and put the catalog in force when its path is given.

        Raises AlreadyOpen when another process (a server, another worker) owns them: then ask its server, with `tollkeeper.Client`.
        """
        toll = Tollkeeper(url)
        try:
            if catalog is not None:
                toll.catalog.apply_file(Path(catalog))
        except BaseException:
            toll.close()
            raise
        return cls(toll)

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
        if id is not None and not 0 < len(_text("id", id)) <= MAX_ID:
            raise InvalidRequest(f"id has {len(id)} characters; expected 1 to {MAX_ID}.")
        if not (type(key) is str and (meter is None or type(meter) is str)):
            raise InvalidRequest("key and meter: text is expected.")
        if self._closed:
            raise StorageUnavailable("This gate is closed.")
        return self.toll.gate.check(key, meter, cost, scope=scope, ip=ip, id=id, wait=wait)

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
        if not (type(key) is str and type(meter) is str):
            raise InvalidRequest("key and meter: text is expected.")
        if self._closed:
            raise StorageUnavailable("This gate is closed.")
        gate = self.toll.gate
        decision = gate.judge(gate.find(key) or gate.load(key), meter, cost, scope, ip)
        self.toll.reservations.hold(decision)
        return decision

    def commit(self, reservation: str, quantity: int | str | Decimal) -> Committed:
        """Count what was used in the place of what was reserved; always counts, and once. See `services.reservations`."""
        if self._closed:
            raise StorageUnavailable("This gate is closed.")
        return self.toll.reservations.commit(_text("reservation", reservation), quantity)

    def release(self, reservation: str) -> Released:
        """Give back what is held, when nothing was used."""
        if self._closed:
            raise StorageUnavailable("This gate is closed.")
        return self.toll.reservations.release(_text("reservation", reservation))

    def record(
        self, events: Sequence[UsageEvent | Mapping[str, Any]], environment: Environment = "live"
    ) -> list[Result]:
        """Log usage that did not pass the gate, with an answer for each event; one that is none is `rejected`, and spoils no other.

        Raises InvalidRequest for another environment than live or test, StorageUnavailable when none of it counts.
        """
        if environment not in ENVIRONMENTS:
            raise InvalidRequest(f"environment is {environment!r}; expected live or test.", field="environment")
        if self._closed:
            raise StorageUnavailable("This gate is closed.")
        return self.toll.ingest.ingest_wait(environment, [_event(i, event) for i, event in enumerate(events)])

    def usage(self, meter: str, **query: Any) -> UsageAnswer:
        """`services.usage.Usage.query`: by customer, key, window, zone."""
        if self._closed:
            raise StorageUnavailable("This gate is closed.")
        return self.toll.usage.query(meter, **query)

    def close(self) -> None:
        """Commit what is queued and give the files back. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self.toll.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
