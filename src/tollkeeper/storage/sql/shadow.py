"""Rows of what shadow mode would have refused."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, text

from tollkeeper.core.shadow import ShadowRefusals
from tollkeeper.storage.sql.tables import shadow_refusals

_ADD = text(
    """INSERT INTO shadow_refusals (day, environment, customer, key_id, meter, code, calls, first_at, last_at)
    VALUES (:day, :environment, :customer, :key_id, :meter, :code, :calls, :first_at, :last_at)
    ON CONFLICT (day, environment, customer, key_id, meter, code) DO UPDATE SET
    calls = shadow_refusals.calls + excluded.calls,
    first_at = CASE WHEN excluded.first_at < shadow_refusals.first_at THEN excluded.first_at ELSE shadow_refusals.first_at END,
    last_at = CASE WHEN excluded.last_at > shadow_refusals.last_at THEN excluded.last_at ELSE shadow_refusals.last_at END"""
)


class SqlShadow:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, refusals: Sequence[ShadowRefusals]) -> None:
        names = ShadowRefusals.__slots__
        self._connection.execute(_ADD, [{name: getattr(one, name) for name in names} for one in refusals])

    def since(self, environment: str, day: int) -> Sequence[ShadowRefusals]:
        query = (
            select(shadow_refusals)
            .where(shadow_refusals.c.environment == environment, shadow_refusals.c.day >= day)
            .order_by(shadow_refusals.c.day)
        )
        return [ShadowRefusals(*row) for row in self._connection.execute(query)]
