"""What leaves for the payment provider: usage to its meters, lines to its invoices."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Final

from tollkeeper.core.billing import OLDEST_US, summary_window
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.outbox import SECOND_US, NotYet, OutboxMessage, Settlement, Status
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.core.provider import MeterReport, Provider
from tollkeeper.core.provider_catalog import event_name
from tollkeeper.services.adjustments import Adjustments

KEPT_US: Final = 23 * 3600 * SECOND_US
"""How long a repeat is known by its identifier or key: at Stripe at least 24 hours, of which one is left for clocks and slow calls."""
LAG_US: Final = 3600 * SECOND_US
"""How long after the last attempt the provider's summaries are taken for complete."""


class _Ids:
    """The provider's ids of our things, read once each. Only a customer's changes, who was deleted there: those are read each time."""

    def __init__(self, database: Database, provider: Provider) -> None:
        self._database = database
        self._provider = provider
        self._known: dict[tuple[str, str], str] = {}

    def of(self, kind: str, key: str) -> str:
        """Raises NotYet."""
        found = self._known.get((kind, key))
        if found is None:
            with self._database.read() as rows:
                object = rows.provider_objects.get(self._provider.name, self._provider.environment, kind, key)
            if object is None:
                raise NotYet(f"the provider has no {kind} for {key!r} yet: `tollkeeper stripe apply`")
            if len(self._known) >= 100_000:
                self._known.clear()
            found = object.id
            if kind != "customer":
                self._known[kind, key] = found
        return found


class MeterEvents:
    """Topic `meter_event`: the change of a period's total, added to the provider's meter.

    An unknown outcome: where the provider's summary, once it can be taken for complete, has exactly what it would have with it, it was
    sent. Otherwise the same identifier is sent again for as long as the provider knows a repeat by it, which is safe whatever became
    of it; after that only when the summary has exactly what it would have without it. What fits neither stays unknown and is shown.
    """

    def __init__(self, database: Database, provider: Provider, installation: str, *, lag_us: int = LAG_US) -> None:
        self._database = database
        self._provider = provider
        self._installation = installation
        self._lag_us = lag_us
        self._ids = _Ids(database, provider)
        self.duplicates = 0

    def send(self, message: OutboxMessage, now: int) -> Status:
        assert message.customer is not None
        assert message.meter is not None
        assert message.quantity is not None
        at = int(message.payload["at"])
        doubted = message.doubt_since is not None and message.doubt_since != message.last_attempt_at
        if at < now - OLDEST_US + 60 * SECOND_US and not doubted:
            return "too_old"
        report = MeterReport(
            message.identifier,
            event_name(self._installation, message.meter),
            self._ids.of("customer", message.customer),
            message.quantity,
            at,
        )
        # a key of its own for each attempt: under the same key Stripe would repeat even the answer that something failed
        if self._provider.report(report, f"{message.identifier}-{message.attempts}") == "duplicate":
            self.duplicates += 1
        return "sent"

    def look(self, message: OutboxMessage, now: int) -> Settlement:
        assert message.customer is not None
        assert message.meter is not None
        assert message.period_start is not None
        assert message.quantity is not None
        known = message.doubt_since is not None and now < message.doubt_since + KEPT_US
        complete = (message.last_attempt_at or 0) + self._lag_us
        window = summary_window(message.period_start, int(message.payload["end"]))
        if window is None or now < complete:
            if known:
                return Settlement(message, "pending", now)
            error = "the period has no whole minute that the provider's summary could be asked for"
            return Settlement(message, "unknown", max(complete, now), message.error if now < complete else error)
        has = self._provider.reported(
            self._ids.of("meter", message.meter), self._ids.of("customer", message.customer), *window
        )
        with self._database.read() as rows:
            there = rows.outbox.delivered(
                message.environment, message.customer, message.meter, message.period_start, now
            )
        if has == there + message.quantity:
            return Settlement(message, "sent", now)
        if known:
            return Settlement(message, "pending", now)
        if has == there:
            return Settlement(message, "pending", now, certain=True)
        error = (
            f"the provider's meter has {format_quantity(has)}; {format_quantity(there)} was expected without this "
            f"message, {format_quantity(there + message.quantity)} with it"
        )
        return Settlement(message, "unknown", now, error)

    def settled(self, rows: Repositories, message: OutboxMessage, status: Status, now: int) -> None:
        if message.customer is None or message.meter is None or message.period_start is None:
            return
        where = (message.environment, message.customer, message.period_start)
        if status == "too_old":
            report = rows.reports.get(message.environment, message.customer, message.meter, message.period_start)
            if report is not None and message.quantity is not None:
                rows.reports.put(replace(report, reported=report.reported - message.quantity), now)
            rows.periods.doubt(*where)
            return
        period = rows.periods.get(*where)
        if period is not None and period.state == "invoiced":
            rows.periods.doubt(*where)  # what its invoice has can be told now


class _OfAdjustments:
    """What follows when an adjustment was sent, or refused."""

    _adjustments: Adjustments

    def settled(self, rows: Repositories, message: OutboxMessage, status: Status, now: int) -> None:
        if status == "sent":
            self._adjustments.sent(rows, message, now)
        elif status == "rejected":
            self._adjustments.again(rows, message, now)


class InvoiceLines(_OfAdjustments):
    """Topic `invoice_line`: an adjustment put on an invoice. It carries its message's id, by which it is found again."""

    def __init__(self, database: Database, provider: Provider, adjustments: Adjustments) -> None:
        self._provider = provider
        self._adjustments = adjustments
        self._ids = _Ids(database, provider)

    def send(self, message: OutboxMessage, now: int) -> Status:
        assert message.customer is not None
        payload = message.payload
        self._provider.add_line(
            self._ids.of("customer", message.customer),
            Decimal(payload["amount"]),
            payload["currency"],
            payload["description"],
            message.identifier,
            invoice=payload["invoice"],
            period=(payload["start"], payload["end"]),
            metadata={"tollkeeper_message": message.id},
        )
        return "sent"

    def look(self, message: OutboxMessage, now: int) -> Settlement:
        assert message.customer is not None
        return _looked(message, self._provider.find_line(self._ids.of("customer", message.customer), message.id), now)


class CreditNotes(_OfAdjustments):
    """Topic `credit_note`: a negative adjustment of a customer whose contracts have ended, taken off the invoice it is about.

    Where that has not enough left it becomes a line, and with it an invoice below nothing, which is credit as well.
    """

    def __init__(self, provider: Provider, adjustments: Adjustments) -> None:
        self._provider = provider
        self._adjustments = adjustments

    def send(self, message: OutboxMessage, now: int) -> Status:
        payload = message.payload
        amount = Decimal(payload["amount"])
        self._provider.credit(payload["invoice"], amount, payload["description"], message.identifier, message.id)
        return "sent"

    def look(self, message: OutboxMessage, now: int) -> Settlement:
        return _looked(message, self._provider.find_credit(message.payload["invoice"], message.id), now)


class LastInvoices:
    """Topic `last_invoice`: an invoice of the lines that wait, for a customer whose contracts have ended."""

    def __init__(self, database: Database, provider: Provider) -> None:
        self._provider = provider
        self._ids = _Ids(database, provider)

    def send(self, message: OutboxMessage, now: int) -> Status:
        assert message.customer is not None
        payload = message.payload
        customer = self._ids.of("customer", message.customer)
        self._provider.invoice_lines(
            customer, payload["currency"], payload["description"], message.identifier, message.id
        )
        return "sent"

    def look(self, message: OutboxMessage, now: int) -> Settlement:
        assert message.customer is not None
        return _looked(
            message, self._provider.find_invoice(self._ids.of("customer", message.customer), message.id), now
        )

    def settled(self, rows: Repositories, message: OutboxMessage, status: Status, now: int) -> None:
        """Nothing follows: the invoice comes back as events."""


def _looked(message: OutboxMessage, found: str | None, now: int) -> Settlement:
    """What was looked for by the message's id is there, or is safe to send again."""
    return Settlement(message, "sent", now) if found is not None else Settlement(message, "pending", now, certain=True)
