"""A payment provider in memory: sums of meters by minute, identifiers remembered for a day, faults on demand."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tollkeeper.core.customers import Environment
from tollkeeper.core.provider import (
    MeterReport,
    ProviderBusy,
    ProviderInvoice,
    ProviderRefused,
    ProviderUnavailable,
    Reported,
)

DAY = 86_400_000_000


class FakeProvider:
    """`faults`: what becomes of the next calls that change something: busy, refused, before (nothing was done) or after (it was), None."""

    name = "stripe"
    environment: Environment = "live"

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now = now_us
        self.events: list[tuple[str, str, int, Decimal]] = []
        self.identifiers: dict[str, int] = {}
        self.lines: list[dict[str, Any]] = []
        self.keys: dict[str, str] = {}
        self.faults: list[str | None] = []
        self.calls: list[MeterReport] = []
        self.looked = 0
        self.invoices: dict[str, ProviderInvoice] = {}

    def report(self, report: MeterReport, key: str) -> Reported:
        self.calls.append(report)
        fault = self._fault()
        now = self._now()
        known = self.identifiers.get(report.identifier)
        if known is not None and now - known < DAY:
            return "duplicate"
        if not now - 35 * DAY <= report.at <= now + 300_000_000:
            raise ProviderRefused("The timestamp is out of range.", "timestamp_out_of_range")
        self.identifiers[report.identifier] = now
        self.events.append((report.event_name, report.customer, report.at, report.value))
        if fault == "after":
            raise ProviderUnavailable("The connection was lost.")
        return "accepted"

    def reported(self, meter: str, customer: str, start: int, end: int) -> Decimal:
        assert not start % 60_000_000
        assert not end % 60_000_000
        self.looked += 1
        return self.total(meter, customer, start, end)

    def total(self, meter: str, customer: str, start: int, end: int) -> Decimal:
        """`meter` as "mtr_" and our key, by which the name of its events ends."""
        name = meter.removeprefix("mtr")
        found = (
            value
            for event, of, at, value in self.events
            if event.endswith(name) and of == customer and start <= at < end
        )
        return sum(found, Decimal(0))

    def add_line(self, customer: str, amount: Decimal, currency: str, description: str, key: str, **more: Any) -> str:
        fault = self._fault()
        if key not in self.keys:
            self.keys[key] = f"ii_{len(self.lines)}"
            self.lines.append(
                {"customer": customer, "amount": amount, "currency": currency, "text": description, **more}
            )
        if fault == "after":
            raise ProviderUnavailable("The connection was lost.")
        return self.keys[key]

    def find_line(self, customer: str, reference: str) -> str | None:
        self.looked += 1
        for n, line in enumerate(self.lines):
            if line["customer"] == customer and line["metadata"]["tollkeeper_message"] == reference:
                return f"ii_{n}"
        return None

    def invoice(self, invoice: str) -> ProviderInvoice:
        return self.invoices[invoice]

    def _fault(self) -> str | None:
        fault = self.faults.pop(0) if self.faults else None
        if fault == "busy":
            raise ProviderBusy("Slow down.", retry_after=7.0)
        if fault == "refused":
            raise ProviderRefused("No such customer.", "resource_missing")
        if fault == "before":
            raise ProviderUnavailable("The connection was lost.")
        if fault == "bug":
            raise ZeroDivisionError
        return fault
