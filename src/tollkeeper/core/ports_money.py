"""Repositories of the money, as protocols: what services need of `storage/sql/money_tables`, inside one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ProviderObject:
    """One thing of ours (`kind`, `key`) and the id it has at the provider."""

    provider: str
    environment: str
    kind: str
    key: str
    id: str
    fingerprint: str
    made_at: int


class ProviderObjectRepository(Protocol):
    def get(self, provider: str, environment: str, kind: str, key: str) -> ProviderObject | None: ...

    def by_id(self, provider: str, environment: str, kind: str, id: str) -> ProviderObject | None: ...

    def list(self, provider: str, environment: str, kind: str | None = None) -> Sequence[ProviderObject]:
        """By kind, then key."""
        ...

    def put(self, object: ProviderObject) -> None:
        """Write it; one of the same kind and key is replaced."""
        ...


class WatermarkRepository(Protocol):
    """How far a reader has come, by its name."""

    def get(self, name: str) -> int | None: ...

    def set(self, name: str, seq: int, now: int) -> None: ...
