"""Faults on demand: what a network and a payment provider do on a bad day, to chosen calls, so many times or so often."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from tollkeeper.sandbox.ids import Ids

KINDS = ("429", "500", "drop_before", "drop_after", "500_after", "slow", "409")


class BadFault(ValueError):
    """The description of a fault is not one."""


@dataclass(slots=True)
class Fault:
    """`path` may hold `*`. `count` None: for ever. `rate`: the share of the calls that it hits. `skip`: calls that pass
    before the first."""

    id: str
    kind: str
    method: str = "*"
    path: str = "*"
    count: int | None = None
    rate: float = 1.0
    ms: int = 0
    skip: int = 0
    hits: int = 0


class Faults:
    """The faults in force, oldest first; the first that hits a call is the call's."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._faults: list[Fault] = []
        self.meter_events_per_second: int | None = None
        """Above it meter events are answered 429; None for no bound. Stripe: 1,000 in live mode."""
        self._second, self._in_second = 0, 0

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, described: dict[str, Any]) -> Fault:
        """A fault from {"kind", "method", "path", "count", "rate", "ms", "skip"}. Raises BadFault."""
        allowed = {"kind", "method", "path", "count", "rate", "ms", "skip"}
        if unknown := sorted(set(described) - allowed):
            raise BadFault(f"unknown: {', '.join(unknown)}; a fault has {', '.join(sorted(allowed))}")
        if str(described.get("kind")) not in KINDS:
            raise BadFault(f"kind is one of {', '.join(KINDS)}")
        for name in ("count", "ms", "skip"):
            value = described.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise BadFault(f"{name} is a whole number")
        if not isinstance(rate := described.get("rate", 1.0), int | float) or not 0 <= rate <= 1:
            raise BadFault("rate is between 0 and 1")
        made = Fault(self._ids.new("fault_", 8), **{**described, "kind": str(described["kind"])})
        made.method = made.method.upper()
        self._faults.append(made)
        return made

    def clear(self, id: str | None = None) -> None:
        """Lift one fault, or all."""
        self._faults = [fault for fault in self._faults if id is not None and fault.id != id]

    def show(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults]

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that hits this call, counted."""
        for fault in self._faults:
            if fault.method not in ("*", method) or not fnmatchcase(path, fault.path):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.count == 0 or (fault.rate < 1 and self._ids.fraction() >= fault.rate):
                continue
            if fault.count is not None:
                fault.count -= 1
            fault.hits += 1
            return fault
        return None

    def meter_event_admitted(self, now: float) -> bool:
        """Whether one more meter event in this second is within the bound."""
        if self.meter_events_per_second is None:
            return True
        if int(now) != self._second:
            self._second, self._in_second = int(now), 0
        self._in_second += 1
        return self._in_second <= self.meter_events_per_second
