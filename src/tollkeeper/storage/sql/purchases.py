"""Rows of checkouts and what came of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from tollkeeper.core.customers import Environment
from tollkeeper.core.purchases import Purchase
from tollkeeper.storage.sql.money_tables import purchases as table


class SqlPurchases:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, environment: Environment, id: str) -> Purchase | None:
        return self._one(table.c.environment == environment, table.c.id == id)

    def of(self, environment: Environment, customer: str) -> Sequence[Purchase]:
        query = select(table).where(table.c.environment == environment, table.c.customer == customer)
        return [_purchase(row) for row in self._connection.execute(query.order_by(table.c.created_at, table.c.id))]

    def put(self, purchase: Purchase) -> None:
        self._connection.execute(
            delete(table).where(table.c.environment == purchase.environment, table.c.id == purchase.id)
        )
        values: dict[str, Any] = {name: getattr(purchase, name) for name in Purchase.__slots__}
        values["document"] = json.dumps(purchase.document)
        self._connection.execute(insert(table).values(**values))

    def _one(self, *which: Any) -> Purchase | None:
        row = self._connection.execute(select(table).where(*which)).first()
        return _purchase(row) if row else None


def _purchase(row: Row[Any]) -> Purchase:
    return Purchase(**{**row._mapping, "document": json.loads(row.document)})
