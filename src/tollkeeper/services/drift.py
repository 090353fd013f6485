"""Drift: ledger, reports, the provider's meters and its invoices compared all the time, kept, and repaired on request by adjustments."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from tollkeeper.core.adjusting import account_of
from tollkeeper.core.billing import Adjustment, BillingPeriod, UsageReport, summary_window
from tollkeeper.core.customers import Environment
from tollkeeper.core.drift import EXPLAINED, FAILED, DriftCheck, DriftSum, compare, expected, given_away, given_check
from tollkeeper.core.errors import NotFound
from tollkeeper.core.ids import new_id
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.outbox import DELIVERED, OutboxMessage
from tollkeeper.core.plans import Plan, Price
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.core.provider import (
    Provider,
    ProviderBusy,
    ProviderInvoice,
    ProviderRefused,
    ProviderUnavailable,
)
from tollkeeper.core.provider_catalog import price_key
from tollkeeper.core.provider_prices import rated_here
from tollkeeper.core.rating import rate
from tollkeeper.services.adjustments import Adjustments, free
from tollkeeper.services.billed_twice import advice, beside, billing_too
from tollkeeper.services.clock import Clock
from tollkeeper.services.outside import outside
from tollkeeper.services.reports import Totals
from tollkeeper.services.topics import LAG_US

logger = logging.getLogger("tollkeeper.drift")

PIECE: Final = 20
SETTLED_US: Final = 48 * 3600 * 1_000_000
"""How long after its end everything of a period has arrived."""
KEPT_US: Final = 40 * 86_400 * 1_000_000
"""Periods that ended longer ago are looked at no more once they are equal."""
SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Drifted:
    """A check with the messages and adjustments that explain it. `settled`: nothing of the period is to be expected any more."""

    check: DriftCheck
    settled: bool
    messages: Sequence[OutboxMessage] = ()
    adjustments: Sequence[Adjustment] = ()

    @property
    def alarming(self) -> bool:
        return self.check.alarming(self.settled)


class Drift:
    """`run_once` is a step: it looks at a few periods and comes round to all of them."""

    def __init__(
        self, database: Database, usage: Totals, provider: Provider, clock: Clock, *, lag_us: int = LAG_US
    ) -> None:
        self._lag_us = lag_us
        self._database = database
        self._usage = usage
        self._provider = provider
        self._clock = clock
        self._adjustments = Adjustments(clock)
        self._after: tuple[str, str, int] | None = None

    @property
    def environment(self) -> Environment:
        return self._provider.environment

    def run_once(self) -> bool:
        """Compare some periods; false when it has been round."""
        with self._database.read() as rows:
            periods = rows.periods.unsettled(self._after, PIECE)
        for period in periods:
            if period.environment == self._provider.environment and period.provider == self._provider.name:
                self.check(period)
        last = periods[-1] if periods else None
        more = len(periods) == PIECE
        self._after = (last.environment, last.customer, last.start) if more and last is not None else None
        return more

    def check_all(self) -> None:
        self._after = None
        while self.run_once():
            pass

    def check(self, period: BillingPeriod) -> list[DriftCheck]:
        """Compare one period now, and keep the result."""
        now = self._clock.now_us()
        with self._database.read() as rows:
            plan = rows.catalog.plan(period.plan, period.plan_version)
            customer = rows.customers.get(period.customer)
            before = {
                one.meter: rows.drift.get(period.environment, period.customer, one.meter, period.start)
                for one in rows.reports.of(period.environment, period.customer, period.start)
            }
            periods = [p for p in rows.periods.of(period.environment, period.customer) if p.provider == period.provider]
            bought = rows.provider_subscriptions.get(self._provider.name, period.environment, period.subscription)
            gratis = free(rows, period)
        if plan is None or customer is None:
            return []
        if (
            period.end < now - KEPT_US
            and before
            and all(one is not None and one.state in EXPLAINED for one in before.values())
        ):
            return []
        prices = [p for p in plan.prices if p.meter and p.currency == customer.currency and rated_here(p) is None]
        ended = bought is not None and bought.ended_at is not None and not bought.paused
        settled = period.state == "invoiced" or period.end < now - SETTLED_US
        uninvoiced = ended and settled and period.invoice is None and not gratis
        meters = list(dict.fromkeys(price.meter for price in prices if price.meter is not None))
        invoice = self._invoice(period)
        checks = []
        for meter in meters:
            own = [p for p in prices if p.meter == meter]
            if check := self._compare(period, meter, plan, own, invoice, uninvoiced, now):
                checks.append(check)
        others = dict.fromkeys(p.meter for p in plan.prices if p.currency == customer.currency and rated_here(p))
        given = [self._given(period, other, now) for other in others if other is not None and other not in meters]
        checks += [check for check in given if check is not None]
        with self._database.read() as rows:
            between = outside(rows, self._usage, period, periods, SETTLED_US, now)
        with self._database.write() as rows:
            self._tidy(rows, period, periods, [*meters, *(one.meter for one in checks)], between)
            for check in (*checks, *between):
                rows.drift.put(check)
                if check.state in (*EXPLAINED, "pending") and check.provider is not None:
                    rows.outbox.confirm(check.environment, check.customer, check.meter, check.period_start)
        return [*checks, *between]

    def _tidy(
        self,
        rows: Repositories,
        period: BillingPeriod,
        periods: Sequence[BillingPeriod],
        meters: Iterable[str],
        between: Sequence[DriftCheck],
    ) -> None:
        """Remove what is told of a period, or of the time after it, that is no longer so."""
        held = {(meter, period.start) for meter in meters} | {(one.meter, one.period_start) for one in between}
        others = {p.start for p in periods} | {p.until for p in periods if p.start != period.start}
        for one in rows.drift.list(period.environment, period.customer, True):
            here = one.period_start == period.start or one.period_start not in others
            if here and (one.meter, one.period_start) not in held:
                rows.drift.remove(one)

    def _compare(
        self,
        period: BillingPeriod,
        meter: str,
        plan: Plan,
        prices: Sequence[Price],
        invoice: ProviderInvoice | None,
        uninvoiced: bool,
        now: int,
    ) -> DriftCheck | None:
        where = (period.environment, period.customer, meter, period.start)
        has = self._has(period, meter)
        ledger = self._usage.period_total(meter, period.environment, period.customer, period.start, period.until)
        if ledger is None:
            return None
        with self._database.read() as rows:
            report = rows.reports.get(*where) or UsageReport(*where)
            states = rows.outbox.quantities(*where)
            messages = rows.outbox.of_period(*where, SHOWN)
            written = [one for one in rows.adjustments.of(*where[:2], period.start) if one.meter == meter]
            stands = invoice is not None and invoice.status != "void" and not free(rows, period)
            faults = self._amounts(rows, plan, prices, report, invoice) if invoice is not None and stands else ""
            twice = billing_too(rows, period, meter)
        if twice and uninvoiced:
            uninvoiced = False  # what ended was charged by the other
        elif twice:
            faults = "; ".join(filter(None, (faults, advice(twice))))
        fresh = any(one.status in DELIVERED and (one.settled_at or 0) > now - self._lag_us for one in messages)
        return compare(
            report,
            ledger,
            has,
            states,
            faults,
            period.until,
            now,
            fresh=fresh,
            measured=summary_window(period.start, period.end) is not None,
            uninvoiced=uninvoiced and report.billed is None,
            written=written,
        )

    def _given(self, period: BillingPeriod, meter: str, now: int) -> DriftCheck | None:
        """What was given away of a meter whose prices are rated here; None: nothing."""
        where = (period.environment, period.customer, meter, period.start)
        with self._database.read() as rows:
            written = [one for one in rows.adjustments.of(*where[:2], period.start) if one.meter == meter]
        ledger = self._usage.period_total(meter, period.environment, period.customer, period.start, period.until)
        if ledger is None or not any(given_away(written).values()):
            return None
        return given_check(UsageReport(*where), ledger, written, period.until, now)

    def _has(self, period: BillingPeriod, meter: str) -> Decimal | None:
        """What the provider's meter has; None where it cannot be known now."""
        window = summary_window(period.start, period.end)
        with self._database.read() as rows:
            ids = [
                rows.provider_objects.get(self._provider.name, period.environment, kind, key)
                for kind, key in (("meter", meter), ("customer", period.customer))
            ]
        if ids[0] is None or ids[1] is None or window is None:
            return None
        try:
            return self._provider.reported(ids[0].id, ids[1].id, *window)
        except (ProviderBusy, ProviderUnavailable, ProviderRefused, NotFound) as error:
            logger.warning("drift: %s", error.detail)
            return None

    def _invoice(self, period: BillingPeriod) -> ProviderInvoice | None:
        if period.state != "invoiced" or period.invoice is None:
            return None
        try:
            return self._provider.invoice(period.invoice)
        except (ProviderBusy, ProviderUnavailable, ProviderRefused, NotFound) as error:
            logger.warning("drift: %s", error.detail)
            return None

    def _amounts(
        self,
        rows: Repositories,
        plan: Plan,
        prices: Sequence[Price],
        report: UsageReport,
        invoice: ProviderInvoice,
    ) -> str:
        """Where the lines of the invoice are not what the billed quantity costs."""
        if report.billed is None:
            return ""
        found: list[str] = []
        for price in prices:
            object = rows.provider_objects.get(
                self._provider.name, report.environment, "price", price_key(plan, price.key)
            )
            lines = [line for line in invoice.lines if object is not None and line.price == object.id]
            amount = sum((line.amount for line in lines), Decimal(0))
            quantity = report.billed + beside(rows, report, lines)
            should = rate(price, quantity).amount
            if amount != should:
                found.append(
                    f"invoice {invoice.id} charges {amount} {price.currency} for {price.key}, and "
                    f"{format_quantity(quantity)} {report.meter} cost {should}"
                )
        return "; ".join(found)

    # told and repaired

    def told(self, customer: str | None = None, drifted: bool = True) -> list[Drifted]:
        """The last comparisons; `drifted`: only those that are not equal."""
        now = self._clock.now_us()
        found: list[Drifted] = []
        with self._database.read() as rows:
            for check in rows.drift.list(self.environment, customer, drifted):
                period = rows.periods.get(check.environment, check.customer, check.period_start)
                settled = period is None or period.state == "invoiced" or period.end < now - SETTLED_US
                messages = rows.outbox.of_period(
                    check.environment, check.customer, check.meter, check.period_start, SHOWN
                )
                written = rows.adjustments.of(check.environment, check.customer, check.period_start)
                found.append(Drifted(check, settled, messages, [one for one in written if one.meter == check.meter]))
        return found

    def sums(self) -> Mapping[tuple[str, str], DriftSum]:
        """The last comparisons by meter and state."""
        with self._database.read() as rows:
            return rows.drift.sums(self.environment)

    def repair(self, customer: str | None = None, *, voided: bool = False) -> list[Adjustment]:
        """Bill what the provider is short of, or has no invoice for, and give back what it has too much, by signed adjustments that say so.

        Only where nothing is on its way or in doubt. `voided`: bill what stood on voided invoices, too. The adjustments that were made.
        """
        made: list[Adjustment] = []
        for one in self.told(customer):
            if one.check.state in ("refused", "unexplained"):
                made += self._repair(one.check)
            elif one.check.state == "uninvoiced" and one.settled:
                made += self._write_up(one.check)
            if voided and any(other.state == "voided" for other in one.adjustments):
                made += self._bill_voided(one)
        return made

    def _write_up(self, before: DriftCheck) -> list[Adjustment]:
        """Bill a period whose contract ended without an invoice: all of it is carried forward."""
        where = (before.environment, before.customer, before.period_start)
        with self._database.read() as rows:
            period = rows.periods.get(*where)
            customer = rows.customers.get(before.customer)
            plan = rows.catalog.plan(period.plan, period.plan_version) if period is not None else None
        if period is None or plan is None or customer is None or period.invoice is not None:
            return []

        def total(period: BillingPeriod, meter: str) -> Decimal | None:
            return self._usage.period_total(meter, period.environment, period.customer, period.start, period.until)

        prices = [p for p in plan.prices if p.meter and p.currency == customer.currency and rated_here(p) is None]
        totals = {meter: total(period, meter) for meter in dict.fromkeys(p.meter for p in prices if p.meter)}
        now = self._clock.now_us()
        with self._database.write() as rows:
            known = {one.id for one in rows.adjustments.of(*where)}
            rows.periods.move(*where, "invoiced", None, period.end)
            invoiced = replace(period, state="invoiced", invoice=None, finalized_at=period.end)
            for meter, quantity in totals.items():
                report = rows.reports.get(before.environment, before.customer, meter, period.start)
                report = report or UsageReport(before.environment, before.customer, meter, period.start)
                if report.billed is None:
                    report = replace(report, billed=Decimal(0))
                    rows.reports.put(report, now)
                if quantity is not None:
                    own = [price for price in prices if price.meter == meter]
                    self._adjustments.carry(rows, invoiced, report, own, quantity, report.seq, now)
            self._adjustments.rated_here(rows, invoiced, total, now)
            made = [one for one in rows.adjustments.of(*where) if one.id not in known]
        self.check(invoiced)
        return made

    def _bill_voided(self, drifted: Drifted) -> list[Adjustment]:
        """Carry forward what is voided of a customer, meter and period."""
        check = drifted.check
        waiting = self._waiting_again(drifted.adjustments)
        now = self._clock.now_us()
        with self._database.write() as rows:
            period = rows.periods.get(check.environment, check.customer, check.period_start)
            plan = rows.catalog.plan(period.plan, period.plan_version) if period is not None else None
            if period is None or plan is None:
                return []
            before = {one.id for one in rows.adjustments.of(check.environment, check.customer, check.period_start)}
            for one in waiting:
                rows.adjustments.change(replace(one, state="sent", invoice=None))
            for price in plan.prices:
                if price.meter == check.meter:
                    self._adjustments.bill_voided(rows, period, price, now)
            self._adjustments.last(rows, check.environment, check.customer, now)
            written = rows.adjustments.of(check.environment, check.customer, check.period_start)
        self.check(period)
        return [one for one in written if one.id not in before]

    def _waiting_again(self, adjustments: Sequence[Adjustment]) -> list[Adjustment]:
        """Lines of a draft that was deleted, and which the provider has nevertheless: they go on the next invoice."""
        found: list[Adjustment] = []
        for one in adjustments:
            if one.state != "voided" or one.outbox is None or one.invoice is None:
                continue
            with self._database.read() as rows:
                invoice = rows.invoices.get(one.environment, one.invoice)
                customer = rows.provider_objects.get(self._provider.name, one.environment, "customer", one.customer)
            if invoice is None or customer is None or not invoice.document.get("deleted"):
                continue
            if self._provider.find_line(customer.id, one.outbox) is not None:
                found.append(one)
        return found

    def _repair(self, before: DriftCheck) -> list[Adjustment]:
        where = (before.environment, before.customer, before.meter, before.period_start)
        with self._database.read() as rows:
            period = rows.periods.get(before.environment, before.customer, before.period_start)
        if period is None:
            return []
        has = self._has(period, before.meter)
        now = self._clock.now_us()
        made: list[Adjustment] = []
        with self._database.write() as rows:
            report, plan = rows.reports.get(*where), rows.catalog.plan(period.plan, period.plan_version)
            customer = rows.customers.get(period.customer)
            states = rows.outbox.quantities(*where)
            waiting = any(states.get(status) for status in ("queued", "pending", "sending", "unknown"))
            if report is None or plan is None or customer is None or has is None or waiting:
                return []
            failed = sum((states.get(status, Decimal(0)) for status in FAILED), Decimal(0))
            short = expected(report, states) - has + failed
            if report.billed is not None or not short:
                return []  # after finalisation what is short is carried forward by itself
            rows.outbox.set_aside(*where, now)
            for price in () if free(rows, period) else plan.prices:
                if price.meter != before.meter or price.currency != customer.currency or rated_here(price) is not None:
                    continue
                written = rows.adjustments.of(period.environment, period.customer, period.start)
                account = account_of(price, report.reported - short, written)
                amount = account.cost(account.total + short) - account.worth
                adjustment = Adjustment(
                    environment=before.environment,
                    id=new_id("adj", now // 1000, self._clock.random_bits(80)),
                    customer=before.customer,
                    amount=amount,
                    currency=price.currency,
                    reason=(
                        f"{before.meter}: the payment provider has {format_quantity(has)} where "
                        f"{format_quantity(has + short)} were reported"
                    ),
                    created_at=now,
                    meter=before.meter,
                    period_start=before.period_start,
                    price=price.key,
                    quantity=short,
                )
                self._adjustments.owe(rows, adjustment, period, now)
                made.append(adjustment)
            rows.reports.put(
                replace(
                    report,
                    reported=report.reported - short,
                    carried=report.carried + short,
                    revision=report.revision + 1,
                ),
                now,
            )
        self.check(period)
        return made
