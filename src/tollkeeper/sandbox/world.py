"""Everything one sandbox has: store, clock, ids, events on their way, faults and the last calls."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tollkeeper.sandbox.clock import Clock, Tasks
from tollkeeper.sandbox.errors import ApiError, no_such
from tollkeeper.sandbox.ids import Ids
from tollkeeper.sandbox.store import Object, Store

API_VERSION = "2026-10-28.endive"
_CALLS_KEPT = 2_000
_DUE: dict[str, Callable[[World, dict[str, Any]], None]] = {}


def due(name: str) -> Callable[[Callable[[World, dict[str, Any]], None]], Callable[[World, dict[str, Any]], None]]:
    """The function runs the tasks of this name (`World.at`). It looks first whether its object has changed meanwhile."""

    def register(function: Callable[[World, dict[str, Any]], None]) -> Callable[[World, dict[str, Any]], None]:
        _DUE[name] = function
        return function

    return register


class World:
    """The state of one sandbox and the few things every resource needs. One thread at a time."""

    def __init__(
        self, store: Store | None = None, *, wall: Callable[[], float] = time.time, seed: int | None = None
    ) -> None:
        from tollkeeper.sandbox.faults import Faults
        from tollkeeper.sandbox.meter_ledger import MeterLedger
        from tollkeeper.sandbox.webhooks import Webhooks

        self.store = store or Store()
        self.ids = Ids(seed)
        self.clock = Clock(self.store, wall)
        self.tasks = Tasks(self.store)
        self.faults = Faults(self.ids)
        self.meters = MeterLedger(self.store)
        self.webhooks = Webhooks(self)
        self.calls: deque[dict[str, Any]] = deque(maxlen=_CALLS_KEPT)
        self.keys: dict[str, dict[str, Any]] = self.store.setting("keys") or {}
        """Keys whose permissions are cut or that are revoked: {"rk_test_…": {"permissions": {"customer": "read"}, "revoked": false}}."""
        account = self.store.setting("account")
        if account is None:
            account = self.ids.new("acct_1", 15)
            self.store.set_setting("account", account)
            self.store.commit()
        self.account_id: str = account
        self.base_url = "http://127.0.0.1:12111"
        """Where people reach the sandbox: the front of the addresses of its pages."""
        self.request: dict[str, str | None] = {"id": None, "idempotency_key": None}
        """The call that is being answered, for `event.request`."""

    def now(self, owner: Object | str | None = None) -> int:
        """Seconds since 1970: of the sandbox, or of the test clock on which `owner` stands (an id, or an object with
        "test_clock" or "customer")."""
        clock = self.clock_of(owner)
        if clock is not None:
            held = self.store.get("test_helpers.test_clock", clock)
            if held is not None:
                return int(held["frozen_time"])
        return int(self.clock.now())

    def clock_of(self, owner: Object | str | None) -> str | None:
        """The id of the test clock of an object, through its customer when it names one."""
        if isinstance(owner, str):
            owner = self.store.get("customer", owner) or self.store.find(owner)
        if owner is None:
            return None
        if owner["object"] == "test_helpers.test_clock":
            return str(owner["id"])
        if owner.get("test_clock"):
            return str(owner["test_clock"])
        customer = owner.get("customer")
        return self.clock_of(customer) if isinstance(customer, str) else None

    def at(self, instant: float, name: str, data: dict[str, Any], clock: str | None = None) -> str:
        """Run the tasks' function `name` (see `due`) at an instant of the sandbox's or a test clock. The task's id, for `tasks.cancel`."""
        return str(self.tasks.add(self.ids.new("task_"), instant, name, data, clock)["id"])

    def run_due(self) -> bool:
        """Do what is due by the sandbox's own clock. True when anything was."""
        until = self.clock.now()
        ran = False
        while (task := self.tasks.take(None, until)) is not None:
            with self.clock.pinned(max(task["at"], 0.0)):
                _DUE[task["name"]](self, task["data"])
            ran = True
        return ran

    def move_to(self, instant: float, *, frozen: bool) -> None:
        """Move the sandbox's clock, doing in order what falls due on the way."""
        while (task := self.tasks.take(None, instant)) is not None:
            self.clock.set(max(task["at"], self.clock.now()), frozen=True)
            _DUE[task["name"]](self, task["data"])
        self.clock.set(instant, frozen=frozen)

    def run_test_clock(self, clock: Object, until: int) -> None:
        """Advance a test clock to `until`, doing in order what falls due on it."""
        while (task := self.tasks.take(clock["id"], until)) is not None:
            clock["frozen_time"] = max(clock["frozen_time"], int(task["at"]))
            _DUE[task["name"]](self, task["data"])
        clock["frozen_time"] = until
        self.store.save(clock)

    def require(self, kind: str, id: str, param: str | None = None) -> Object:
        """The object, or ApiError: 404 for an id of the path, 400 when `param` names the parameter it came in."""
        found = self.store.get(kind, id)
        if found is None or found.get("deleted"):
            raise no_such(_WORDS.get(kind, kind), id, param or "id", status=400 if param else 404)
        return found

    def require_session(self, token: str) -> None:
        """The token of a meter event session that has not ended, or ApiError 401."""
        session = next(
            (row for row in self.store.table("v2.billing.meter_event_session") if row["_token"] == token), None
        )
        if session is None or session["_until"] <= self.clock.now():
            raise ApiError(
                401,
                "The temporary session has expired; create a new one.",
                type="temporary_session_expired",
                code="billing_meter_event_session_expired",
                replayable=False,
            )

    def emit(self, type: str, row: Object, previous: dict[str, Any] | None = None) -> Object:
        """Make the event `type` with a snapshot of the object, and send it to the endpoints that want it."""
        from tollkeeper.sandbox.events import make

        return make(self, type, row, previous)

    def update(self, row: Object, changes: dict[str, Any], event: str | None = None) -> dict[str, Any]:
        """Change an object, keep it, and emit `event` when anything differs. The values before, as `previous_attributes`."""
        previous = {name: copy.deepcopy(row.get(name)) for name, value in changes.items() if row.get(name) != value}
        row.update(changes)
        if previous:
            self.store.save(row)
            shown = {name: value for name, value in previous.items() if not name.startswith("_")}
            if event is not None and shown:
                self.emit(event, row, shown)
        return previous


_WORDS = {
    "billing.meter": "billing meter",
    "test_helpers.test_clock": "billing clock",
    "webhook_endpoint": "webhook endpoint",
    "tax_rate": "tax rate",
}
"""The words of "No such …" where they are not the kind's own."""
