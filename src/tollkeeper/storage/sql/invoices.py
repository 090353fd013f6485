"""Rows of invoices, the provider's and our own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, tuple_

from tollkeeper.core.customers import Environment
from tollkeeper.core.invoices import Invoice
from tollkeeper.storage.sql.money_tables import invoices as table


class SqlInvoices:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, environment: Environment, id: str) -> Invoice | None:
        row = self._connection.execute(
            select(table).where(table.c.environment == environment, table.c.id == id)
        ).first()
        return _invoice(row) if row else None

    def of(self, environment: Environment, customer: str) -> Sequence[Invoice]:
        query = select(table).where(table.c.environment == environment, table.c.customer == customer)
        return [_invoice(row) for row in self._connection.execute(query.order_by(table.c.created_at, table.c.id))]

    def list(
        self, environment: Environment, customer: str | None, status: str | None, before: str | None, limit: int
    ) -> Sequence[Invoice]:
        query = select(table).where(table.c.environment == environment)
        if customer is not None:
            query = query.where(table.c.customer == customer)
        if status is not None:
            query = query.where(table.c.status == status)
        if before is not None:
            last = self.get(environment, before)
            if last is None:
                return []
            query = query.where(tuple_(table.c.created_at, table.c.id) < (last.created_at, last.id))
        query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
        return [_invoice(row) for row in self._connection.execute(query)]

    def numbers(self) -> int:
        query = select(func.count()).select_from(table).where(table.c.provider.is_(None), table.c.number.is_not(None))
        return int(self._connection.execute(query).scalar_one())

    def put(self, invoice: Invoice) -> None:
        self._connection.execute(
            delete(table).where(table.c.environment == invoice.environment, table.c.id == invoice.id)
        )
        values: dict[str, Any] = {name: getattr(invoice, name) for name in Invoice.__slots__}
        values["total"], values["amount_paid"] = format(invoice.total, "f"), format(invoice.amount_paid, "f")
        values["document"] = json.dumps(invoice.document)
        self._connection.execute(insert(table).values(**values))


def _invoice(row: Row[Any]) -> Invoice:
    values = dict(row._mapping)
    values["total"], values["amount_paid"] = Decimal(row.total), Decimal(row.amount_paid)
    values["document"] = json.loads(row.document)
    return Invoice(**values)
