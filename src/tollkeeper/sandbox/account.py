"""The account that the keys belong to (https://docs.stripe.com/api/accounts)."""

from __future__ import annotations

from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object


@operation("GET", "/v1/account")
def retrieve(call: Call) -> Object:
    return {
        "id": call.world.account_id,
        "object": "account",
        "business_profile": {"name": "Tollkeeper sandbox", "support_email": None, "url": None},
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "email": "owner@example.com",
        "metadata": {},
        "payouts_enabled": True,
        "settings": {"dashboard": {"display_name": "Tollkeeper sandbox", "timezone": "Etc/UTC"}},
        "type": "standard",
    }
