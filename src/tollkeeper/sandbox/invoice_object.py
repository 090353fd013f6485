"""An invoice with every field that Stripe shows, before anything is on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import listed

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World


def blank(world: World, customer: Object, currency: str, reason: str, **fields: Any) -> Object:
    """An invoice that is not kept yet: a preview, or what `keep` makes a draft of. `fields` go over the defaults."""
    now = world.now(customer)
    settings = customer.get("invoice_settings") or {}
    tax_ids = world.store.table("tax_id").of("customer", customer["id"])
    invoice: Object = {
        "id": None,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Tollkeeper sandbox",
        "account_tax_ids": None,
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_paid_off_stripe": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": now,
        "currency": currency,
        "custom_fields": settings.get("custom_fields"),
        "customer": customer["id"],
        "customer_account": None,
        "customer_address": customer.get("address"),
        "customer_email": customer.get("email"),
        "customer_name": customer.get("name"),
        "customer_phone": customer.get("phone"),
        "customer_shipping": customer.get("shipping"),
        "customer_tax_exempt": customer.get("tax_exempt") or "none",
        "customer_tax_ids": [{"type": row["type"], "value": row["value"]} for row in tax_ids],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": settings.get("footer"),
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": listed("/v1/invoices/upcoming/lines", []),
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "parent": None,
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "period_end": now,
        "period_start": now,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": customer.get("balance") or 0,
        "statement_descriptor": None,
        "status": "draft",
        "status_details": None,
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": 0,
        "subtotal_excluding_tax": 0,
        "test_clock": customer.get("test_clock"),
        "threshold_reason": None,
        "total": 0,
        "total_discount_amounts": [],
        "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
        "_sources": [],
        "_lines": [],
        "_line_ids": {},
        "_tax_rates": [],
        "_on_balance": True,
        "_intent": None,
        "_task": None,
        "_retries": 0,
    }
    invoice.update(fields)
    _collect_tax(invoice)
    return invoice


def _collect_tax(invoice: Object) -> None:
    if invoice["automatic_tax"]["enabled"]:
        known = bool((invoice["customer_address"] or {}).get("country"))
        status = "complete" if known else "requires_location_inputs"
        invoice["automatic_tax"] = {
            "disabled_reason": None, "enabled": True, "liability": {"type": "self"}, "provider": "stripe", "status": status,
        }  # fmt: skip
