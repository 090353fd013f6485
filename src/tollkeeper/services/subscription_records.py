"""What was read at the provider, kept: subscriptions, invoices, what became of payments and purchases. What follows is not decided here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tollkeeper.core.customers import Environment
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.ports import Repositories
from tollkeeper.core.provider import (
    ProviderCharge,
    ProviderCheckout,
    ProviderDispute,
    ProviderInvoice,
    ProviderLine,
    ProviderSubscription,
)
from tollkeeper.core.subscriptions import (
    KnownSubscription,
    dispute_after,
    known,
    newer,
    voided_by_pause,
)
from tollkeeper.services.adjustments import Adjustments

logger = logging.getLogger("tollkeeper.subscriptions")

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


class Records:
    """Writes within the caller's transaction."""

    def __init__(self, provider: str, adjustments: Adjustments) -> None:
        self._provider = provider
        self._adjustments = adjustments

    def customer(self, rows: Repositories, environment: Environment, read: Read) -> str | None:
        if read.customer is not None:
            found = rows.provider_objects.by_id(self._provider, environment, "customer", read.customer)
            if found is not None:
                return found.key
        for one in read.subscriptions:  # known from before, when the provider's customer was another
            if (have := rows.provider_subscriptions.get(self._provider, environment, one.id)) is not None:
                return have.customer
        if read.ended is not None:
            have = rows.provider_subscriptions.get(self._provider, environment, read.ended[0])
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
        held = rows.provider_objects.get(self._provider, environment, "customer", customer)
        return theirs is None or held is None or held.id == theirs

    def keep_subscription(
        self,
        rows: Repositories,
        environment: Environment,
        customer: str,
        read: ProviderSubscription,
        begun: int,
        now: int,
    ) -> None:
        plan = self._plan_of(rows, environment, [item.price for item in read.items])
        have = rows.provider_subscriptions.get(self._provider, environment, read.id)
        ours = [item for item in read.items if self._price(rows, environment, item.price) is not None]
        found = known(self._provider, environment, customer, plan, read, begun, ours)
        kept = newer(have, found, now, held=have is not None and _held(rows, have))
        if kept is not None:
            rows.provider_subscriptions.put(kept)

    def keep_end(self, rows: Repositories, environment: Environment, subscription: str, at: int) -> None:
        have = rows.provider_subscriptions.get(self._provider, environment, subscription)
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
        held = rows.provider_objects.by_id(self._provider, environment, "price", price) if price else None
        return None if held is None else read_price_key(held.key)

    def keep_invoice(
        self, rows: Repositories, environment: Environment, customer: str, read: ProviderInvoice, begun: int, now: int
    ) -> bool:
        """Whether it is void, and was not before."""
        have = rows.invoices.get(environment, read.id)
        before = dict(have.document) if have is not None else {}
        if have is not None and (have.status in _SETTLED or begun < before.get("read_at", 0) <= now):
            return False
        contract = None
        if read.status == "void" and read.subscription is not None:
            contract = rows.provider_subscriptions.get(self._provider, environment, read.subscription)
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
                provider=self._provider,
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
    def keep_deleted(rows: Repositories, environment: Environment, invoice: str, now: int) -> bool:
        """A draft was deleted: as one that was voided in that moment. Whether there was one."""
        lost = rows.invoices.get(environment, invoice)
        if lost is None or lost.status in _SETTLED:
            return False
        document = {**lost.document, "deleted": True}
        rows.invoices.put(replace(lost, status="void", finalized_at=lost.finalized_at or now, document=document))
        return True

    def keep_charge(
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

    def keep_purchase(self, rows: Repositories, environment: Environment, customer: str, read: Read, now: int) -> bool:
        """Whether a purchase was completed now: once, by the checkout that was paid or by the subscription it made, as is seen first."""
        purchase = rows.purchases.get(environment, read.purchase) if read.purchase else None
        if purchase is None or purchase.status == "completed" or purchase.customer != customer:
            return False
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
            rows.purchases.put(replace(purchase, status="completed", completed_at=now, document=document))
        elif (status, document) != (purchase.status, purchase.document):
            rows.purchases.put(replace(purchase, status=status, document=document))
        return paid


def _held(rows: Repositories, one: KnownSubscription) -> bool:
    """Whether the gate goes by it."""
    current = rows.subscriptions.current([one.customer])[one.customer]
    return one.subscription is not None and any(ours.id == one.subscription for ours in current)


def read_price_key(key: str) -> tuple[tuple[str, int], str] | None:
    """`pro@3/calls` as (("pro", 3), "calls"), the key under which a provider's price is kept."""
    plan, _, rest = key.partition("@")
    version, _, price = rest.partition("/")
    return ((plan, int(version)), price) if version.isdigit() and price else None


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
