"""What was bought at the provider, kept as it was last read, and what follows from it: contract, limits, periods, invoices, purchases.

`read` asks the provider outside any transaction; `apply` writes what was read inside one, and then everything that follows from all that is
kept (`core.subscriptions`), so that it does not matter which event brought what.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from tollkeeper.core.billing import BillingPeriod
from tollkeeper.core.customers import Customer, Environment, Subscription
from tollkeeper.core.ids import new_id
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.periods import SECOND_US
from tollkeeper.core.plans import DEFAULT_GRACE_DAYS, Plan, Price
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.core.provider import (
    ProviderCharge,
    ProviderCheckout,
    ProviderDispute,
    ProviderInvoice,
    ProviderLine,
    ProviderSubscription,
)
from tollkeeper.core.purchases import Purchase
from tollkeeper.core.subscriptions import (
    GRANTS,
    Contract,
    KnownSubscription,
    Span,
    carried_from,
    dispute_after,
    govern,
    grace_end,
    held,
    known,
    newer,
    timeline,
    voided_by_pause,
)
from tollkeeper.services.adjustments import Adjustments
from tollkeeper.services.clock import Clock

logger = logging.getLogger("tollkeeper.subscriptions")

SILENT_US: Final = 3600 * SECOND_US
"""After the end of a contract, until a last invoice that has not come does not come any more."""
SILENT_LOOKED_FOR_US: Final = 40 * 86_400 * SECOND_US

PURCHASE: Final = "tollkeeper_purchase"
"""In the metadata of what a checkout made: our id of the purchase."""
_SETTLED: Final = frozenset({"paid", "void"})


@dataclass(frozen=True, slots=True)
class Read:
    """What the provider has now, read from `begun` (µs) on. `gone`: an invoice that it has no longer; `ended`: a subscription whose end
    its event told, and when."""

    begun: int
    subscriptions: Sequence[ProviderSubscription] = ()
    invoices: Sequence[ProviderInvoice] = ()
    checkout: ProviderCheckout | None = None
    charge: ProviderCharge | None = None
    dispute: ProviderDispute | None = None
    gone: str | None = None
    ended: tuple[str, int] | None = None
    failed: bool = False

    @property
    def customer(self) -> str | None:
        """The provider's id of whom it is about."""
        found: list[str | None] = [one.customer for one in self.subscriptions]
        found += [one.customer for one in self.invoices]
        found += [self.checkout.customer] if self.checkout is not None else []
        found += [self.charge.customer] if self.charge is not None else []
        return next((customer for customer in found if customer), None)

    @property
    def purchase(self) -> str | None:
        """Our id of the purchase that it came from."""
        told = [one.metadata for one in self.subscriptions]
        told += [self.checkout.metadata] if self.checkout is not None else []
        return next((metadata[PURCHASE] for metadata in told if PURCHASE in metadata), None)


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
        self.activated = 0
        self.lapsed = 0

    def apply(self, rows: Repositories, environment: Environment, read: Read, now: int) -> str | None:
        """Write what was read and what follows from it, in this transaction; the customer, None when it is nobody's here."""
        customer = self._customer(rows, environment, read)
        if customer is None:
            return None
        waited = held(rows.provider_subscriptions.of(environment, customer))
        for subscription in read.subscriptions:
            self._keep_subscription(rows, environment, customer, subscription, read.begun, now)
        if read.ended is not None:
            self._keep_end(rows, environment, *read.ended)
        voided = [
            invoice.id
            for invoice in read.invoices
            if self._keep_invoice(rows, environment, customer, invoice, read.begun, now)
        ]
        if read.gone is not None and self._keep_deleted(rows, environment, read.gone, now):
            voided.append(read.gone)
        if read.charge is not None:
            self._keep_charge(rows, environment, read.charge, read.dispute)
        self._keep_purchase(rows, environment, customer, read, now)
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

    # what was read

    def _customer(self, rows: Repositories, environment: Environment, read: Read) -> str | None:
        if read.customer is not None:
            found = rows.provider_objects.by_id(self.provider, environment, "customer", read.customer)
            if found is not None:
                return found.key
        for one in read.subscriptions:  # known from before, when the provider's customer was another
            if (have := rows.provider_subscriptions.get(self.provider, environment, one.id)) is not None:
                return have.customer
        if read.ended is not None:
            have = rows.provider_subscriptions.get(self.provider, environment, read.ended[0])
            if have is not None:
                return have.customer
        for invoice in read.invoices:
            if (kept := rows.invoices.get(environment, invoice.id)) is not None:
                return kept.customer
        purchase = rows.purchases.get(environment, read.purchase) if read.purchase else None
        if purchase is not None and self._may_be(rows, environment, purchase.customer, read.customer):
            return purchase.customer
        lost = rows.invoices.get(environment, read.gone) if read.gone else None
        if lost is None:
            logger.info("an event about a customer that is not ours", extra={"provider_customer": read.customer})
        return lost.customer if lost else None

    def _may_be(self, rows: Repositories, environment: Environment, customer: str, theirs: str | None) -> bool:
        """Metadata can be written by hand or copied: it says nothing of somebody else than the provider's customer that we made."""
        held = rows.provider_objects.get(self.provider, environment, "customer", customer)
        return theirs is None or held is None or held.id == theirs

    def _keep_subscription(
        self,
        rows: Repositories,
        environment: Environment,
        customer: str,
        read: ProviderSubscription,
        begun: int,
        now: int,
    ) -> None:
        plan = self._plan_of(rows, environment, [item.price for item in read.items])
        have = rows.provider_subscriptions.get(self.provider, environment, read.id)
        ours = [item for item in read.items if self._price(rows, environment, item.price) is not None]
        found = known(self.provider, environment, customer, plan, read, begun, ours)
        kept = newer(have, found, now, held=have is not None and _held(rows, have))
        if kept is not None:
            rows.provider_subscriptions.put(kept)

    def _keep_end(self, rows: Repositories, environment: Environment, subscription: str, at: int) -> None:
        have = rows.provider_subscriptions.get(self.provider, environment, subscription)
        if have is not None and have.ended_at is None:
            rows.provider_subscriptions.put(replace(have, status="canceled", ended_at=at))

    def _plan_of(self, rows: Repositories, environment: Environment, prices: Sequence[str]) -> tuple[str, int] | None:
        """The plan version that most of the prices are of; None when none of them is ours."""
        found: dict[tuple[str, int], int] = {}
        for price in prices:
            if (named := self._price(rows, environment, price)) is not None:
                found[named[0]] = found.get(named[0], 0) + 1
        return max(found, key=lambda plan: (found[plan], plan)) if found else None

    def _price(
        self, rows: Repositories, environment: Environment, price: str | None
    ) -> tuple[tuple[str, int], str] | None:
        """Plan version and key of a provider's price."""
        held = rows.provider_objects.by_id(self.provider, environment, "price", price) if price else None
        return None if held is None else read_price_key(held.key)

    def _keep_invoice(
        self, rows: Repositories, environment: Environment, customer: str, read: ProviderInvoice, begun: int, now: int
    ) -> bool:
        """Whether it is void, and was not before."""
        have = rows.invoices.get(environment, read.id)
        before = dict(have.document) if have is not None else {}
        if have is not None and (have.status in _SETTLED or begun < before.get("read_at", 0) <= now):
            return False
        contract = None
        if read.status == "void" and read.subscription is not None:
            contract = rows.provider_subscriptions.get(self.provider, environment, read.subscription)
        lines = [_line(line, self._price(rows, environment, line.price)) for line in read.lines]
        document = {
            **before,
            "read_at": begun,
            "reason": read.reason,
            "hosted_url": read.hosted_url,
            "amount_due": format(read.amount_due, "f"),
            "next_attempt_at": read.next_attempt_at,
            "paused": voided_by_pause(contract, read.finalized_at, read.voided_at),
            "lines": lines,
        }
        rows.invoices.put(
            Invoice(
                environment=environment,
                id=read.id,
                provider=self.provider,
                customer=customer,
                subscription=read.subscription,
                number=read.number,
                status=read.status,
                currency=read.currency,
                total=read.total,
                amount_paid=read.amount_paid,
                period_start=read.period_start,
                period_end=read.period_end,
                created_at=read.created_at,
                finalized_at=read.finalized_at,
                paid_at=read.paid_at,
                document=document,
            )
        )
        self._adjustments.placed(rows, [line.reference for line in read.lines if line.reference], read.id)
        return read.status == "void"

    @staticmethod
    def _keep_deleted(rows: Repositories, environment: Environment, invoice: str, now: int) -> bool:
        """A draft was deleted: as one that was voided in that moment. Whether there was one."""
        lost = rows.invoices.get(environment, invoice)
        if lost is None or lost.status in _SETTLED:
            return False
        document = {**lost.document, "deleted": True}
        rows.invoices.put(replace(lost, status="void", finalized_at=lost.finalized_at or now, document=document))
        return True

    def _keep_charge(
        self, rows: Repositories, environment: Environment, charge: ProviderCharge, dispute: ProviderDispute | None
    ) -> None:
        """Refunds and disputes stand at the invoice that was paid. What is refunded only grows."""
        invoice = rows.invoices.get(environment, charge.invoice) if charge.invoice else None
        if invoice is None:
            return
        document = {**invoice.document, "payment": charge.payment}
        if charge.refunded > invoice.refunded:
            document["refunded"] = format(charge.refunded, "f")
        if dispute is not None:
            disputes = dict(invoice.disputes)
            disputes[dispute.id] = dispute_after(disputes.get(dispute.id), dispute.status)
            document["disputes"] = disputes
        rows.invoices.put(replace(invoice, document=document))

    def _keep_purchase(self, rows: Repositories, environment: Environment, customer: str, read: Read, now: int) -> None:
        """A purchase is completed once: by the checkout that was paid, or by the subscription it made, whichever is seen first."""
        purchase = rows.purchases.get(environment, read.purchase) if read.purchase else None
        if purchase is None or purchase.status == "completed" or purchase.customer != customer:
            return
        checkout, document = read.checkout, dict(purchase.document)
        status = purchase.status
        paid = any(one.status in ("active", "trialing") for one in read.subscriptions)
        if checkout is not None:
            paid = paid or (
                checkout.status == "complete" and checkout.payment_status in ("paid", "no_payment_required")
            )
            document |= {"subscription": checkout.subscription, "payment": checkout.payment}
            if checkout.status == "expired":
                status = "expired"
            elif read.failed:
                status = "failed"
        if paid:
            self.activated += 1
            rows.purchases.put(replace(purchase, status="completed", completed_at=now, document=document))
        elif (status, document) != (purchase.status, purchase.document):
            rows.purchases.put(replace(purchase, status=status, document=document))

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


def _held(rows: Repositories, one: KnownSubscription) -> bool:
    """Whether the gate goes by it."""
    current = rows.subscriptions.current([one.customer])[one.customer]
    return one.subscription is not None and any(ours.id == one.subscription for ours in current)


def read_price_key(key: str) -> tuple[tuple[str, int], str] | None:
    """`pro@3/calls` as (("pro", 3), "calls"), the key under which a provider's price is kept."""
    plan, _, rest = key.partition("@")
    version, _, price = rest.partition("/")
    return ((plan, int(version)), price) if version.isdigit() and price else None


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


def _line(line: ProviderLine, named: tuple[tuple[str, int], str] | None) -> dict[str, Any]:
    return {
        "id": line.id,
        "description": line.description,
        "amount": format(line.amount, "f"),
        "quantity": None if line.quantity is None else format_quantity(line.quantity),
        "period_start": line.period_start,
        "period_end": line.period_end,
        "proration": line.proration,
        "plan": named[0][0] if named else None,
        "version": named[0][1] if named else None,
        "key": named[1] if named else None,
    }
