"""What the provider's events about contracts, invoices, checkouts and payments do: each reads what it is about anew, and applies that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from tollkeeper.core.errors import NotFound
from tollkeeper.core.inbox import AfterCommit, Effects, InboxEvent
from tollkeeper.core.ports import Repositories
from tollkeeper.core.provider import Provider, ProviderCheckout, ProviderInvoice, ProviderSubscription
from tollkeeper.services.clock import Clock
from tollkeeper.services.subscription_records import Read
from tollkeeper.services.subscriptions import Subscriptions

T = TypeVar("T")

SUBSCRIPTION_EVENTS: Final = (
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
)
INVOICE_EVENTS: Final = (
    "invoice.created",
    "invoice.updated",
    "invoice.finalized",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "invoice.overdue",
    "invoice.voided",
    "invoice.marked_uncollectible",
    "invoice.deleted",
)
CHECKOUT_EVENTS: Final = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
)
CHARGE_EVENTS: Final = ("charge.refunded",)
DISPUTE_EVENTS: Final = (
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
)

Reading = Callable[[Provider, InboxEvent, int], Read]


class SubscriptionEffect:
    """One kind of event. `reading` asks the provider; what it found is applied as one."""

    def __init__(self, subscriptions: Subscriptions, clock: Clock, reading: Reading) -> None:
        self._subscriptions = subscriptions
        self._clock = clock
        self._reading = reading

    def about(self, event: InboxEvent) -> str:
        """The customer, as far as the event names one: everything of one customer follows from all that is kept of it."""
        return _id(_object(event).get("customer")) or event.object or event.id

    def fetch(self, provider: Provider, event: InboxEvent) -> Read:
        begun = self._clock.now_us()
        try:
            return self._reading(provider, event, begun)
        except NotFound:
            return Read(begun, gone=event.object)

    def apply(self, rows: Repositories, event: InboxEvent, fetched: Read, now: int) -> Sequence[AfterCommit]:
        customer = self._subscriptions.apply(rows, event.environment, fetched, now)
        return () if customer is None else (self._subscriptions.after_commit(customer),)


def subscription_effects(subscriptions: Subscriptions, clock: Clock) -> Effects:
    """The effects by type of event."""

    def effect(reading: Reading) -> SubscriptionEffect:
        return SubscriptionEffect(subscriptions, clock, reading)

    found: dict[str, SubscriptionEffect] = {}
    found |= dict.fromkeys(SUBSCRIPTION_EVENTS, effect(_read_subscription))
    found |= dict.fromkeys(INVOICE_EVENTS, effect(_read_invoice))
    found |= dict.fromkeys(CHECKOUT_EVENTS, effect(_read_checkout))
    found |= dict.fromkeys(CHARGE_EVENTS, effect(_read_charge))
    found |= dict.fromkeys(DISPUTE_EVENTS, effect(_read_dispute))
    return found


def read_contract(provider: Provider, subscription: str, begun: int) -> Read:
    """A contract with its last invoice."""
    found = provider.subscription(subscription)
    return Read(begun, [found], _invoices(provider, found))


def read_bought(provider: Provider, checkout: ProviderCheckout, begun: int) -> Read:
    """A checkout with what came of it."""
    contracts = _found(provider.subscription, checkout.subscription)
    return Read(begun, contracts, [invoice for one in contracts for invoice in _invoices(provider, one)], checkout)


def _invoices(provider: Provider, subscription: ProviderSubscription) -> list[ProviderInvoice]:
    return _found(provider.invoice, subscription.latest_invoice)


def _found(read: Callable[[str], T], id: str | None) -> list[T]:
    """What something else names; nothing when the provider has it no longer, which takes nothing from what names it."""
    try:
        return [] if id is None else [read(id)]
    except NotFound:
        return []


def _read_subscription(provider: Provider, event: InboxEvent, begun: int) -> Read:
    """An end is told once and for good: it holds even where the provider no longer has the subscription, or not yet as ended."""
    about = _about(event)
    told = _object(event)
    ended = None
    if event.type == "customer.subscription.deleted" and told.get("status") == "canceled":
        at = told.get("ended_at")
        ended = (about, min(begun, at * 1_000_000 if isinstance(at, int) else event.created_at))
    try:
        return replace(read_contract(provider, about, begun), ended=ended)
    except NotFound:
        if ended is None:
            raise
        return Read(begun, ended=ended)


def _read_invoice(provider: Provider, event: InboxEvent, begun: int) -> Read:
    invoice = provider.invoice(_about(event))
    return Read(begun, _contracts(provider, invoice), [invoice])


def _contracts(provider: Provider, invoice: ProviderInvoice | None = None) -> list[ProviderSubscription]:
    return _found(provider.subscription, invoice.subscription if invoice is not None else None)


def _read_checkout(provider: Provider, event: InboxEvent, begun: int) -> Read:
    failed = event.type == "checkout.session.async_payment_failed"
    try:
        checkout = provider.read_checkout(_about(event))
    except NotFound:
        bought = _id(_object(event).get("subscription"))
        if bought is None:
            raise
        return read_contract(provider, bought, begun)
    return replace(read_bought(provider, checkout, begun), failed=failed)


def _read_charge(provider: Provider, event: InboxEvent, begun: int) -> Read:
    charge = provider.charge(_about(event))
    invoices = _found(provider.invoice, charge.invoice)
    return Read(begun, _contracts(provider, *invoices[:1]), invoices, charge=charge)


def _read_dispute(provider: Provider, event: InboxEvent, begun: int) -> Read:
    dispute = provider.dispute(_about(event))
    charge = provider.charge(dispute.charge)
    invoices = _found(provider.invoice, charge.invoice)
    return Read(begun, _contracts(provider, *invoices[:1]), invoices, charge=charge, dispute=dispute)


def _about(event: InboxEvent) -> str:
    if event.object is None:
        raise NotFound(f"The event {event.id} names nothing.")
    return event.object


def _object(event: InboxEvent) -> Mapping[str, Any]:
    found = event.document().get("data", {})
    inner = found.get("object", {}) if isinstance(found, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _id(value: Any) -> str | None:
    found = value.get("id") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None
