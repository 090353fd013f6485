"""Invoices: those of the provider as they were read, and, without a provider, our own: issued when a period has ended, or shown ahead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, Protocol

from tollkeeper.core.billing import BillingPeriod
from tollkeeper.core.customers import Customer, Environment
from tollkeeper.core.errors import Conflict, NotFound
from tollkeeper.core.ids import new_id
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.own_invoices import Held, OwnLine, OwnPeriod, UsageUnknown, corrections, lines, periods
from tollkeeper.core.periods import SECOND_US, period_at
from tollkeeper.core.plans import Price
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.core.shadow import ALL
from tollkeeper.services import fields
from tollkeeper.services.clock import Clock
from tollkeeper.services.fields import Page

logger = logging.getLogger("tollkeeper.invoicing")

ENVIRONMENT: Final[Environment] = "live"
"""Usage of test keys is billed to nobody."""
MARK: Final = "own_invoices"
SETTLE_US: Final = 3600 * SECOND_US
"""After a period's end, for events that were on their way; later ones are corrections."""
CUSTOMERS: Final = 100
CORRECTED_US: Final = 70 * 86_400 * SECOND_US
"""How far back an issued invoice is compared with the usage: the 35 days in which events are taken, after a month."""


class PeriodUsage(Protocol):
    """`services.usage.Usage` as far as it is needed here."""

    def period_total(
        self, meter: str, environment: Environment, customer: str, start: int, end: int
    ) -> Decimal | None: ...


class Invoicing:
    """`issued` counts the invoices made here."""

    def __init__(self, database: Database, usage: PeriodUsage, clock: Clock) -> None:
        self._database = database
        self._usage = usage
        self._clock = clock
        self._cursor: str | None = None
        self.issued = 0

    # reading

    def page(
        self,
        environment: Environment,
        customer: str | None = None,
        status: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Invoice]:
        """Newest first."""
        before, limit = fields.page_bounds(cursor, limit)
        with self._database.read() as rows:
            found = rows.invoices.list(environment, customer, status, before, limit + 1)
        return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)

    def get(self, environment: Environment, invoice: str) -> Invoice:
        """Raises NotFound."""
        with self._database.read() as rows:
            found = rows.invoices.get(environment, invoice) if fields.is_identifier(invoice) else None
        if found is None:
            raise NotFound(f"There is no invoice {str(invoice)[:80]!r} in {environment}.")
        return found

    # our own

    def run_once(self) -> bool:
        """Issue what is due for some customers; true when there are more of them. Only without a provider."""
        now = self._clock.now_us()
        with self._database.write() as rows:
            since = rows.watermarks.get(MARK)
            if since is None:  # what ended before invoicing began is nobody's business here
                rows.watermarks.set(MARK, since := now, now)
        with self._database.read() as rows:
            found = rows.customers.list(self._cursor, CUSTOMERS)
        for customer in found:
            self.issue(customer.id, since, now)
        self._cursor = found[-1].id if len(found) == CUSTOMERS else None
        return self._cursor is not None

    def issue(self, customer: str, since: int, now: int) -> Sequence[Invoice]:
        """The invoices of a customer's periods that ended after `since` and have none; nothing twice."""
        made: list[Invoice] = []
        with self._database.read() as rows:
            waiting = self._waiting(rows, customer, since, now)
        for period in waiting:
            with self._database.write() as rows:
                record = rows.customers.get(customer)
                if record is None or rows.periods.get(ENVIRONMENT, customer, period.start) is not None:
                    continue
                try:
                    charged = self._charged(rows, record, period)
                except UsageUnknown as unknown:
                    logger.warning("no invoice for %s yet: %s is not known", customer, unknown)
                    break
                invoice = self._put(rows, record, period, charged, now) if charged else None
                rows.periods.put(_billing_period(customer, period, invoice, None if _tried(rows, period) else now))
            if invoice is not None:
                self.issued += 1
                made.append(invoice)
        return made

    def preview(self, customer: str) -> Invoice:
        """The invoice of the running period as it would be at its end, with the usage so far. Raises NotFound, Conflict."""
        now = self._clock.now_us()
        with self._database.read() as rows:
            record = rows.customers.get(customer) if fields.is_identifier(customer) else None
            if record is None:
                raise NotFound(f"There is no customer {str(customer)[:80]!r}.")
            held = self._held(rows, customer)
            if not held or held[-1].subscription.ended_at is not None:
                raise Conflict(f"{customer} has no plan in {ENVIRONMENT}, so there is nothing to invoice.")
            one = held[-1].subscription
            _, end = period_at(one.anchor, one.zone, now)
            (period,) = periods(held, end - 1, end)
            try:
                charged = self._charged(rows, record, period)
            except UsageUnknown as unknown:
                raise Conflict(f"Usage is not known: {unknown}.") from None
            return self._invoice(record, period, charged, now, "", "draft", None)

    def settle(self, invoice: str, status: str) -> Invoice:
        """Write down that one of our own was paid, is void, or will not be paid. Raises NotFound, Conflict."""
        now = self._clock.now_us()
        with self._database.write() as rows:
            found = rows.invoices.get(ENVIRONMENT, invoice) if fields.is_identifier(invoice) else None
            if found is None:
                raise NotFound(f"There is no invoice {str(invoice)[:80]!r} in {ENVIRONMENT}.")
            if found.provider is not None:
                raise Conflict(f"{invoice} is {found.provider}'s; it is paid and voided there.")
            if found.status == status:
                return found
            if found.status not in ("open", "uncollectible"):
                raise Conflict(f"{invoice} is {found.status} already.")
            paid = status == "paid"
            found = replace(
                found,
                status=status,
                amount_paid=found.total if paid else found.amount_paid,
                paid_at=now if paid else found.paid_at,
            )
            rows.invoices.put(found)
        return found

    def _waiting(self, rows: Repositories, customer: str, since: int, now: int) -> list[OwnPeriod]:
        if rows.provider_subscriptions.of(ENVIRONMENT, customer):
            return []  # the provider's invoices bill this one
        done = {period.start for period in rows.periods.of(ENVIRONMENT, customer)}
        found = periods(self._held(rows, customer), since, now - SETTLE_US)
        return [period for period in found if period.start not in done]

    @staticmethod
    def _held(rows: Repositories, customer: str) -> list[Held]:
        found = []
        for one in rows.subscriptions.history(customer):
            plan = rows.catalog.plan(one.plan, one.plan_version) if one.environment == ENVIRONMENT else None
            end = one.ended_at if one.ended_at is not None else 1 << 60
            if plan is not None and one.started_at < end:
                found.append(Held(one, plan, one.started_at - one.started_at % SECOND_US, end - end % SECOND_US))
        return [one for one in found if one.start < one.end]

    def _charged(self, rows: Repositories, customer: Customer, period: OwnPeriod) -> list[OwnLine]:
        if _tried(rows, period):
            return []
        usage = self._used(customer.id)
        charged = [line for line in lines(period, customer.currency, usage) if line.amount or line.quantity]
        return [*charged, *corrections(*self._billed(rows, customer.id, period), usage)]

    def _used(self, customer: str) -> Callable[[str, int, int], Decimal | None]:
        def used(meter: str, start: int, end: int) -> Decimal | None:
            try:
                return self._usage.period_total(meter, ENVIRONMENT, customer, start, end)
            except NotFound:  # a meter that was never in force has counted nothing
                return None

        return used

    @staticmethod
    def _billed(
        rows: Repositories, customer: str, period: OwnPeriod
    ) -> tuple[dict[tuple[int, int, str], Decimal], dict[tuple[int, int, str], Price]]:
        """What of usage was billed before by our own invoices of the last weeks, as it was told last."""
        billed: dict[tuple[int, int, str], Decimal] = {}
        prices: dict[tuple[int, int, str], Price] = {}
        record = rows.customers.get(customer)
        assert record is not None
        invoices = [one for one in rows.invoices.of(ENVIRONMENT, customer) if one.provider is None]
        void = {one.id for one in invoices if one.status == "void"}
        for one in rows.periods.of(ENVIRONMENT, customer):
            late = one.start < period.start and one.end >= period.end - CORRECTED_US
            if one.provider is not None or one.finalized_at is None or one.invoice in void or not late:
                continue
            plan = rows.catalog.plan(one.plan, one.plan_version)
            for price in plan.prices if plan is not None else ():
                if price.meter is not None and price.interval == "month" and price.currency == record.currency:
                    where = (one.start, one.end, price.key)
                    billed[where], prices[where] = Decimal(0), price  # without usage there is no line
        for invoice in invoices:
            for line in invoice.document["lines"] if invoice.id not in void else ():
                where = (line["period_start"], line["period_end"], line["key"])
                if line["quantity"] is None or line["period_end"] < period.end - CORRECTED_US:
                    continue
                if where not in prices and (priced := _price_of(rows, invoice, line)) is not None:
                    prices[where] = priced
                if where in prices:
                    billed[where] = Decimal(line["quantity"])
        return billed, prices

    def _put(
        self, rows: Repositories, customer: Customer, period: OwnPeriod, charged: Sequence[OwnLine], now: int
    ) -> Invoice:
        number = f"INV-{rows.invoices.numbers() + 1:06d}"
        id = new_id("inv", now // 1000, self._clock.random_bits(80))
        invoice = self._invoice(customer, period, charged, now, id, "open", number)
        if invoice.total == 0:
            invoice = replace(invoice, status="paid", paid_at=now)
        rows.invoices.put(invoice)
        return invoice

    @staticmethod
    def _invoice(
        customer: Customer,
        period: OwnPeriod,
        charged: Sequence[OwnLine],
        now: int,
        id: str,
        status: str,
        number: str | None,
    ) -> Invoice:
        return Invoice(
            environment=ENVIRONMENT,
            id=id,
            provider=None,
            customer=customer.id,
            subscription=period.held[-1].subscription.id,
            number=number,
            status=status,
            currency=customer.currency,
            total=sum((line.amount for line in charged), Decimal(0)),
            amount_paid=Decimal(0),
            period_start=period.start,
            period_end=period.end,
            created_at=now,
            finalized_at=None if status == "draft" else now,
            document={
                "lines": [line.as_dict() for line in charged],
                "plan": period.plan.key,
                "plan_version": period.plan.version,
            },
        )


def _price_of(rows: Repositories, invoice: Invoice, line: Mapping[str, Any]) -> Price | None:
    """The price by which a line of usage was rated."""
    told = line if line.get("plan") else invoice.document
    plan = rows.catalog.plan(told["plan"], told.get("version") or invoice.document["plan_version"])
    prices = plan.prices if plan is not None else ()
    return next((one for one in prices if one.key == line["key"] and one.meter is not None), None)


def _tried(rows: Repositories, period: OwnPeriod) -> bool:
    """A plan that is tried out bills nobody."""
    current = rows.catalog.current()
    shadow = current.catalog.shadow if current is not None else ()
    return ALL in shadow or period.plan.key in shadow


def _billing_period(customer: str, period: OwnPeriod, invoice: Invoice | None, billed: int | None) -> BillingPeriod:
    """`billed` None: nothing of it is, and nothing that comes late will be."""
    return BillingPeriod(
        ENVIRONMENT,
        customer,
        period.start,
        period.end,
        None,
        period.held[-1].subscription.id,
        period.plan.key,
        period.plan.version,
        "invoiced",
        invoice.id if invoice is not None else None,
        billed,
    )
