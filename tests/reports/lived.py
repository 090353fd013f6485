"""A customer whose months are lived through beside a sandbox: usage at any time, corrections, invoices added up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from selling.test_with_sandbox import House
from tollkeeper.core.corrections import Selection
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.rating import rate
from tollkeeper.services.corrections import Asked


class Lived(House):
    """`use` gives the ids of its events, which `void` and `amend` take."""

    sent = 0

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.spine.time.now / 1e9, UTC)

    def use(self, count: int = 1, at: datetime | None = None, type: str = "api.call", **data: Any) -> list[str]:
        ids = []
        for _ in range(count):
            Lived.sent += 1
            ids.append(f"e-{Lived.sent}")
            event = UsageEvent(ids[-1], type, "t", customer="acme", time=at or self.now, data=data or None)
            [result] = self.toll.ingest.ingest_wait("test", [event])
            assert result.status == "accepted", result
        return ids

    def void(self, *ids: str) -> None:
        self._correct("void", ids, None)

    def amend(self, *ids: str, **data: Any) -> None:
        self._correct("amend", ids, data)

    def _correct(self, action: Any, ids: tuple[str, ...], data: dict[str, Any] | None) -> None:
        for id in ids:
            asked = Asked(action, "test", Selection(id=id, source="t"), "a test", "ada", data)
            self.toll.corrections.correct(asked)

    def until(self, when: datetime) -> None:
        """Live on to an instant, an hour at a time where something falls due, and let everything come to rest."""
        self.at(when)
        self.settle()

    def invoice_now(self) -> None:
        """Past the hour after which Stripe finalises a draft."""
        self.until(self.now + timedelta(hours=2))

    def cancel(self) -> None:
        assert self.money.checkouts is not None
        self.money.checkouts.cancel("acme", "now")
        self.settle()
        self.invoice_now()

    def rated(self) -> Decimal:
        """What the ledger's totals cost by the rating engine: fees of every period, usage of those that are over."""
        total = Decimal(0)
        with self.toll.database.read() as rows:
            for period in rows.periods.of("test", "acme"):
                plan = rows.catalog.plan(period.plan, period.plan_version)
                assert plan is not None
                for price in plan.prices:
                    if price.meter is None:
                        total += rate(price, Decimal(0)).amount
                    elif period.state != "open":
                        where = (price.meter, "test", "acme", period.start, period.until)
                        used = self.toll.usage.period_total(*where)  # type: ignore[arg-type]
                        assert used is not None
                        total += rate(price, used).amount
        return total

    def collected(self) -> Decimal:
        """What all invoices come to, less what was taken off them."""
        v1 = self.running.client.v1
        credited = sum(note.amount for note in v1.credit_notes.list({"limit": 100}).data)
        invoices = v1.invoices.list({"limit": 100}).data
        return Decimal(sum(invoice.total for invoice in invoices if invoice.status != "void") - credited) / 100
