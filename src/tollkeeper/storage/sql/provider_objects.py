"""Rows of what of ours is what of the provider's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from tollkeeper.core.ports_money import ProviderObject
from tollkeeper.storage.sql.money_tables import provider_objects


class SqlProviderObjects:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, provider: str, environment: str, kind: str, key: str) -> ProviderObject | None:
        return self._one(provider, environment, kind, provider_objects.c.key == key)

    def by_id(self, provider: str, environment: str, kind: str, id: str) -> ProviderObject | None:
        return self._one(provider, environment, kind, provider_objects.c.id == id)

    def list(self, provider: str, environment: str, kind: str | None = None) -> Sequence[ProviderObject]:
        columns = provider_objects.c
        query = select(provider_objects).where(columns.provider == provider, columns.environment == environment)
        if kind is not None:
            query = query.where(columns.kind == kind)
        return [ProviderObject(*row) for row in self._connection.execute(query.order_by(columns.kind, columns.key))]

    def put(self, object: ProviderObject) -> None:
        columns = provider_objects.c
        self._connection.execute(
            delete(provider_objects).where(
                columns.provider == object.provider,
                columns.environment == object.environment,
                columns.kind == object.kind,
                columns.key == object.key,
            )
        )
        self._connection.execute(
            insert(provider_objects).values({name: getattr(object, name) for name in ProviderObject.__slots__})
        )

    def _one(self, provider: str, environment: str, kind: str, which: Any) -> ProviderObject | None:
        columns = provider_objects.c
        row = self._connection.execute(
            select(provider_objects).where(
                columns.provider == provider, columns.environment == environment, columns.kind == kind, which
            )
        ).one_or_none()
        return None if row is None else ProviderObject(*row)
