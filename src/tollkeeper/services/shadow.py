"""Shadow mode: counts what the gate would have refused, writes it down now and then, and says when it is safe to switch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from tollkeeper.core.gate import Decision
from tollkeeper.core.ports import Database
from tollkeeper.core.shadow import ShadowRefusals
from tollkeeper.services.clock import Clock
from tollkeeper.services.snapshots import MeterView

DAY_US = 86_400_000_000
MOST = 100_000
"""Different callers, meters and codes kept between two writes; more of them are counted together, as callers without a name."""

_Where = tuple[int, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class ShadowCustomer:
    """One customer's refusals in the report, most first. `customer` "": callers that no key names."""

    customer: str
    refused: int
    codes: dict[str, int]
    last_at: int


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """What would have been refused from `start` on (µs). `safe`: shadow mode was on for a whole day at least, and refused nothing."""

    plans: tuple[str, ...]
    start: int
    since: int | None
    refused: int
    customers: list[ShadowCustomer] = field(default_factory=list)

    @property
    def safe(self) -> bool:
        return self.since is not None and self.refused == 0


class Shadow:
    """`note` is called by the gate; `flush` writes down what was noted (a step of the runner, and the last thing of a process)."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: dict[_Where, list[int]] = {}
        self.total = 0

    def note(self, decision: Decision, code: str) -> None:
        """A call that `code` would have refused."""
        who = decision.who
        at = (decision.id >> 80) * 1000
        view = decision.terms
        meter = view.entry.key if isinstance(view, MeterView) else ""
        where = (at // DAY_US, who.environment or "live", who.customer or "", who.key_id or "", meter, code)
        with self._lock:
            self.total += 1
            seen = self._noted.get(where)
            if seen is None and len(self._noted) >= MOST:
                where = (where[0], where[1], "", "", "", code)
                seen = self._noted.get(where)
            if seen is None:
                self._noted[where] = [1, at, at]
            else:
                seen[0] += 1
                seen[2] = at

    def flush(self) -> bool:
        """Write down what was noted; what cannot be written is kept for the next time."""
        with self._lock:
            noted, self._noted = self._noted, {}
        if not noted:
            return False
        try:
            with self._database.write() as rows:
                rows.shadow.add([ShadowRefusals(*where, *seen) for where, seen in noted.items()])
        except BaseException:
            with self._lock:
                for where, (calls, first, last) in noted.items():
                    seen = self._noted.setdefault(where, [0, first, last])
                    seen[0] += calls
                    seen[1] = min(seen[1], first)
            raise
        return False

    def report(self, environment: str = "live", days: int = 7) -> ShadowReport:
        """The last `days` days, today included. `since`: when the plans that are shadowed now came to be so, if a whole day ago."""
        self.flush()
        now = self._clock.now_us()
        start = (now // DAY_US - days + 1) * DAY_US
        with self._database.read() as rows:
            found = rows.shadow.since(environment, start // DAY_US)
            current = rows.catalog.current()
            plans = () if current is None else current.catalog.shadow
            since = None
            if current is not None and plans:
                since = current.applied_at
                version = current.version
                while version > 1 and (before := rows.catalog.version(version - 1)) is not None:
                    if before.catalog.shadow != plans:
                        break
                    since, version = before.applied_at, before.version
        if since is not None and since > now - DAY_US:
            since = None
        return ShadowReport(plans, start, since, sum(one.calls for one in found), _by_customer(found))


def _by_customer(found: Sequence[ShadowRefusals]) -> list[ShadowCustomer]:
    codes: dict[str, dict[str, int]] = {}
    last: dict[str, int] = {}
    for one in found:
        of = codes.setdefault(one.customer, {})
        of[one.code] = of.get(one.code, 0) + one.calls
        last[one.customer] = max(last.get(one.customer, 0), one.last_at)
    made = [ShadowCustomer(customer, sum(of.values()), of, last[customer]) for customer, of in codes.items()]
    return sorted(made, key=lambda one: (-one.refused, one.customer))
