"""Rows of API keys. Digests only; the secret never comes here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, or_, select, update

from tollkeeper.core.customers import Environment
from tollkeeper.core.keys import NATIVE_PREFIXES, ApiKey, KeyKind
from tollkeeper.storage.sql.tables import api_keys

IN_ONE_QUERY = 500


def key_from(row: Sequence[Any]) -> ApiKey:
    """From the columns of `api_keys`, in the table's order."""
    head, (scopes, ips), tail = row[:8], row[8:10], row[10:15]
    values = (*head, tuple(json.loads(scopes)), tuple(json.loads(ips)), *tail)
    return ApiKey(*values)


class SqlKeys:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, key: ApiKey) -> None:
        self._connection.execute(
            insert(api_keys).values(
                id=key.id,
                kind=key.kind,
                customer=key.customer,
                environment=key.environment,
                name=key.name,
                digest=key.digest,
                prefix=key.prefix,
                last4=key.last4,
                scopes=json.dumps(key.scopes),
                ips=json.dumps(key.ips),
                created_at=key.created_at,
                expires_at=key.expires_at,
                revoked_at=key.revoked_at,
                last_used_at=key.last_used_at,
                replaced_by=key.replaced_by,
            )
        )

    def get(self, key_id: str) -> ApiKey | None:
        row = self._connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
        return key_from(row) if row else None

    def by_digests(self, digests: Sequence[bytes]) -> Mapping[bytes, ApiKey]:
        found: dict[bytes, ApiKey] = {}
        for start in range(0, len(digests), IN_ONE_QUERY):
            query = select(api_keys).where(api_keys.c.digest.in_(digests[start : start + IN_ONE_QUERY]))
            found |= {key.digest: key for key in map(key_from, self._connection.execute(query))}
        return found

    def foreign_digests(self) -> Iterator[bytes]:
        prefix = func.substr(api_keys.c.prefix, 1, len(NATIVE_PREFIXES[0]))
        for (digest,) in self._connection.execute(select(api_keys.c.digest).where(prefix.not_in(NATIVE_PREFIXES))):
            yield digest

    def list(
        self,
        customer: str | None,
        environment: Environment | None,
        kind: KeyKind | None,
        after: str | None,
        limit: int,
    ) -> Sequence[ApiKey]:
        query = select(api_keys).order_by(api_keys.c.id).limit(limit)
        if customer is not None:
            query = query.where(api_keys.c.customer == customer)
        if environment is not None:
            query = query.where(api_keys.c.environment == environment)
        if kind is not None:
            query = query.where(api_keys.c.kind == kind)
        if after is not None:
            query = query.where(api_keys.c.id > after)
        return [key_from(row) for row in self._connection.execute(query)]

    def revoke(self, key_id: str, at: int) -> None:
        self._connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=at))

    def replace(self, key_id: str, replaced_by: str, expires_at: int) -> None:
        query = update(api_keys).where(api_keys.c.id == key_id)
        self._connection.execute(query.values(replaced_by=replaced_by, expires_at=expires_at))

    def touch(self, used: Mapping[str, int]) -> None:
        query = (
            update(api_keys)
            .where(
                api_keys.c.id == bindparam("key"),
                or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < bindparam("at")),
            )
            .values(last_used_at=bindparam("at"))
        )
        if used:
            self._connection.execute(query, [{"key": key, "at": at} for key, at in used.items()])
