"""Repositories of what is sold: contracts at the provider, invoices, purchases; see `core.ports` for how a transaction works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tollkeeper.core.customers import Environment
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.purchases import Purchase
from tollkeeper.core.subscriptions import KnownSubscription


class KnownSubscriptionRepository(Protocol):
    """Contracts at a provider, as they were last read."""

    def get(self, provider: str, environment: Environment, id: str) -> KnownSubscription | None: ...

    def of(self, environment: Environment, customer: str) -> Sequence[KnownSubscription]:
        """Ended ones too, oldest first."""
        ...

    def in_grace(self, until: int) -> Sequence[KnownSubscription]:
        """Those that are past due and whose grace ended at or before an instant."""
        ...

    def put(self, subscription: KnownSubscription) -> None: ...


class InvoiceRepository(Protocol):
    def get(self, environment: Environment, id: str) -> Invoice | None: ...

    def of(self, environment: Environment, customer: str) -> Sequence[Invoice]:
        """Oldest first."""
        ...

    def list(
        self, environment: Environment, customer: str | None, status: str | None, before: str | None, limit: int
    ) -> Sequence[Invoice]:
        """Newest first; `before` is the id of the last one of the page before."""
        ...

    def numbers(self) -> int:
        """How many of our own have a number."""
        ...

    def put(self, invoice: Invoice) -> None: ...


class PurchaseRepository(Protocol):
    def get(self, environment: Environment, id: str) -> Purchase | None: ...

    def of(self, environment: Environment, customer: str) -> Sequence[Purchase]:
        """Oldest first."""
        ...

    def put(self, purchase: Purchase) -> None: ...
