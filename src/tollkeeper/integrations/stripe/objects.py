"""Stripe's objects (API 2026-10-28.endive, plain data) as the values of `core.provider`. What is missing or null stays None.

A period belongs to the item of a subscription; an invoice names its subscription under `parent.subscription_details`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias

from tollkeeper.core.errors import NotFound
from tollkeeper.core.provider import (
    MeterFault,
    MeterFaults,
    ProviderCharge,
    ProviderCheckout,
    ProviderCustomer,
    ProviderDispute,
    ProviderInvoice,
    ProviderItem,
    ProviderLine,
    ProviderSubscription,
)
from tollkeeper.integrations.stripe.amounts import major

Data: TypeAlias = Mapping[str, Any]
REFERENCE: Final = "tollkeeper_message"
"""In the metadata of what was added to be invoiced, or credited: by which message of the outbox."""


def instant(seconds: int | None) -> int | None:
    return None if seconds is None else int(seconds) * 1_000_000


def id_of(value: Any) -> str | None:
    """Of something that stands as its id or, expanded, as itself."""
    found: str | None = value["id"] if isinstance(value, Mapping) else value
    return found


def customer(data: Data) -> ProviderCustomer:
    """One that was deleted is as not there. Raises NotFound."""
    if data.get("deleted"):
        raise NotFound(f"Stripe has deleted {data['id']}.")
    return ProviderCustomer(
        id=data["id"],
        name=data.get("name") or "",
        email=data.get("email"),
        currency=data.get("currency"),
        metadata=dict(data.get("metadata") or {}),
    )


def subscription(data: Data) -> ProviderSubscription:
    return ProviderSubscription(
        id=data["id"],
        customer=str(id_of(data["customer"])),
        status=data["status"],
        items=tuple(_item(item) for item in data["items"]["data"]),
        anchor=int(data.get("billing_cycle_anchor") or data["created"]) * 1_000_000,
        created_at=int(data["created"]) * 1_000_000,
        cancel_at=instant(data.get("cancel_at")),
        ended_at=instant(data.get("ended_at")),
        trial_start=instant(data.get("trial_start")),
        trial_end=instant(data.get("trial_end")),
        paused=data.get("pause_collection") is not None or data["status"] == "paused",
        latest_invoice=id_of(data.get("latest_invoice")),
        metadata=dict(data.get("metadata") or {}),
    )


def _item(data: Data) -> ProviderItem:
    recurring = data["price"].get("recurring") or {}
    return ProviderItem(
        id=data["id"],
        price=data["price"]["id"],
        period_start=int(data["current_period_start"]) * 1_000_000,
        period_end=int(data["current_period_end"]) * 1_000_000,
        quantity=data.get("quantity"),
        metered=recurring.get("usage_type") == "metered",
    )


def invoice(data: Data) -> ProviderInvoice:
    currency = data["currency"]
    details = (data.get("parent") or {}).get("subscription_details") or {}
    moved = data.get("status_transitions") or {}
    return ProviderInvoice(
        id=data.get("id") or "",  # a preview has none
        customer=str(id_of(data["customer"])),
        subscription=id_of(details.get("subscription")),
        number=data.get("number"),
        status=data.get("status") or "draft",
        reason=data.get("billing_reason"),
        currency=currency,
        total=major(data["total"], currency),
        amount_due=major(data.get("amount_due", data["total"]), currency),
        amount_paid=major(data.get("amount_paid") or 0, currency),
        period_start=int(data.get("period_start") or data["created"]) * 1_000_000,
        period_end=int(data.get("period_end") or data["created"]) * 1_000_000,
        created_at=int(data["created"]) * 1_000_000,
        finalized_at=instant(moved.get("finalized_at")),
        paid_at=instant(moved.get("paid_at")),
        next_attempt_at=instant(data.get("next_payment_attempt")),
        hosted_url=data.get("hosted_invoice_url"),
        lines=tuple(line(one, currency) for one in (data.get("lines") or {}).get("data", ())),
        voided_at=instant(moved.get("voided_at")),
    )


def line(data: Data, currency: str) -> ProviderLine:
    parent = data.get("parent") or {}
    item = parent.get("subscription_item_details") or parent.get("invoice_item_details") or {}
    price = ((data.get("pricing") or {}).get("price_details") or {}).get("price")
    quantity = data.get("quantity_decimal", data.get("quantity"))
    return ProviderLine(
        id=data["id"],
        description=data.get("description") or "",
        amount=major(data["amount"], currency),
        quantity=None if quantity is None else Decimal(str(quantity)),
        price=id_of(price),
        item=item.get("subscription_item"),
        period_start=int(data["period"]["start"]) * 1_000_000,
        period_end=int(data["period"]["end"]) * 1_000_000,
        proration=bool(item.get("proration")),
        # a subscription's own lines show that subscription's metadata
        reference=(data.get("metadata") or {}).get(REFERENCE) if parent.get("invoice_item_details") else None,
    )


def charge(data: Data, invoice: str | None) -> ProviderCharge:
    currency = data["currency"]
    return ProviderCharge(
        id=data["id"],
        customer=id_of(data.get("customer")),
        payment=id_of(data.get("payment_intent")),
        invoice=invoice,
        currency=currency,
        amount=major(data["amount"], currency),
        refunded=major(data.get("amount_refunded") or 0, currency),
    )


def dispute(data: Data) -> ProviderDispute:
    currency = data["currency"]
    return ProviderDispute(
        data["id"], str(id_of(data["charge"])), data["status"], major(data["amount"], currency), currency
    )


def checkout(data: Data) -> ProviderCheckout:
    return ProviderCheckout(
        id=data["id"],
        url=data.get("url"),
        status=data.get("status") or "open",
        payment_status=data.get("payment_status") or "unpaid",
        customer=id_of(data.get("customer")),
        subscription=id_of(data.get("subscription")),
        payment=id_of(data.get("payment_intent")),
        metadata=dict(data.get("metadata") or {}),
    )


def meter_faults(data: Data) -> MeterFaults:
    """Of a thin event as it is read from /v2/core/events: those have no more than samples of what was thrown away."""
    told = data.get("data") or {}
    types = (told.get("reason") or {}).get("error_types") or ()
    at = data["created"]
    return MeterFaults(
        meter=(data.get("related_object") or {}).get("id"),
        start=written_instant(told.get("validation_start") or at),
        end=written_instant(told.get("validation_end") or at),
        faults=tuple(
            MeterFault(
                one["code"],
                int(one.get("error_count") or 0),
                tuple(
                    (sample["request"]["identifier"], sample.get("error_message") or one["code"])
                    for sample in one.get("sample_errors") or ()
                    if (sample.get("request") or {}).get("identifier")
                ),
            )
            for one in types
        ),
    )


def written_instant(text: str) -> int:
    """µs of an RFC 3339 instant, as /v2 writes them."""
    found = datetime.fromisoformat(text)
    return int(found.timestamp()) * 1_000_000 + found.microsecond
