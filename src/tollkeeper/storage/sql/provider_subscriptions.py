"""Rows of contracts at a provider. What has no column of its own stands in `document`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from tollkeeper.core.customers import Environment
from tollkeeper.core.subscriptions import KnownSubscription
from tollkeeper.storage.sql.money_tables import provider_subscriptions as table

_DOCUMENT = (
    "created_at",
    "held_until",
    "trial_start",
    "trial_end",
    "paused",
    "paused_at",
    "resumed_at",
    "latest_invoice",
    "metadata",
    "items",
)
_COLUMNS = tuple(name for name in table.c.keys() if name != "document")  # noqa: SIM118 - columns, not a dict


class SqlProviderSubscriptions:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, provider: str, environment: Environment, id: str) -> KnownSubscription | None:
        query = select(table).where(table.c.provider == provider, table.c.environment == environment, table.c.id == id)
        row = self._connection.execute(query).first()
        return _known(row) if row else None

    def of(self, environment: Environment, customer: str) -> Sequence[KnownSubscription]:
        query = select(table).where(table.c.environment == environment, table.c.customer == customer)
        return sorted(
            (_known(row) for row in self._connection.execute(query)), key=lambda one: (one.created_at, one.id)
        )

    def in_grace(self, until: int) -> Sequence[KnownSubscription]:
        query = select(table).where(table.c.status == "past_due", table.c.grace_until <= until)
        return [_known(row) for row in self._connection.execute(query)]

    def put(self, subscription: KnownSubscription) -> None:
        self._connection.execute(
            delete(table).where(
                table.c.provider == subscription.provider,
                table.c.environment == subscription.environment,
                table.c.id == subscription.id,
            )
        )
        values: dict[str, Any] = {name: getattr(subscription, name) for name in _COLUMNS}
        document = {name: getattr(subscription, name) for name in _DOCUMENT}
        document["metadata"], document["items"] = dict(subscription.metadata), [dict(i) for i in subscription.items]
        self._connection.execute(insert(table).values(**values, document=json.dumps(document)))


def _known(row: Row[Any]) -> KnownSubscription:
    values = {name: getattr(row, name) for name in _COLUMNS}
    return KnownSubscription(**values, **json.loads(row.document))
