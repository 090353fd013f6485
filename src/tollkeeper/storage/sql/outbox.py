"""Rows of the outbox. Each statement seeks: what a claim costs does not depend on what waits, nor on what was sent.

The words of a partial index have to stand in a statement as they are, so states are written out and not bound.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, cast

from sqlalchemy import Connection, Row, func, select, text, tuple_

from tollkeeper.core.customers import Environment
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.outbox import DELIVERED, OPEN, PRIORITIES, STATUSES, OutboxMessage, Settlement, Status
from tollkeeper.storage.sql.money_tables import outbox_messages

_NAMES = tuple(column.name for column in outbox_messages.c if column.name != "head")
_AT_HEAD: Final = frozenset[Status]({"pending", "sending", "unknown"})
_COLUMNS = ", ".join(_NAMES)
_SELECT = select(*(outbox_messages.c[name] for name in _NAMES))
_LANE_IS_TAKEN = "EXISTS (SELECT 1 FROM outbox_messages WHERE lane = :lane AND head = 1)"
_STATUS = f"CASE WHEN :status = 'pending' AND {_LANE_IS_TAKEN} THEN 'queued' ELSE :status END"
_PUT = text(
    f"""INSERT INTO outbox_messages ({_COLUMNS}, head)
    SELECT {_COLUMNS}, CASE WHEN status = 'pending' OR status = 'sending' OR status = 'unknown' THEN 1 ELSE 0 END
    FROM (SELECT {", ".join(f"{_STATUS if name == 'status' else f':{name}'} AS {name}" for name in _NAMES)}) AS one WHERE true
    ON CONFLICT (topic, identifier) DO NOTHING"""  # noqa: S608 - constants only
)
_CLAIM = text(
    f"""UPDATE outbox_messages SET status = 'sending', lease_until = :lease_until, fence = fence + 1, attempts = attempts + 1,
    last_attempt_at = :now, doubt_since = coalesce(doubt_since, :now)
    WHERE id IN (SELECT id FROM outbox_messages
        WHERE status = 'pending' AND environment = :environment AND priority = :priority AND due_at <= :now
        ORDER BY due_at, id LIMIT :most) AND status = 'pending'
    RETURNING {_COLUMNS}"""  # noqa: S608 - constants only
)
_DOUBTFUL = text(
    f"""UPDATE outbox_messages SET lease_until = :lease_until, fence = fence + 1, due_at = :lease_until
    WHERE id IN (SELECT id FROM outbox_messages
        WHERE status = 'unknown' AND due_at <= :now AND environment = :environment ORDER BY due_at, id LIMIT :most)
    AND status = 'unknown' AND due_at <= :now
    RETURNING {_COLUMNS}"""  # noqa: S608 - constants only
)
_EXPIRE = text(
    """UPDATE outbox_messages SET status = 'unknown', due_at = :now, error = 'the sender went away before it heard an answer'
    WHERE status = 'sending' AND lease_until <= :now"""
)
_RESUME = text(
    """UPDATE outbox_messages SET status = 'unknown', due_at = :now, lease_until = NULL, fence = fence + 1,
    error = coalesce(error, 'the sender went away before it heard an answer')
    WHERE status = 'sending' OR (status = 'unknown' AND lease_until > :now)"""
)
_DUE = " OR ".join(
    f"""EXISTS (SELECT 1 FROM outbox_messages
        WHERE status = 'pending' AND environment = :environment AND priority = {priority} AND due_at <= :now)"""  # noqa: S608
    for priority in PRIORITIES
)
_WAITING = text(
    f"""SELECT {_DUE}
    OR EXISTS (SELECT 1 FROM outbox_messages WHERE status = 'unknown' AND due_at <= :now AND environment = :environment)
    OR EXISTS (SELECT 1 FROM outbox_messages WHERE status = 'sending' AND lease_until <= :now)"""  # noqa: S608
)
_SETTLED = """status = :status, due_at = :due_at, error = :error, settled_at = :settled_at, lease_until = NULL,
    doubt_since = :doubt_since
    WHERE id = :id AND fence = :fence AND (status = 'sending' OR status = 'unknown')"""
_STAY = text(f"UPDATE outbox_messages SET {_SETTLED}")  # noqa: S608 - constants only
_LEAVE = text(f"UPDATE outbox_messages SET head = 0, {_SETTLED}")  # noqa: S608 - constants only
_NEXT = text(
    f"""UPDATE outbox_messages SET status = 'pending', head = 1
    WHERE id = (SELECT id FROM outbox_messages WHERE lane = :lane AND status = 'queued' ORDER BY priority, id LIMIT 1)
    AND NOT {_LANE_IS_TAKEN}"""  # noqa: S608 - constants only
)
_HURRY = text(
    """UPDATE outbox_messages SET priority = 0, due_at = CASE WHEN due_at < :now THEN due_at ELSE :now END
    WHERE environment = :environment AND customer = :customer
    AND (status = 'queued' OR status = 'pending' OR status = 'unknown')"""
)
_REJECT = text(
    "UPDATE outbox_messages SET status = 'rejected', head = 0, error = :error, settled_at = :now WHERE id = :id"
)
_WITHDRAW = text("UPDATE outbox_messages SET status = 'carried_forward', head = 0, settled_at = :now WHERE id = :id")
_REPLACED = text(
    "UPDATE outbox_messages SET status = 'carried_forward', head = 0, error = :error, settled_at = :now WHERE id = :id"
)
_SET_ASIDE = text(
    """UPDATE outbox_messages SET status = 'carried_forward', head = 0, settled_at = :now
    WHERE environment = :environment AND customer = :customer AND meter = :meter AND period_start = :period_start
    AND (status = 'rejected' OR status = 'dead')"""
)
_REPLAY = text(
    f"""UPDATE outbox_messages SET status = CASE WHEN {_LANE_IS_TAKEN} THEN 'queued' ELSE :status END,
    head = CASE WHEN {_LANE_IS_TAKEN} THEN 0 ELSE 1 END,
    due_at = :now, attempts = 0, error = NULL, settled_at = NULL, lease_until = NULL
    WHERE id = :id AND status = 'dead'"""  # noqa: S608 - constants only
)
_OF_PERIOD = "environment = :environment AND customer = :customer AND period_start = :period_start"
_FORGET = text(
    f"""DELETE FROM outbox_messages WHERE {_OF_PERIOD} AND settled_at < :before
    AND (status = 'sent' OR status = 'confirmed' OR status = 'carried_forward' OR status = 'too_old')
    AND NOT EXISTS (SELECT 1 FROM outbox_messages AS other WHERE other.environment = :environment AND other.customer = :customer
        AND other.period_start = :period_start
        AND (other.status NOT IN ('sent', 'confirmed', 'carried_forward', 'too_old') OR (other.meter IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM drift_checks AS compared WHERE compared.environment = :environment
                AND compared.customer = :customer AND compared.period_start = :period_start AND compared.meter = other.meter))))
    AND NOT EXISTS (SELECT 1 FROM drift_checks WHERE {_OF_PERIOD} AND state NOT IN ('equal', 'voided', 'written_off'))"""  # noqa: S608 - constants only
)
_CONFIRM = text(
    """UPDATE outbox_messages SET status = 'confirmed'
    WHERE environment = :environment AND customer = :customer AND meter = :meter AND period_start = :period_start AND status = 'sent'"""
)


class SqlOutbox:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, messages: Sequence[OutboxMessage]) -> int:
        return sum(self._connection.execute(_PUT, _values(message)).rowcount for message in messages)

    def get(self, message: str) -> OutboxMessage | None:
        return self._one(outbox_messages.c.id == message)

    def by_identifier(self, topic: str, identifier: str) -> OutboxMessage | None:
        columns = outbox_messages.c
        return self._one((columns.topic == topic) & (columns.identifier == identifier))

    def owed(self, environment: Environment, customer: str) -> bool:
        columns = outbox_messages.c
        query = (
            select(columns.id)
            .where(
                columns.environment == environment,
                columns.customer == customer,
                columns.meter.is_not(None),
                columns.status.in_(sorted(OPEN)),
            )
            .limit(1)
        )
        return self._connection.execute(query).first() is not None

    def waiting(self, environment: Environment, now: int) -> bool:
        values = {"environment": environment, "now": now}
        return bool(self._connection.execute(_WAITING, values).scalar_one())

    def claim(self, environment: Environment, now: int, lease_until: int, most: int) -> Sequence[OutboxMessage]:
        found: list[OutboxMessage] = []
        for priority in PRIORITIES:
            left = most - len(found)
            if left > 0:
                values = {
                    "environment": environment,
                    "now": now,
                    "lease_until": lease_until,
                    "priority": priority,
                    "most": left,
                }
                rows = [_message(row) for row in self._connection.execute(_CLAIM, values)]
                found += sorted(rows, key=lambda message: (message.due_at, message.id))
        return found

    def doubtful(self, environment: Environment, now: int, lease_until: int, most: int) -> Sequence[OutboxMessage]:
        values = {"environment": environment, "now": now, "lease_until": lease_until, "most": most}
        return [_message(row) for row in self._connection.execute(_DOUBTFUL, values)]

    def expire(self, now: int) -> int:
        return self._connection.execute(_EXPIRE, {"now": now}).rowcount

    def resume(self, now: int) -> int:
        return self._connection.execute(_RESUME, {"now": now}).rowcount

    def settle(self, settlements: Sequence[Settlement], now: int) -> Sequence[bool]:
        done: list[bool] = []
        for one in settlements:
            message = one.message
            values = {
                "id": message.id,
                "fence": message.fence,
                "status": one.status,
                "due_at": one.due_at,
                "error": one.error,
                "settled_at": None if one.status in OPEN else now,
                "doubt_since": None if one.certain else message.doubt_since,
            }
            statement = _STAY if one.status in _AT_HEAD else _LEAVE
            written = bool(self._connection.execute(statement, values).rowcount)
            if written and one.status not in OPEN:
                self._connection.execute(_NEXT, {"lane": message.lane})
            done.append(written)
        return done

    def hurry(self, environment: Environment, customer: str, now: int) -> int:
        values = {"environment": environment, "customer": customer, "now": now}
        return self._connection.execute(_HURRY, values).rowcount

    def reject(self, topic: str, identifier: str, error: str, now: int) -> OutboxMessage | None:
        message = self.by_identifier(topic, identifier)
        if message is None or message.status not in (*OPEN, *DELIVERED):
            return None
        self._connection.execute(_REJECT, {"id": message.id, "error": error, "now": now})
        self._connection.execute(_NEXT, {"lane": message.lane})
        return message

    def withdraw(
        self, environment: Environment, customer: str, period_start: int, now: int, meter: str | None = None
    ) -> Sequence[OutboxMessage]:
        columns = outbox_messages.c
        query = _SELECT.where(
            columns.environment == environment,
            columns.customer == customer,
            columns.period_start == period_start,
            columns.quantity.is_not(None),
            (columns.status.in_(("queued", "pending", "too_old")) & columns.doubt_since.is_(None))
            | (columns.status == "rejected"),
        )
        if meter is not None:
            query = query.where(columns.meter == meter)
        found = [_message(row) for row in self._connection.execute(query)]
        for message in found:
            self._connection.execute(_WITHDRAW, {"id": message.id, "now": now})
        for lane in {message.lane for message in found}:
            self._connection.execute(_NEXT, {"lane": lane})
        return found

    def replay(self, message: OutboxMessage, status: Status, now: int) -> None:
        values = {"id": message.id, "lane": message.lane, "status": status, "now": now}
        self._connection.execute(_REPLAY, values)

    def set_aside(self, environment: Environment, customer: str, meter: str, period_start: int, now: int) -> int:
        values = {"environment": environment, "customer": customer, "meter": meter, "period_start": period_start}
        return self._connection.execute(_SET_ASIDE, {**values, "now": now}).rowcount

    def replaced(self, message: str, by: str, now: int) -> None:
        self._connection.execute(_REPLACED, {"id": message, "error": f"sent again as {by}", "now": now})

    def confirm(self, environment: Environment, customer: str, meter: str, period_start: int) -> int:
        values = {"environment": environment, "customer": customer, "meter": meter, "period_start": period_start}
        return self._connection.execute(_CONFIRM, values).rowcount

    def forget(self, environment: Environment, customer: str, period_start: int, before: int) -> int:
        values = {"environment": environment, "customer": customer, "period_start": period_start, "before": before}
        return self._connection.execute(_FORGET, values).rowcount

    def delivered(self, environment: Environment, customer: str, meter: str, period_start: int, until: int) -> Decimal:
        found = self.deliveries(environment, customer, meter, period_start)
        return sum((quantity for at, quantity in found if at <= until), Decimal(0))

    def deliveries(
        self, environment: Environment, customer: str, meter: str, period_start: int
    ) -> Sequence[tuple[int, Decimal]]:
        columns = outbox_messages.c
        query = (
            select(columns.settled_at, columns.quantity)
            .where(
                columns.environment == environment,
                columns.customer == customer,
                columns.meter == meter,
                columns.period_start == period_start,
                columns.status.in_(DELIVERED),
            )
            .order_by(columns.settled_at, columns.id)
        )
        return [(at, Decimal(quantity)) for at, quantity in self._connection.execute(query)]

    def taken(self, environment: Environment, meter: str, start: int, end: int) -> Sequence[OutboxMessage]:
        columns = outbox_messages.c
        query = _SELECT.where(
            columns.environment == environment,
            columns.meter == meter,
            columns.status.in_(DELIVERED),
            columns.last_attempt_at.between(start, end),
        )
        return [_message(row) for row in self._connection.execute(query)]

    def quantities(
        self, environment: Environment, customer: str, meter: str, period_start: int
    ) -> Mapping[Status, Decimal]:
        columns = outbox_messages.c
        query = select(columns.status, columns.quantity).where(
            columns.environment == environment,
            columns.customer == customer,
            columns.meter == meter,
            columns.period_start == period_start,
            columns.quantity.is_not(None),
        )
        sums: dict[Status, Decimal] = {}
        for status, quantity in self._connection.execute(query):
            sums[status] = sums.get(status, Decimal(0)) + Decimal(quantity)
        return sums

    def of_period(
        self, environment: Environment, customer: str, meter: str, period_start: int, most: int
    ) -> Sequence[OutboxMessage]:
        columns = outbox_messages.c
        query = (
            _SELECT.where(
                columns.environment == environment,
                columns.customer == customer,
                columns.meter == meter,
                columns.period_start == period_start,
            )
            .order_by(columns.id.desc())
            .limit(most)
        )
        return [_message(row) for row in self._connection.execute(query)]

    def list(self, status: Status | None, topic: str | None, before: str | None, most: int) -> Sequence[OutboxMessage]:
        columns = outbox_messages.c
        query = _SELECT.order_by(columns.id.desc()).limit(most)
        if status is not None:
            query = query.where(text(f"status = '{status}'") if status in STATUSES else text("false"))
        if topic is not None:
            query = query.where(columns.topic == topic)
        if before is not None:
            query = query.where(tuple_(columns.id) < tuple_(before))
        return [_message(row) for row in self._connection.execute(query)]

    def counts(self) -> Mapping[Status, int]:
        asked: tuple[Status, ...] = ("queued", "pending", "sending", "unknown", "rejected", "too_old", "dead")
        return {
            status: self._connection.execute(
                select(func.count()).select_from(outbox_messages).where(text(f"status = '{status}'"))
            ).scalar_one()
            for status in asked
        }

    def oldest(self) -> int | None:
        columns = outbox_messages.c
        waiting = [
            first  # ids are in the order in which messages were made, and stand in each of these indexes
            for status in ("pending", "sending", "unknown")
            if (
                first := self._connection.execute(
                    select(func.min(columns.id)).where(text(f"status = '{status}'"))
                ).scalar_one()
            )
        ]
        if not waiting:
            return None
        made: int = self._connection.execute(select(columns.created_at).where(columns.id == min(waiting))).scalar_one()
        return made

    def _one(self, which: Any) -> OutboxMessage | None:
        row = self._connection.execute(_SELECT.where(which)).one_or_none()
        return None if row is None else _message(row)


def _values(message: OutboxMessage) -> dict[str, Any]:
    values = {name: getattr(message, name) for name in _NAMES}
    values["payload"] = json.dumps(message.payload, separators=(",", ":"))
    values["quantity"] = None if message.quantity is None else format_quantity(message.quantity)
    return values


def _message(row: Row[Any]) -> OutboxMessage:
    values = dict(zip(_NAMES, row, strict=True))
    values["payload"] = json.loads(values["payload"])
    values["quantity"] = None if values["quantity"] is None else Decimal(values["quantity"])
    return OutboxMessage(**cast("Any", values))
