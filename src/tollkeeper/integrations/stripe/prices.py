"""A price of the catalog as Stripe's parameters of `POST /v1/prices`. Which prices have such a form is told by `core.provider_prices`.

An included allowance is a first graduated tier at 0, since a metered price of one unit has none.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tollkeeper.core.plans import Price, Tier
from tollkeeper.core.provider_prices import tiers_with_allowance
from tollkeeper.integrations.stripe.amounts import minor_decimal


def price_params(price: Price, meter: str | None) -> dict[str, Any]:
    """Everything but product, lookup key and metadata. `meter` is Stripe's id of it. Amounts are decimals of the smallest unit."""
    params: dict[str, Any] = {"currency": price.currency}
    if price.interval != "once":
        recurring: dict[str, Any] = {"interval": price.interval}
        if meter is not None:
            recurring |= {"usage_type": "metered", "meter": meter}
        params["recurring"] = recurring
    if price.model == "flat":
        return params | {"unit_amount_decimal": _unit(price.flat_amount, price)}
    if price.model == "package":
        assert price.package_size is not None
        package = {"divide_by": int(price.package_size), "round": price.package_round}
        return params | {"unit_amount_decimal": _unit(price.package_amount, price), "transform_quantity": package}
    tiers = tiers_with_allowance(price)
    if not tiers:
        return params | {"billing_scheme": "per_unit", "unit_amount_decimal": _unit(price.unit_amount, price)}
    return params | {
        "billing_scheme": "tiered",
        "tiers_mode": "volume" if price.model == "volume" else "graduated",
        "tiers": [_tier(tier, price) for tier in tiers],
    }


def _tier(tier: Tier, price: Price) -> dict[str, Any]:
    written: dict[str, Any] = {
        "up_to": "inf" if tier.up_to is None else int(tier.up_to),
        "unit_amount_decimal": _unit(tier.unit_amount, price),
    }
    if tier.flat_amount:
        written["flat_amount_decimal"] = _unit(tier.flat_amount, price)
    return written


def _unit(amount: Decimal | None, price: Price) -> Decimal:
    return minor_decimal(amount or Decimal(0), price.currency)
