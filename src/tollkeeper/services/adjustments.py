"""Amounts that go on an invoice by themselves: usage that came after finalisation, and prices that are rated here.

Each is signed, says why it is there, and is worth rate(total) − rate(what was billed), so that all that was billed of a period adds up to
what its total costs (`core.adjusting`). It leaves through the outbox. What stood on an invoice that was voided is `voided`, and
carried forward on request; by itself where a pause voided it, or where it was owed to the customer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from tollkeeper.core.adjusting import Account, Change, account_of, change, credited, together, writes_off
from tollkeeper.core.billed import billed_by
from tollkeeper.core.billing import Adjustment, BillingPeriod, UsageReport
from tollkeeper.core.customers import Environment
from tollkeeper.core.ids import new_id
from tollkeeper.core.invoices import Invoice
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
from tollkeeper.core.subscriptions import ENDED, held, in_trial
from tollkeeper.services.clock import Clock

Total = Callable[[BillingPeriod, str], Decimal | None]


@dataclass(frozen=True, slots=True)
class Lacking:
    """Of a price that is rated here: what has to be billed or given back. `late`: after something of it was."""

    account: Account
    change: Change
    reason: str
    late: bool


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
        final = period.state == "invoiced"
        if final and any(status in OPEN for status in rows.outbox.quantities(*where)):
            rows.reports.put(report, now)
            return  # whether the invoice has it is not known yet; its settlement makes the period stale again
        prices = () if free(rows, period) else prices
        void = self._void(rows, period)
        uncharged = final and (void is not None or period.invoice is None)
        if final:
            if report.billed is None:
                invoice = rows.invoices.get(period.environment, period.invoice) if period.invoice is not None else None
                billed = billed_by(period, rows.outbox.deliveries(*where), invoice, prices)
                if billed is None and not _ended_paused(rows, period):
                    rows.reports.put(report, now)
                    return  # who ended the contract may have wanted no invoice: it is told, and a person decides
                report = replace(report, billed=billed or Decimal(0))
            if report.billed and void is not None:
                report = self._give_away(rows, period, report, prices, void, now)
        provided = (report.billed or Decimal(0)) if final else report.reported
        for price in prices:
            self._settle_voided(rows, period, price, provided, now)
        base = provided + report.carried
        if total != base:
            late = final and period.invoice is not None
            why = f"the rest came after its invoice {'was finalised' if final else 'could take it'}"
            if final and not late:
                why = "no invoice was made of it"
            for price in prices:
                account = account_of(price, provided, _written(rows, period), void=uncharged)
                said = f"{report.meter} {_days(period)}: {format_quantity(total)} in all, {_before(account)}; {why}"
                self._bring(rows, period, account, change(account, total), said, None, now, late=late)
            report = replace(report, carried=report.carried + total - base, revision=report.revision + 1, seq=seq)
        rows.reports.put(report, now)

    def rated_here(self, rows: Repositories, period: BillingPeriod, total: Total, now: int) -> None:
        """Bring what the draft invoice (or, after finalisation, the next one) has of prices that are rated here to what they cost now."""
        if period.state == "open":
            return
        for price in self._rated_here(rows, period):
            self._settle_voided(rows, period, price, None, now)
        invoice = period.invoice if period.state == "closing" else None
        for owed in self.lacking(rows, period, total):
            late = owed.late and period.state == "invoiced" and period.invoice is not None
            self._bring(rows, period, owed.account, owed.change, owed.reason, invoice, now, late=late)

    def lacking(self, rows: Repositories, period: BillingPeriod, total: Total) -> Iterator[Lacking]:
        """What prices that are rated here cost now, less what is accounted for."""
        void = self._void(rows, period) is not None or _ended_paused(rows, period)
        for price in self._rated_here(rows, period):
            quantity = Decimal(0) if price.meter is None else total(period, price.meter)
            if quantity is None:
                continue
            own = _of(rows, period, price)
            account = account_of(price, None, own, void=void)
            made = change(account, quantity)
            if not made.quantity and not made.amount and not made.given:
                continue
            name = price.key if price.meter is None else f"{price.key}, {format_quantity(quantity)} {price.meter}"
            late = any(one.state != "rejected" for one in own)
            before = f": {_before(account)}" if late else ""
            rounding = _rounding(rate(price, quantity).amount, price.currency)
            yield Lacking(account, made, f"{name}, {_days(period)}{before}{rounding}", late)

    @staticmethod
    def _rated_here(rows: Repositories, period: BillingPeriod) -> Sequence[Price]:
        plan = rows.catalog.plan(period.plan, period.plan_version)
        customer = rows.customers.get(period.customer)
        if plan is None or customer is None or free(rows, period):
            return ()
        own = [one for one in plan.prices if one.currency == customer.currency and one.interval != "once"]
        return [price for price in own if rated_here(price) is not None]

    def bill_voided(self, rows: Repositories, period: BillingPeriod, price: Price, now: int) -> None:
        """Carry forward what of a price stood on invoices that were voided."""
        self._bill(rows, period, price, [one for one in _of(rows, period, price) if one.state == "voided"], "", now)

    def release(self, rows: Repositories, environment: Environment, customer: str, now: int) -> None:
        """No contract of the customer is paused any more: what was held goes on the next invoice, or on one of its own."""
        for one in rows.adjustments.of(environment, customer):
            if one.state == "pending" and one.outbox is None and one.period_start is not None:
                period = rows.periods.get(environment, customer, one.period_start)
                if period is not None:
                    rows.adjustments.change(replace(one, outbox=self._send(rows, one, period, now, "held")))

    def again(self, rows: Repositories, message: OutboxMessage, now: int) -> None:
        """The draft that a line was for takes none any more, or the invoice cannot be credited: it goes on the customer's next invoice."""
        adjustment = rows.adjustments.by_outbox(message.id)
        if adjustment is None:
            return
        if message.payload.get("invoice") is None:
            rows.adjustments.change(replace(adjustment, state="rejected"))
            return
        payload = {**message.payload, "amount": format(adjustment.amount, "f"), "invoice": None}
        following = None if _held(rows, adjustment) else self._message(rows, adjustment, payload, "next", now)
        rows.adjustments.change(replace(adjustment, outbox=following))

    def sent(self, rows: Repositories, message: OutboxMessage, now: int) -> None:
        """A line of a customer whose contracts have ended waits for no invoice."""
        adjustment = rows.adjustments.by_outbox(message.id)
        if adjustment is None:
            return
        invoice = message.payload.get("invoice") or adjustment.invoice  # which took it may be known already
        rows.adjustments.change(replace(adjustment, state="sent", invoice=invoice))
        if _is_void(rows, adjustment.environment, invoice) and adjustment.period_start is not None:
            rows.periods.doubt(adjustment.environment, adjustment.customer, adjustment.period_start)
        self.last(rows, adjustment.environment, adjustment.customer, now)

    def placed(self, rows: Repositories, messages: Iterable[str], invoice: str) -> None:
        """Lines that waited (by the messages that brought them) are on an invoice now."""
        for message in messages:
            adjustment = rows.adjustments.by_outbox(message)
            if adjustment is not None and adjustment.invoice != invoice and adjustment.state != "carried_forward":
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
        """Write an adjustment down and put it into the outbox, unless it comes to nothing. While the contract is paused it is held.

        What names no invoice goes on the draft of its contract's later period, when there is one, and else on the next. Should the draft
        be final by then, the provider refuses the line, and it waits for the next (`again`).
        """
        if not adjustment.amount:
            rows.adjustments.add(replace(adjustment, state="nothing"))
            return
        if adjustment.invoice is None:
            adjustment = replace(adjustment, invoice=_draft(rows, period))
        if adjustment.invoice is None and _held(rows, adjustment):
            rows.adjustments.add(adjustment)
            return
        message = self._send(rows, adjustment, period, now)
        rows.adjustments.add(replace(adjustment, invoice=None, outbox=message))

    # what was voided

    @staticmethod
    def voided(rows: Repositories, environment: Environment, customer: str, invoice: str) -> None:
        """An invoice was voided: what becomes of the usage that it charged is found when its periods are looked at."""
        starts = {period.start for period in rows.periods.of(environment, customer) if period.invoice == invoice}
        written = rows.adjustments.of(environment, customer)
        starts |= {one.period_start for one in written if one.invoice == invoice and one.period_start is not None}
        for start in sorted(starts):
            rows.periods.doubt(environment, customer, start)

    @staticmethod
    def _void(rows: Repositories, period: BillingPeriod) -> Invoice | None:
        """The period's invoice, if it was voided."""
        final = period.state == "invoiced"
        return _is_void(rows, period.environment, period.invoice) if final else None

    def _give_away(
        self,
        rows: Repositories,
        period: BillingPeriod,
        report: UsageReport,
        prices: Sequence[Price],
        invoice: Invoice,
        now: int,
    ) -> UsageReport:
        """Write down that what the period's invoice had of a meter is charged by none."""
        billed = report.billed or Decimal(0)
        how = "was deleted" if invoice.document.get("deleted") else "was voided"
        for price in prices:
            reason = f"{format_quantity(billed)} {report.meter} {_days(period)}: invoice {invoice.id} {how}"
            made = self._adjustment(period, price, billed, rate(price, billed).amount, reason, now)
            rows.adjustments.add(replace(made, state="voided", invoice=invoice.id))
        return replace(report, billed=Decimal(0), carried=report.carried + billed, revision=report.revision + 1)

    def _settle_voided(
        self, rows: Repositories, period: BillingPeriod, price: Price, provided: Decimal | None, now: int
    ) -> None:
        """Find what stands on invoices that were voided. What a pause voided, or the customer was owed, is carried forward at once."""
        paused: list[Adjustment] = []
        others: list[Adjustment] = []
        for one in _of(rows, period, price):
            invoice = _is_void(rows, one.environment, one.invoice) if one.state in ("sent", "voided") else None
            if one.state == "sent" and invoice is not None:
                one = replace(one, state="voided")
                rows.adjustments.change(one)
            if one.state != "voided" or (invoice is not None and invoice.document.get("deleted")):
                continue  # whether the lines of a deleted draft are gone, the provider has to be asked
            (paused if invoice is not None and invoice.document.get("paused") else others).append(one)
        self._bill(rows, period, price, paused, " by a pause", now)
        if sum(one.amount for one in others) < 0:
            self._bill(rows, period, price, others, "", now)
        elif others:
            void = period.state == "invoiced" and (period.invoice is None or self._void(rows, period) is not None)
            account = account_of(price, provided, _of(rows, period, price), void=void)
            reason = f"{price.meter or price.key} {_days(period)}: given back before the invoice of it was voided"
            self._bring(rows, period, account, credited(account), reason, None, now, late=False)

    def _bill(
        self, rows: Repositories, period: BillingPeriod, price: Price, given: Sequence[Adjustment], how: str, now: int
    ) -> None:
        """Bill what was given away, for what it was worth."""
        if not given:
            return
        for one in given:
            rows.adjustments.change(replace(one, state="carried_forward"))
        units, amount = together(given).units, together(given).amount
        invoices = ", ".join(dict.fromkeys(one.invoice for one in given if one.invoice))
        reason = (
            f"{format_quantity(units)} {price.meter or price.key} {_days(period)}: invoice {invoices} was voided{how}"
        )
        self._owe(rows, period, price, units, amount, reason, None, now)

    # the parts

    def _bring(
        self,
        rows: Repositories,
        period: BillingPeriod,
        account: Account,
        made: Change,
        reason: str,
        invoice: str | None,
        now: int,
        *,
        late: bool,
    ) -> None:
        """Write down what another total makes. `late`: after finalisation, when small amounts may be written off."""
        for state, given in made.given.items():
            back = self._adjustment(period, account.price, given.units, given.amount, reason, now)
            rows.adjustments.add(replace(back, state=state))
        if not made.quantity and not made.amount:
            return
        if late and writes_off(_least(rows, account.price.currency), made.amount, _written(rows, period)):
            small = self._adjustment(period, account.price, made.quantity, made.amount, reason, now)
            rows.adjustments.add(replace(small, state="written_off"))
            return
        self._owe(rows, period, account.price, made.quantity, made.amount, reason, invoice, now)

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
        adjustment = self._adjustment(period, price, quantity, amount, reason, now)
        self.owe(rows, replace(adjustment, invoice=invoice), period, now)

    def _adjustment(
        self, period: BillingPeriod, price: Price, quantity: Decimal, amount: Decimal, reason: str, now: int
    ) -> Adjustment:
        return Adjustment(
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
        )

    def _send(
        self, rows: Repositories, adjustment: Adjustment, period: BillingPeriod, now: int, attempt: str = "line"
    ) -> str:
        """Put it into the outbox: a line, or, of a customer whose contracts have ended, a credit note. The message's id."""
        payload: dict[str, object] = {
            "amount": format(adjustment.amount, "f"),
            "currency": adjustment.currency,
            "description": adjustment.reason,
            "invoice": adjustment.invoice,
            "start": period.start,
            "end": period.end,
        }
        topic = INVOICE_LINE
        if adjustment.amount < 0 and adjustment.invoice is None and _ended(rows, period.environment, period.customer):
            charged = self._charged_on(rows, period)
            if charged is not None:  # there is no next invoice that it would lower
                topic = CREDIT_NOTE
                payload |= {"amount": format(-adjustment.amount, "f"), "invoice": charged}
        return self._message(rows, adjustment, payload, attempt, now, topic)

    def _charged_on(self, rows: Repositories, period: BillingPeriod) -> str | None:
        """The invoice that charges the usage of a period: its own, or, where that was voided, the newest that an adjustment stands on."""
        if period.state == "invoiced" and self._void(rows, period) is None:
            return period.invoice
        lines = [one for one in _written(rows, period) if one.state == "sent" and one.amount > 0]
        return next((one.invoice for one in reversed(lines) if one.invoice is not None), None)

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


def _ended_paused(rows: Repositories, period: BillingPeriod) -> bool:
    """Whether there is no invoice of a period since its contract ended in a pause."""
    if period.provider is None or period.state != "invoiced" or period.invoice is not None:
        return False
    bought = rows.provider_subscriptions.get(period.provider, period.environment, period.subscription)
    return bought is not None and bought.paused


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


def _held(rows: Repositories, adjustment: Adjustment) -> bool:
    """Whether the customer's next invoice would be voided, since the contract is paused."""
    return held(rows.provider_subscriptions.of(adjustment.environment, adjustment.customer))


def _written(rows: Repositories, period: BillingPeriod) -> Sequence[Adjustment]:
    return rows.adjustments.of(period.environment, period.customer, period.start)


def _of(rows: Repositories, period: BillingPeriod, price: Price) -> Sequence[Adjustment]:
    return [one for one in _written(rows, period) if one.price == price.key]


def _is_void(rows: Repositories, environment: Environment, invoice: str | None) -> Invoice | None:
    """The invoice, if it was voided."""
    found = rows.invoices.get(environment, invoice) if invoice is not None else None
    return found if found is not None and found.status == "void" else None


def _least(rows: Repositories, currency: str) -> Decimal | None:
    """The catalog's `write_off`, which is in its own currency."""
    current = rows.catalog.current()
    return current.catalog.write_off if current is not None and current.catalog.currency == currency else None


def _before(account: Account) -> str:
    said = f"{format_quantity(account.billed)} of it billed before"
    given = account.total - account.billed
    return f"{said}, {format_quantity(given)} given away" if given else said


def _days(period: BillingPeriod) -> str:
    return f"{_day(period.start)} to {_day(period.end)}"


def _day(instant: int) -> str:
    return datetime.fromtimestamp(instant // 1_000_000, UTC).date().isoformat()
