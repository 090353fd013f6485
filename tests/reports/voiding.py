"""Months beside a sandbox in which invoices are voided, and what drift tells of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from reports.lived import Lived
from tollkeeper.core.billing import Adjustment

CATALOG = """
currency = "usd"
fallback = "free"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[meters.tokens]
event_type = "llm"
aggregation = "sum"
value_property = "tokens"
[plans.free]
product = "api"
[plans.pro]
product = "api"
prices = [
  {key = "fee", model = "flat", flat_amount = "30"},
  {key = "calls", meter = "api_calls", model = "graduated", tiers = [
    {up_to = "3", unit_amount = "1"}, {up_to = "inf", unit_amount = "0.25"}]},
  {key = "tokens", meter = "tokens", model = "per_unit", unit_amount = "0.01", minimum = "2"},
]
[plans.plain]
product = "api"
prices = [
  {key = "fee", model = "flat", flat_amount = "30"},
  {key = "calls", meter = "api_calls", model = "graduated", tiers = [
    {up_to = "3", unit_amount = "1"}, {up_to = "inf", unit_amount = "0.25"}]},
]
"""
FEBRUARY = datetime(2027, 2, 28, 15, 37, 12, tzinfo=UTC)  # of a month bought on 31 January at 15:37:12
MARCH = datetime(2027, 3, 31, 15, 37, 12, tzinfo=UTC)
APRIL = datetime(2027, 4, 30, 15, 37, 12, tzinfo=UTC)


class Voiding(Lived):
    """`plan` was bought at the start; `during` is an instant of its first month."""

    during: datetime

    def begin(self, plan: str = "pro") -> None:
        self.buy(plan)
        self.move(3600)
        self.during = self.now

    @property
    def v1(self) -> Any:
        return self.running.client.v1

    def newest(self) -> Any:
        return self.v1.invoices.list({}).data[0]

    def close(self, when: datetime) -> Any:
        """The draft of the month that ends at `when`, with all its usage on it."""
        self.until(when + timedelta(seconds=5))
        draft = self.newest()
        assert draft.status == "draft"
        return draft

    def void_invoice(self, id: str) -> None:
        """As the seller does it: what is a draft is finalised first."""
        if self.v1.invoices.retrieve(id).status == "draft":
            self.v1.invoices.finalize_invoice(id, {"auto_advance": False})
        self.v1.invoices.void_invoice(id)
        self.settle()

    def month(self, when: datetime) -> None:
        """Live on to the end of a month, until its invoice is paid."""
        self.until(when + timedelta(seconds=5))
        self.invoice_now()

    def pause(self, paused: bool = True) -> None:
        assert self.money.checkouts is not None
        self.money.checkouts.pause("acme", paused)
        self.settle()

    def told(self) -> dict[str, tuple[str, str]]:
        """What drift tells: state and units by meter, of all periods that are not equal."""
        assert self.money.drift is not None
        self.money.drift.check_all()
        return {one.check.meter: (one.check.state, str(one.check.difference)) for one in self.money.drift.told()}

    def explained(self) -> list[str]:
        assert self.money.drift is not None
        assert not any(one.alarming for one in self.money.drift.told())
        return [one.check.explanation for one in self.money.drift.told()]

    def repair(self, *, voided: bool = True) -> list[str]:
        """The amounts of the adjustments that were made."""
        assert self.money.drift is not None
        made = [str(one.amount) for one in self.money.drift.repair(voided=voided)]
        self.settle()
        return made

    def adjusted(self, *states: str) -> list[Adjustment]:
        with self.toll.database.read() as rows:
            return [one for one in rows.adjustments.of("test", "acme") if not states or one.state in states]

    def billed(self) -> Decimal:
        """What was collected but for the fee of 30."""
        fees = sum(
            line.amount
            for invoice in self.v1.invoices.list({"limit": 100}).data
            if invoice.status != "void"
            for line in invoice.lines.data
            if "fee" in (line.description or "").lower() or line.amount == 3000
        )
        return self.collected() - Decimal(fees) / 100
