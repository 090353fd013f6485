"""An inbox without a server: a database, a provider that is a dict, and an effect that counts itself in the database."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spine import ManualClock
from tollkeeper.core.inbox import AfterCommit, InboxEvent
from tollkeeper.core.ports import Repositories
from tollkeeper.services.inbox import Inbox
from tollkeeper.services.inbox_effects import InboxEffects
from tollkeeper.storage.sql.engine import open_database
from tollkeeper.storage.sql.unit_of_work import SqlDatabase

from .parts import NOW, event, written


class Account:
    """The provider's side: what its objects are now. `reads` how often each was read."""

    name = "stripe"
    environment = "test"

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.reads: Counter[str] = Counter()
        self._lock = threading.Lock()

    def read(self, object: str) -> Any:
        with self._lock:
            self.reads[object] += 1
            return self.state.get(object)


def count_of(rows: Repositories, name: str) -> int:
    return rows.watermarks.get(name) or 0


def add_one(rows: Repositories, name: str, now: int) -> None:
    rows.watermarks.set(name, count_of(rows, name) + 1, now)


class Counted:
    """Counts in the database how often each event was applied; `state:OBJECT` is what was read last."""

    def __init__(self) -> None:
        self.on_fetch: Callable[[InboxEvent], None] = lambda event: None
        self.on_apply: Callable[[InboxEvent], None] = lambda event: None
        self.after: list[AfterCommit] = []

    def about(self, event: InboxEvent) -> str:
        return event.object or event.id

    def fetch(self, provider: Any, event: InboxEvent) -> Any:
        self.on_fetch(event)
        return provider.read(event.object)

    def apply(self, rows: Repositories, event: InboxEvent, fetched: Any, now: int) -> Sequence[AfterCommit]:
        add_one(rows, f"applied:{event.id}", now)
        if isinstance(fetched, int):
            rows.watermarks.set(f"state:{event.object}", fetched, now)
        self.on_apply(event)
        return self.after


class InboxDesk:
    """`worker()` makes another process's worker, as it were: leases are all they share."""

    def __init__(self, folder: Path) -> None:
        self.time = ManualClock(NOW * 10**9)
        self.database: SqlDatabase = open_database(str(folder / "x.db"))
        self.inbox = Inbox(self.database, self.time.clock(), account="test", secrets=(b"whsec_x",))
        self.account = Account()
        self.effect = Counted()
        self.effects = self.worker()
        self.effects.resume()

    def worker(self, effect: Counted | None = None) -> InboxEffects:
        made = InboxEffects(self.database, self.time.clock(), self.account, {"invoice.paid": effect or self.effect})  # type: ignore[arg-type]
        made._resumed = True  # it does not own the database
        return made

    def arrive(self, type: str = "invoice.paid", about: str | None = "in_1", live: bool = False) -> str:
        """Store one; its id."""
        made = event(type, about=about, live=live)
        self.inbox.store([self.inbox.made(made["id"], type, about, NOW * 10**6, live, written(made))])
        return str(made["id"])

    def get(self, id: str) -> InboxEvent:
        with self.database.read() as rows:
            found = rows.inbox.get("stripe", id)
        assert found is not None
        return found

    def applied(self, id: str) -> int:
        with self.database.read() as rows:
            return count_of(rows, f"applied:{id}")

    def state(self, object: str) -> int | None:
        with self.database.read() as rows:
            return rows.watermarks.get(f"state:{object}")

    def settle(self, turns: int = 10_000) -> None:
        """Run until nothing is due."""
        while self.effects.run_once():
            turns -= 1
            assert turns
