"""Invoices as they are kept, the provider's and our own. Instants µs, amounts Decimal in major units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tollkeeper.core.customers import Environment


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice, the provider's or (`provider` None) our own. status: draft, open, paid, void, uncollectible.

    `document`: `lines`, and of the provider's `hosted_url`, `reason`, `refunded`, `disputes` (status by id).
    """

    environment: Environment
    id: str
    provider: str | None
    customer: str
    subscription: str | None
    number: str | None
    status: str
    currency: str
    total: Decimal
    amount_paid: Decimal
    period_start: int | None
    period_end: int | None
    created_at: int
    finalized_at: int | None = None
    paid_at: int | None = None
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def refunded(self) -> Decimal:
        return Decimal(self.document.get("refunded", "0"))

    @property
    def disputes(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.document.get("disputes", {})
        return found
