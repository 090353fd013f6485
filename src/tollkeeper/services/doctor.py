"""Says what is wrong between this installation and its payment provider, and how to mend it. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from tollkeeper.core.customers import Environment
from tollkeeper.core.doctor import Finding
from tollkeeper.core.errors import CatalogInvalid
from tollkeeper.services.provider_catalog import ProviderCatalog


class AccountDoctor(Protocol):
    """What looks at the account itself."""

    environment: Environment

    def findings(self) -> Iterator[Finding]: ...

    def webhook(self, key: str) -> tuple[str, Sequence[str]]:
        """Make what sends us events, or bring it up to date: its id, and the secrets of what was made just now."""
        ...


class Doctor:
    """The account first: with a key that is not accepted nothing else can be known."""

    def __init__(
        self,
        account: AccountDoctor,
        catalog: ProviderCatalog,
        random_bits: Callable[[int], int],
        probe: Callable[[str], Iterable[Finding]],
    ) -> None:
        self._account = account
        self._catalog = catalog
        self._random_bits = random_bits
        self._probe = probe

    @property
    def environment(self) -> Environment:
        return self._account.environment

    def webhook(self) -> tuple[str, Sequence[str]]:
        """As `AccountDoctor.webhook`."""
        return self._account.webhook(f"tk-webhook-{self._random_bits(80):020x}")

    def probe(self) -> list[Finding]:
        """Ask a test account what its documents do not say: makes and removes things there. Raises InvalidRequest for a live one."""
        return list(self._probe(f"{self._random_bits(40):010x}"))

    def look(self) -> list[Finding]:
        return [*self._account.findings(), self._shelf()]

    def _shelf(self) -> Finding:
        try:
            plan = self._catalog.plan()
        except CatalogInvalid as none:
            return Finding("catalog", "failed", none.detail, "tollkeeper catalog apply")
        if plan.changes:
            due = ", ".join(f"{change.action} {change.kind} {change.key}" for change in plan.changes[:5])
            more = f" and {len(plan.changes) - 5} more" if len(plan.changes) > 5 else ""
            return Finding(
                "catalog", "failed", f"The catalog is not at Stripe: {due}{more}.", "tollkeeper stripe apply"
            )
        return Finding("catalog", "ok", f"All {plan.kept} products, meters and prices are at Stripe.")
