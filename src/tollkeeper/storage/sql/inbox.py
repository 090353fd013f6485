"""Rows of the inbox and its leases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain

from sqlalchemy import Connection, func, select, text, tuple_

from tollkeeper.core.customers import Environment
from tollkeeper.core.inbox import InboxEvent, InboxStatus
from tollkeeper.storage.sql.money_tables import inbox_events

_FIELDS = InboxEvent._fields
_ROW = f"({', '.join('?' * len(_FIELDS))})"
_MOST_ROWS = 64
_CLAIM = text(
    "UPDATE inbox_events SET attempts = attempts + 1, due_at = :until"
    " WHERE provider = :provider AND id = :id AND status = 'pending' AND attempts = :attempts AND due_at = :due_at"
)
_SETTLE = text(
    "UPDATE inbox_events SET status = :status, error = :error, processed_at = :now"
    " WHERE provider = :provider AND id = :id AND status = 'pending'"
)
_PUT_OFF = text(
    "UPDATE inbox_events SET due_at = :due_at, error = COALESCE(:error, error)"
    " WHERE provider = :provider AND id = :id AND status = 'pending' AND attempts = :attempts"
)
_REPLAY = "UPDATE inbox_events SET status = 'pending', attempts = 0, due_at = :now, error = NULL, processed_at = NULL"
_REPLAY_ONE = text(f"{_REPLAY} WHERE provider = :provider AND id = :id")
_REPLAY_DEAD = text(f"{_REPLAY} WHERE provider = :provider AND status = 'dead'")
_RESUME = text(
    "UPDATE inbox_events SET due_at = :now WHERE provider = :provider AND status = 'pending' AND due_at > :now"
)
_FORGET = text(
    "DELETE FROM inbox_events WHERE (provider, id) IN (SELECT provider, id FROM inbox_events"
    " WHERE received_at < :before AND status IN ('done', 'ignored') ORDER BY received_at LIMIT :most)"
)
_FORGET_LEASES = text("DELETE FROM object_leases WHERE lease_until < :before")
_TAKE = text(
    "INSERT INTO object_leases (provider, environment, object, lease_until, fence)"
    " VALUES (:provider, :environment, :object, :until, 1)"
    " ON CONFLICT (provider, environment, object) DO UPDATE"
    " SET lease_until = excluded.lease_until, fence = object_leases.fence + 1"
    " WHERE object_leases.lease_until <= :now RETURNING fence"
)
_GIVE_BACK = text(
    "UPDATE object_leases SET lease_until = 0 WHERE provider = :provider AND environment = :environment"
    " AND object = :object AND fence = :fence"
)
_CLEAR = text("UPDATE object_leases SET lease_until = 0 WHERE provider = :provider")
_LISTED = [inbox_events.c[name] for name in _FIELDS if name != "payload"]


@cache
def _add(count: int) -> str:
    return (
        f"INSERT INTO inbox_events ({', '.join(_FIELDS)}) VALUES {', '.join([_ROW] * count)}"  # noqa: S608
        " ON CONFLICT (provider, id) DO NOTHING"
    )


class SqlInbox:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, events: Sequence[InboxEvent]) -> int:
        """In statements of many rows: the driver gives up Python's lock with each statement, and has to win it back from the event loop."""
        new = at = 0
        while at < len(events):
            count = min(_MOST_ROWS, len(events) - at)
            values = tuple(chain.from_iterable(events[at : at + count]))
            new += self._connection.exec_driver_sql(_add(count), values).rowcount
            at += count
        return new

    def get(self, provider: str, id: str) -> InboxEvent | None:
        query = select(*(inbox_events.c[name] for name in _FIELDS)).where(
            inbox_events.c.provider == provider, inbox_events.c.id == id
        )
        row = self._connection.execute(query).first()
        return None if row is None else InboxEvent(*row)

    def due(self, provider: str, environment: Environment, now: int, limit: int) -> Sequence[InboxEvent]:
        query = (
            select(*(inbox_events.c[name] for name in _FIELDS))
            .where(
                text("status = 'pending'"),  # not a parameter, or the partial index would not be used
                inbox_events.c.due_at <= now,
                inbox_events.c.provider == provider,
                inbox_events.c.environment == environment,
            )
            .order_by(inbox_events.c.due_at, inbox_events.c.id)
            .limit(limit)
        )
        return [InboxEvent(*row) for row in self._connection.execute(query)]

    def claim(self, event: InboxEvent, until: int) -> bool:
        return self._changed(_CLAIM, event, attempts=event.attempts, due_at=event.due_at, until=until)

    def settle(self, event: InboxEvent, status: InboxStatus, now: int, error: str | None = None) -> bool:
        return self._changed(_SETTLE, event, status=status, now=now, error=error)

    def put_off(self, event: InboxEvent, due_at: int, error: str | None = None) -> None:
        self._changed(_PUT_OFF, event, attempts=event.attempts, due_at=due_at, error=error)

    def replay(self, provider: str, id: str, now: int) -> bool:
        found = self._connection.execute(_REPLAY_ONE, {"provider": provider, "id": id, "now": now})
        return bool(found.rowcount)

    def replay_dead(self, provider: str, now: int) -> int:
        return self._connection.execute(_REPLAY_DEAD, {"provider": provider, "now": now}).rowcount

    def resume(self, provider: str, now: int) -> None:
        self._connection.execute(_RESUME, {"provider": provider, "now": now})

    def list(
        self, status: InboxStatus | None, type: str | None, before: tuple[int, str] | None, limit: int
    ) -> Sequence[InboxEvent]:
        columns = inbox_events.c
        query = select(*_LISTED).order_by(columns.received_at.desc(), columns.id.desc()).limit(limit)
        if status in ("pending", "dead"):
            query = query.where(text(f"status = '{status}'"))
        elif status is not None:
            query = query.where(columns.status == status)
        if type is not None:
            query = query.where(columns.type == type)
        if before is not None:
            query = query.where(tuple_(columns.received_at, columns.id) < tuple_(*before))
        return [InboxEvent(**row._mapping, payload=b"") for row in self._connection.execute(query)]

    def counts(self) -> Mapping[InboxStatus, int]:
        asked: tuple[InboxStatus, InboxStatus] = ("pending", "dead")
        return {
            status: self._connection.execute(
                select(func.count()).select_from(inbox_events).where(text(f"status = '{status}'"))
            ).scalar_one()
            for status in asked
        }

    def oldest_pending(self) -> int | None:
        query = select(func.min(inbox_events.c.received_at)).where(text("status = 'pending'"))
        oldest: int | None = self._connection.execute(query).scalar_one()
        return oldest

    def forget(self, before: int, limit: int) -> int:
        self._connection.execute(_FORGET_LEASES, {"before": before})
        return self._connection.execute(_FORGET, {"before": before, "most": limit}).rowcount

    def _changed(self, statement: object, event: InboxEvent, **values: object) -> bool:
        found = self._connection.execute(statement, {"provider": event.provider, "id": event.id, **values})  # type: ignore[call-overload]
        return bool(found.rowcount)


class SqlLeases:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take(self, provider: str, environment: Environment, object: str, now: int, until: int) -> int | None:
        asked = {"provider": provider, "environment": environment, "object": object, "now": now, "until": until}
        fence: int | None = self._connection.execute(_TAKE, asked).scalar_one_or_none()
        return fence

    def give_back(self, provider: str, environment: Environment, object: str, fence: int) -> bool:
        asked = {"provider": provider, "environment": environment, "object": object, "fence": fence}
        return bool(self._connection.execute(_GIVE_BACK, asked).rowcount)

    def clear(self, provider: str) -> None:
        self._connection.execute(_CLEAR, {"provider": provider})
