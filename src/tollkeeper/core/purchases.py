"""A checkout and what came of it. Instants µs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tollkeeper.core.customers import Environment

PurchaseKind = Literal["subscription", "payment"]
PurchaseStatus = Literal["open", "completed", "expired", "failed"]


@dataclass(frozen=True, slots=True)
class Purchase:
    """One checkout and what came of it. `session` is the provider's. `document`: `url`, `subscription`, `payment`, `refunded`."""

    environment: Environment
    id: str
    provider: str
    session: str | None
    customer: str
    kind: PurchaseKind
    plan: str | None
    plan_version: int | None
    status: PurchaseStatus
    created_at: int
    completed_at: int | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
