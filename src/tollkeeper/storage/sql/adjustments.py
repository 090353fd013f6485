"""Rows of adjustments."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tollkeeper.core.billing import Adjustment
from tollkeeper.core.customers import Environment
from tollkeeper.core.metering import format_quantity
from tollkeeper.storage.sql.money_tables import adjustments

_C = adjustments.c


class SqlAdjustments:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, adjustment: Adjustment) -> None:
        values = {column.name: getattr(adjustment, column.name) for column in _C}
        values["amount"] = format(adjustment.amount, "f")
        values["quantity"] = None if adjustment.quantity is None else format_quantity(adjustment.quantity)
        self._connection.execute(insert(adjustments).values(values))

    def of(self, environment: Environment, customer: str, period_start: int | None = None) -> Sequence[Adjustment]:
        query = select(adjustments).where(_C.environment == environment, _C.customer == customer)
        if period_start is not None:
            query = query.where(_C.period_start == period_start)
        return [_adjustment(row) for row in self._connection.execute(query.order_by(_C.created_at, _C.id))]

    def by_outbox(self, message: str) -> Adjustment | None:
        row = self._connection.execute(select(adjustments).where(_C.outbox == message)).one_or_none()
        return None if row is None else _adjustment(row)

    def change(self, adjustment: Adjustment) -> None:
        self._connection.execute(
            update(adjustments)
            .where(_C.environment == adjustment.environment, _C.id == adjustment.id)
            .values(state=adjustment.state, outbox=adjustment.outbox, invoice=adjustment.invoice)
        )


def _adjustment(row: Row[Any]) -> Adjustment:
    values = dict(row._mapping)
    values["amount"] = Decimal(values["amount"])
    values["quantity"] = None if values["quantity"] is None else Decimal(values["quantity"])
    return Adjustment(**values)
