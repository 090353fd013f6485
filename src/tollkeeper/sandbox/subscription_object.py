"""A subscription with every field that Stripe shows, before its first invoice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.subscription_items import set_items
from tollkeeper.sandbox.support import unset

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World


def blank_subscription(
    world: World, customer: Object, params: dict[str, Any], id: str, items: list[Object], currency: str, anchor: int,
    trial_end: int | None, now: int,
) -> Object:  # fmt: skip
    config = params.get("billing_cycle_anchor_config")
    settings = params.get("trial_settings") or {"end_behavior": {"missing_payment_method": "create_invoice"}}
    automatic = bool((params.get("automatic_tax") or {}).get("enabled"))
    pause = params.get("payment_settings") or {}
    subscription: Object = {
        "id": id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": automatic,
            "liability": {"type": "self"} if automatic else None,
        },
        "billing_cycle_anchor": anchor,
        "billing_cycle_anchor_config": {"hour": None, "minute": None, "month": None, "second": None, **config}
        if config
        else None,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible", "updated_at": None},
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "feedback_option": None, "reason": None},
        "collection_method": params.get("collection_method", "charge_automatically"),
        "created": now,
        "currency": currency,
        "customer": customer["id"],
        "customer_account": None,
        "days_until_due": params.get("days_until_due"),
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [
            world.require("tax_rate", rate, "default_tax_rates") for rate in params.get("default_tax_rates") or []
        ],
        "description": unset(params.get("description")),
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": None,
            "footer": None,
            "issuer": {"type": "self"},
        },
        "items": None,
        "latest_invoice": None,
        "livemode": False,
        "managed_payments": None,
        "metadata": merged(params.get("metadata")),
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": pause.get("save_default_payment_method", "off"),
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "presentment_details": None,
        "schedule": None,
        "start_date": now,
        "status": "incomplete",
        "status_details": None,
        "test_clock": customer.get("test_clock"),
        "transfer_data": None,
        "trial_end": trial_end,
        "trial_settings": {"end_behavior": {"billing_cycle_anchor": None, **settings["end_behavior"]}},
        "trial_start": now if trial_end else None,
        "_loose": [],
        "_tasks": {},
    }
    if subscription["collection_method"] == "send_invoice" and subscription["days_until_due"] is None:
        raise invalid("Missing required param: days_until_due.", "days_until_due", "parameter_missing")
    set_items(subscription, items)
    return subscription
