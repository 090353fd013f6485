"""Amounts that go on an invoice by themselves: usage that came after finalisation, and prices that are rated here.

Each is signed, says why it is there, and is worth rate(total) − rate(what was billed), so that all that was billed of a period adds up to
what its total costs. It leaves through the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from tollkeeper.core.billed import billed_by
from tollkeeper.core.billing import Adjustment, BillingPeriod, UsageReport
from tollkeeper.core.customers import Environment
from tollkeeper.core.ids import new_id
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.outbox import (
    CREDIT_NOTE,
    FIRST,
    INVOICE_LINE,
    LAST_INVOICE,
    NORMAL,
    OPEN,
    OutboxMessage,
    identify,
)
from tollkeeper.core.plans import Price
from tollkeeper.core.ports import Repositories
from tollkeeper.core.provider_prices import charged, rated_here
from tollkeeper.core.rating import rate
from tollkeeper.core.subscriptions import ENDED, in_trial
from tollkeeper.services.clock import Clock

Total = Callable[[BillingPeriod, str], Decimal | None]


@dataclass(frozen=True, slots=True)
class Lacking:
    """Of a price that is rated here: quantity and amount that are not billed yet."""

    price: Price
    quantity: Decimal
    amount: Decimal
    reason: str


class Adjustments:
    """Writes within the caller's transaction."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def carry(
        self,
        rows: Repositories,
        period: BillingPeriod,
        report: UsageReport,
        prices: Sequence[Price],
        total: Decimal,
        seq: int,
        now: int,
    ) -> None:
        """Bill by adjustment what lies between `total` and what the provider's invoice has of a meter. `prices`: those that bill it."""
        where = (period.environment, period.customer, report.meter, period.start)
        for message in rows.outbox.withdraw(period.environment, period.customer, period.start, now, report.meter):
            if message.status != "too_old":  # of those it was taken back when that was found
                report = replace(report, reported=report.reported - (message.quantity or 0))
        if period.state == "invoiced":
            if any(status in OPEN for status in rows.outbox.quantities(*where)):
                rows.reports.put(report, now)
                return  # whether the invoice has it is not known yet; its settlement makes the period stale again
            if report.billed is None:
                invoice = rows.invoices.get(period.environment, period.invoice) if period.invoice is not None else None
                billed = billed_by(period, rows.outbox.deliveries(*where), invoice, prices)
                if billed is None:
                    rows.reports.put(report, now)
                    return  # who ended the contract may have wanted no invoice: it is told, and a person decides
                report = replace(report, billed=billed)
            base = report.billed or Decimal(0)
        else:
            base = report.reported
        base += report.carried
        if total == base:
            rows.reports.put(report, now)
            return
        after = "was finalised" if period.state == "invoiced" else "could take it"
        reason = (
            f"{report.meter} {_day(period.start)} to {_day(period.end)}: {format_quantity(total)} in all, "
            f"{format_quantity(base)} of it billed before; the rest came after its invoice {after}"
        )
        for price in () if free(rows, period) else prices:
            amount = rate(price, total).amount - rate(price, base).amount
            self._owe(rows, period, price, total - base, amount, reason, None, now)
        rows.reports.put(
            replace(report, carried=report.carried + total - base, revision=report.revision + 1, seq=seq), now
        )

    def rated_here(self, rows: Repositories, period: BillingPeriod, total: Total, now: int) -> None:
        """Bring what the draft invoice (or, after finalisation, the next one) has of prices that are rated here to what they cost now."""
        if period.state == "open":
            return
        invoice = period.invoice if period.state == "closing" else None
        for owed in self.lacking(rows, period, total):
            self._owe(rows, period, owed.price, owed.quantity, owed.amount, owed.reason, invoice, now)

    def lacking(self, rows: Repositories, period: BillingPeriod, total: Total) -> Iterator[Lacking]:
        """What prices that are rated here cost now, less what was billed of them."""
        plan = rows.catalog.plan(period.plan, period.plan_version)
        customer = rows.customers.get(period.customer)
        if plan is None or customer is None or free(rows, period):
            return
        written = rows.adjustments.of(period.environment, period.customer, period.start)
        for price in plan.prices:
            if price.currency != customer.currency or price.interval == "once" or rated_here(price) is None:
                continue
            quantity = Decimal(0) if price.meter is None else total(period, price.meter)
            if quantity is None:
                continue
            before = [one for one in written if one.price == price.key and one.state != "rejected"]
            cost = rate(price, quantity).amount
            amount = charged(cost, price.currency) - sum((one.amount for one in before), Decimal(0))
            lacking = quantity - sum((one.quantity or Decimal(0) for one in before), Decimal(0))
            if (before and not lacking and not amount) or (not before and not amount and not quantity):
                continue
            name = price.key if price.meter is None else f"{price.key}, {format_quantity(quantity)} {price.meter}"
            reason = f"{name}, {_day(period.start)} to {_day(period.end)}"
            if before:
                reason += f": {format_quantity(quantity - lacking)} of it billed before"
            reason += _rounding(cost, price.currency)
            yield Lacking(price, lacking, amount, reason)

    def again(self, rows: Repositories, message: OutboxMessage, now: int) -> None:
        """The draft that a line was for takes none any more, or the invoice cannot be credited: it goes on the customer's next invoice."""
        adjustment = rows.adjustments.by_outbox(message.id)
        if adjustment is None:
            return
        if message.payload.get("invoice") is None:
            rows.adjustments.change(replace(adjustment, state="rejected"))
            return
        payload = {**message.payload, "amount": format(adjustment.amount, "f"), "invoice": None}
        rows.adjustments.change(replace(adjustment, outbox=self._message(rows, adjustment, payload, "next", now)))

    def sent(self, rows: Repositories, message: OutboxMessage, now: int) -> None:
        """A line of a customer whose contracts have ended waits for no invoice."""
        adjustment = rows.adjustments.by_outbox(message.id)
        if adjustment is None:
            return
        invoice = message.payload.get("invoice") or adjustment.invoice  # which took it may be known already
        rows.adjustments.change(replace(adjustment, state="sent", invoice=invoice))
        self.last(rows, adjustment.environment, adjustment.customer, now)

    def placed(self, rows: Repositories, messages: Iterable[str], invoice: str) -> None:
        """Lines that waited (by the messages that brought them) are on an invoice now."""
        for message in messages:
            adjustment = rows.adjustments.by_outbox(message)
            if adjustment is not None and adjustment.invoice != invoice:
                rows.adjustments.change(replace(adjustment, state="sent", invoice=invoice))

    def last(self, rows: Repositories, environment: Environment, customer: str, now: int) -> None:
        """Lines that wait when all contracts of a customer have ended would wait for ever: an invoice is made of them, once.

        The provider puts each line on one invoice. What the contract's own last invoice has taken by then is not there for this one.
        """
        if not _ended(rows, environment, customer):
            return
        waiting = [one for one in rows.adjustments.of(environment, customer) if one.state == "sent" and not one.invoice]
        if waiting:
            newest = waiting[-1]
            payload: dict[str, object] = {"currency": newest.currency, "description": "After the end of your plan"}
            self._message(rows, newest, payload, "last", now, LAST_INVOICE)

    def owe(self, rows: Repositories, adjustment: Adjustment, period: BillingPeriod, now: int) -> None:
        """Write an adjustment down and put it into the outbox, unless it comes to nothing.

        What names no invoice goes on the draft of its contract's later period, when there is one, and else on the next. Should the draft
        be final by then, the provider refuses the line, and it waits for the next (`again`).
        """
        if not adjustment.amount:
            rows.adjustments.add(replace(adjustment, state="nothing"))
            return
        if adjustment.invoice is None:
            adjustment = replace(adjustment, invoice=_draft(rows, period))
        payload: dict[str, object] = {
            "amount": format(adjustment.amount, "f"),
            "currency": adjustment.currency,
            "description": adjustment.reason,
            "invoice": adjustment.invoice,
            "start": period.start,
            "end": period.end,
        }
        topic = INVOICE_LINE
        final = period.invoice if period.state == "invoiced" and adjustment.invoice is None else None
        if adjustment.amount < 0 and final is not None and _ended(rows, period.environment, period.customer):
            topic = CREDIT_NOTE  # there is no next invoice that it would lower
            payload |= {"amount": format(-adjustment.amount, "f"), "invoice": final}
        message = self._message(rows, adjustment, payload, "line", now, topic)
        rows.adjustments.add(replace(adjustment, invoice=None, outbox=message))

    def _owe(
        self,
        rows: Repositories,
        period: BillingPeriod,
        price: Price,
        quantity: Decimal,
        amount: Decimal,
        reason: str,
        invoice: str | None,
        now: int,
    ) -> None:
        adjustment = Adjustment(
            environment=period.environment,
            id=new_id("adj", now // 1000, self._clock.random_bits(80)),
            customer=period.customer,
            amount=amount,
            currency=price.currency,
            reason=reason,
            created_at=now,
            meter=price.meter,
            period_start=period.start,
            price=price.key,
            quantity=quantity,
            invoice=invoice,
        )
        self.owe(rows, adjustment, period, now)

    def _message(
        self,
        rows: Repositories,
        adjustment: Adjustment,
        payload: dict[str, object],
        attempt: str,
        now: int,
        topic: str = INVOICE_LINE,
    ) -> str:
        message = OutboxMessage(
            id=new_id("out", now // 1000, self._clock.random_bits(80)),
            environment=adjustment.environment,
            topic=topic,
            lane=f"lines/{adjustment.environment}/{adjustment.customer}",
            identifier=identify(attempt, adjustment.environment, adjustment.id),
            payload=payload,
            priority=FIRST if payload.get("invoice") else NORMAL,
            created_at=now,
            due_at=now,
            customer=adjustment.customer,
            period_start=adjustment.period_start,
        )
        rows.outbox.put([message])
        return message.id


def free(rows: Repositories, period: BillingPeriod) -> bool:
    """Whether a period is a trial: what was used in it is counted, and costs nothing."""
    if period.provider is None:
        return False
    bought = rows.provider_subscriptions.get(period.provider, period.environment, period.subscription)
    return in_trial(bought, period.start, period.end)


def _ended(rows: Repositories, environment: Environment, customer: str) -> bool:
    """Whether the customer had contracts at the provider, and none of them runs."""
    known = rows.provider_subscriptions.of(environment, customer)
    return bool(known) and all(one.ended_at is not None or one.status in ENDED for one in known)


def _draft(rows: Repositories, period: BillingPeriod) -> str | None:
    """The open draft of another period of the same contract."""
    drafts = [
        one.invoice
        for one in rows.periods.of(period.environment, period.customer)
        if one.state == "closing" and one.subscription == period.subscription and one.start != period.start
    ]
    return drafts[-1] if drafts else None


def _rounding(cost: Decimal, currency: str) -> str:
    """What is told of an amount that is not charged to the last digit."""
    amount = charged(cost, currency)
    return "" if amount == cost else f"; all of it costs {cost} {currency}, charged as {amount}"


def _day(instant: int) -> str:
    return datetime.fromtimestamp(instant // 1_000_000, UTC).date().isoformat()
