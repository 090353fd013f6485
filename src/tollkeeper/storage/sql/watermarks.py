"""Rows of watermarks."""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from tollkeeper.storage.sql.money_tables import watermarks

_SET = text(
    "INSERT INTO watermarks (name, seq, updated_at) VALUES (:name, :seq, :now)"
    " ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, updated_at = excluded.updated_at"
)


class SqlWatermarks:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> int | None:
        query = select(watermarks.c.seq).where(watermarks.c.name == name)
        return self._connection.execute(query).scalar_one_or_none()

    def set(self, name: str, seq: int, now: int) -> None:
        self._connection.execute(_SET, {"name": name, "seq": seq, "now": now})
