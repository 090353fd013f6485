"""What follows from what was read at the provider: contract, limits, periods; what is kept of it is `services.subscription_records`.

`apply` writes what was read outside any transaction inside one, and then everything that follows from all that is
kept (`core.subscriptions`), so that it does not matter which event brought what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from tollkeeper.core.billing import BillingPeriod
from tollkeeper.core.customers import Customer, Environment, Subscription
from tollkeeper.core.ids import new_id
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.periods import SECOND_US
from tollkeeper.core.plans import DEFAULT_GRACE_DAYS, Plan, Price
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.core.purchases import Purchase
from tollkeeper.core.subscriptions import (
    GRANTS,
    Contract,
    KnownSubscription,
    Span,
    carried_from,
    govern,
    grace_end,
    held,
    timeline,
)
from tollkeeper.services.adjustments import Adjustments
from tollkeeper.services.clock import Clock
from tollkeeper.services.subscription_records import Read, Records

SILENT_US: Final = 3600 * SECOND_US
"""After the end of a contract, until a last invoice that has not come does not come any more."""
SILENT_LOOKED_FOR_US: Final = 40 * 86_400 * SECOND_US


class Books(Protocol):
    """What becomes of the usage of a period as its invoice is made and finalised: `services.reports.Reports`."""

    def close(self, rows: Repositories, environment: Environment, customer: str, start: int, invoice: str) -> int: ...

    def finalised(
        self, rows: Repositories, environment: Environment, customer: str, start: int, invoice: str | None, at: int
    ) -> None: ...

    def reopened(self, rows: Repositories, environment: Environment, customer: str, start: int) -> None: ...


class Subscriptions:
    """`on_change(customer)` runs after each commit that changes what a customer may do; `activated` counts purchases that were paid."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        on_change: Callable[[str | None], None],
        books: Books,
        provider: str = "stripe",
    ) -> None:
        self._database = database
        self._clock = clock
        self._on_change = on_change
        self._books = books
        self._adjustments = Adjustments(clock)
        self.provider = provider
        self._records = Records(provider, self._adjustments)
        self.activated = 0
        self.lapsed = 0

    def apply(self, rows: Repositories, environment: Environment, read: Read, now: int) -> str | None:
        """Write what was read and what follows from it, in this transaction; the customer, None when it is nobody's here."""
        customer = self._records.customer(rows, environment, read)
        if customer is None:
            return None
        waited = held(rows.provider_subscriptions.of(environment, customer))
        for subscription in read.subscriptions:
            self._records.keep_subscription(rows, environment, customer, subscription, read.begun, now)
        if read.ended is not None:
            self._records.keep_end(rows, environment, *read.ended)
        voided = [
            invoice.id
            for invoice in read.invoices
            if self._records.keep_invoice(rows, environment, customer, invoice, read.begun, now)
        ]
        if read.gone is not None and self._records.keep_deleted(rows, environment, read.gone, now):
            voided.append(read.gone)
        if read.charge is not None:
            self._records.keep_charge(rows, environment, read.charge, read.dispute)
        if self._records.keep_purchase(rows, environment, customer, read, now):
            self.activated += 1
        self.settle(rows, environment, customer, now)
        for id in voided:
            self._adjustments.voided(rows, environment, customer, id)
        if waited and not held(rows.provider_subscriptions.of(environment, customer)):
            self._adjustments.release(rows, environment, customer, now)
        return customer

    def after_commit(self, customer: str) -> Callable[[], None]:
        return lambda: self._on_change(customer)

    def settle(self, rows: Repositories, environment: Environment, customer: str, now: int) -> None:
        """Bring contract and periods of a customer to what follows from everything that is kept. Twice is as once."""
        record = rows.customers.get(customer)
        if record is None:
            return
        invoices = rows.invoices.of(environment, customer)
        purchases = rows.purchases.of(environment, customer)
        bought = [
            self._with_grace(rows, one, invoices) for one in rows.provider_subscriptions.of(environment, customer)
        ]
        contract = govern(bought, purchases, invoices, now)
        governing = next((one for one in bought if contract is not None and one.id == contract.source), None)
        periods = self._periods(rows, environment, customer, bought, governing, invoices, now)
        carried = carried_from(periods, governing) if governing is not None else None
        ours = self._subscribe(rows, record, environment, contract, carried, bought, purchases, now)
        for one in bought:
            if contract is not None and one.id == contract.source:
                one = replace(one, subscription=ours)
            rows.provider_subscriptions.put(one)
        for purchase in purchases:
            if contract is not None and purchase.id == contract.source and purchase.document.get("granted") != ours:
                rows.purchases.put(replace(purchase, document={**purchase.document, "granted": ours}))
        self._adjustments.last(rows, environment, customer, now)

    def lapse(self) -> bool:
        """Refuse those whose grace has ended; for the runner."""
        now = self._clock.now_us()
        with self._database.read() as rows:
            due = {(one.environment, one.customer) for one in rows.provider_subscriptions.in_grace(now)}
            current = rows.subscriptions.current(sorted({customer for _, customer in due}))
        late = [
            (environment, customer)
            for environment, customer in sorted(due)
            if any(s.environment == environment and s.status == "past_due" for s in current[customer])
        ]
        for environment, customer in late:
            with self._database.write() as rows:
                self.settle(rows, environment, customer, self._clock.now_us())
            self.lapsed += 1
            self._on_change(customer)
        return False

    def close_ends(self) -> bool:
        """Periods of contracts that ended without a last invoice: what is rated here is owed all the same. For the runner."""
        now = self._clock.now_us()
        with self._database.read() as rows:
            found = rows.periods.unbilled_ends(self.provider, now - SILENT_LOOKED_FOR_US, now - SILENT_US)
        for environment, customer in found:
            with self._database.write() as rows:
                self.settle(rows, environment, customer, self._clock.now_us())
        return False

    # what follows

    @staticmethod
    def _with_grace(rows: Repositories, one: KnownSubscription, invoices: Sequence[Invoice]) -> KnownSubscription:
        plan = rows.catalog.plan(one.plan, one.plan_version) if one.plan and one.plan_version else None
        days = plan.grace_days if plan is not None else DEFAULT_GRACE_DAYS
        return replace(one, grace_until=grace_end(one, invoices, days))

    def _periods(
        self,
        rows: Repositories,
        environment: Environment,
        customer: str,
        bought: Sequence[KnownSubscription],
        governing: KnownSubscription | None,
        invoices: Sequence[Invoice],
        now: int,
    ) -> list[BillingPeriod]:
        real = [one for one in bought if one.status in GRANTS or one.status == "canceled"]
        running = [
            Span(one.period_start, one.period_end, one.id, one.plan, one.plan_version)
            for one in sorted(real, key=lambda one: one is governing)
            if one.plan is not None and one.plan_version is not None and (one.ended_at is not None or one is governing)
        ]
        ids = {one.id for one in real}
        billed = [span for i in invoices if i.subscription in ids for span in billed_spans(rows, i)]
        have = [p for p in rows.periods.of(environment, customer) if p.provider == self.provider]
        ends = {one.id: one.ended_at for one in real if one.ended_at is not None}
        silent = {one.id for one in real if one.ended_at is not None and one.ended_at <= now - SILENT_US}
        held = {one.id: one.held_until for one in real if one.held_until is not None}
        after = timeline(have, running, billed, ends, held, invoices, self.provider, environment, customer, silent)
        before = {p.start: p for p in have}
        for period in after:
            old = before.pop(period.start, None)
            stands = old if old is not None else replace(period, state="open", invoice=None)
            kept = replace(period, state=stands.state, invoice=stands.invoice, finalized_at=stands.finalized_at)
            if kept != old:
                rows.periods.put(kept)
            if (period.state, period.invoice) != (kept.state, kept.invoice):
                self._move(rows, period, kept, invoices)
        for start in before:
            rows.periods.remove(environment, customer, start)
        return after

    def _move(
        self, rows: Repositories, period: BillingPeriod, before: BillingPeriod, invoices: Sequence[Invoice]
    ) -> None:
        """Another state or invoice: what is left of the usage is sent when its invoice is a draft, and carried on once it is final."""
        where = (period.environment, period.customer, period.start)
        invoice = next((one for one in invoices if one.id == period.invoice), None)
        at = None if invoice is None or period.state != "invoiced" else invoice.finalized_at or invoice.created_at
        if invoice is None and period.state == "invoiced":
            at = period.end
        if before.state == "invoiced" or (at is None and invoice is None):
            if period.state == "open":
                self._books.reopened(rows, *where)
            rows.periods.move(*where, period.state, period.invoice, at)
        elif at is not None:
            self._books.finalised(rows, *where, period.invoice, at)
        elif invoice is not None:
            self._books.close(rows, *where, invoice.id)

    def _subscribe(
        self,
        rows: Repositories,
        customer: Customer,
        environment: Environment,
        contract: Contract | None,
        carried: int | None,
        bought: Sequence[KnownSubscription],
        purchases: Sequence[Purchase],
        now: int,
    ) -> str | None:
        """Our subscription as the contract has it; its id. What was not bought at the provider is replaced by what was, and else left."""
        current = next(
            (s for s in rows.subscriptions.current([customer.id])[customer.id] if s.environment == environment), None
        )
        granted = {one.subscription for one in bought} | {one.document.get("granted") for one in purchases}
        managed = current is not None and current.id in granted
        if contract is None:
            if current is not None and managed:
                ended = max((one.ended_at for one in bought if one.ended_at is not None), default=now)
                ended = max(current.started_at, min(ended, now))
                rows.subscriptions.end(environment, current.id, ended)
                self._fall_back(rows, customer, environment, ended)
            return None
        same = current is not None and (current.plan, current.plan_version) == (contract.plan, contract.plan_version)
        new = Subscription(
            id=current.id if current is not None and managed and same else self._id("sub", now),
            customer=customer.id,
            environment=environment,
            plan=contract.plan,
            plan_version=contract.plan_version,
            anchor=contract.anchor,
            zone="UTC",
            status=contract.status,
            started_at=current.started_at if current is not None and managed and same else now,
            grace_until=contract.grace_until,
            carried_from=carried,
        )
        if current is not None and managed and same:
            if new != current:
                rows.subscriptions.change(new)
            return new.id
        if current is not None:
            rows.subscriptions.end(environment, current.id, now)
        rows.subscriptions.add(new)
        return new.id

    def _fall_back(self, rows: Repositories, customer: Customer, environment: Environment, at: int) -> None:
        current = rows.catalog.current()
        plan = current.catalog.plans.get(current.catalog.fallback or "") if current is not None else None
        if plan is not None:
            rows.subscriptions.add(
                Subscription(
                    self._id("sub", at),
                    customer.id,
                    environment,
                    plan.key,
                    plan.version,
                    at,
                    customer.zone,
                    "active",
                    at,
                )
            )

    def _id(self, prefix: str, now: int) -> str:
        return new_id(prefix, now // 1000, self._clock.random_bits(80))


def billed_spans(rows: Repositories, invoice: Invoice) -> list[Span]:
    """The periods that an invoice tells of: of its metered lines, or else of what recurs."""
    found: dict[bool, list[Span]] = {True: [], False: []}
    for line in invoice.document.get("lines", ()):
        if line["plan"] is None or line["proration"] or line["period_start"] >= line["period_end"]:
            continue
        price = _price_of(rows.catalog.plan(line["plan"], line["version"]), line["key"])
        if price is not None and price.interval != "once" and invoice.subscription is not None:
            span = Span(line["period_start"], line["period_end"], invoice.subscription, line["plan"], line["version"])
            found[price.meter is not None].append(span)
    return found[True] or found[False]


def _price_of(plan: Plan | None, key: str) -> Price | None:
    return next((price for price in plan.prices if price.key == key), None) if plan is not None else None
