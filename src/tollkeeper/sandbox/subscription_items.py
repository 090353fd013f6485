"""Items of a subscription: one price each, with a billing period of its own."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.arithmetic import half_up, rated
from tollkeeper.sandbox.billing_periods import period_at
from tollkeeper.sandbox.discounts import coupon_of, in_force
from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

MOST_ITEMS = 20
SERVED = ("deleted", "id", "metadata", "price", "quantity", "tax_rates")


def metered(price: Object) -> bool:
    return bool((price.get("recurring") or {}).get("usage_type") == "metered")


def check_price(world: World, id: str | None, param: str, currency: str | None) -> Object:
    """The recurring, active price of this id. Raises ApiError 400."""
    if id is None:
        raise invalid(f"Missing required param: {param}.", param, "parameter_missing")
    price = world.require("price", id, param)
    if price["type"] != "recurring":
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.", param
        )  # fmt: skip
    if not price["active"]:
        raise invalid("The price specified is inactive. This field only accepts active prices.", param)
    if currency is not None and price["currency"] != currency:
        raise invalid(
            "The price specified only supports `"
            + price["currency"]
            + f"`. This doesn't match the expected currency: `{currency}`.",
            param,
        )
    return price


def make_item(
    world: World, subscription: str, given: dict[str, Any], param: str, currency: str | None, now: int
) -> Object:
    """A new item without a period. Raises ApiError 400."""
    only(given, SERVED, param)
    price = check_price(world, given.get("price"), f"{param}[price]", currency)
    if metered(price) and "quantity" in given:
        raise invalid(
            f"Quantity should not be specified where usage_type is `metered`. Remove quantity from `{param}`",
            f"{param}[quantity]",
        )
    tax_rates = given.get("tax_rates") or []
    for id in tax_rates:
        world.require("tax_rate", id, f"{param}[tax_rates]")
    item: Object = {
        "id": world.ids.new("si_", 14),
        "object": "subscription_item",
        "billed_until": None,
        "billing_thresholds": None,
        "created": now,
        "current_period_end": now,
        "current_period_start": now,
        "discounts": [],
        "metadata": merged(given.get("metadata")),
        "plan": plan_of(price),
        "price": price,
        "subscription": subscription,
        "tax_rates": [world.store.get("tax_rate", id) for id in tax_rates],
        "_debits": [],
        "_usage_from": now,
    }
    if not metered(price):
        item["quantity"] = given.get("quantity", 1)
    return item


def plan_of(price: Object) -> Object:
    """A price as the older kind of object, which items still carry."""
    recurring = price["recurring"]
    transform = price.get("transform_quantity")
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price.get("unit_amount"),
        "amount_decimal": price.get("unit_amount_decimal"),
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": recurring.get("meter"),
        "nickname": price.get("nickname"),
        "product": price["product"],
        "tiers_mode": price.get("tiers_mode"),
        "transform_usage": transform,
        "trial_period_days": None,
        "usage_type": recurring["usage_type"],
    }


def place(item: Object, start: int, end: int) -> None:
    """Put an item into a period."""
    item["current_period_start"], item["current_period_end"] = start, end
    item["billed_until"] = start if metered(item["price"]) else end


def full_period(item: Object, anchor: int, instant: int) -> tuple[int, int]:
    """The period of an item's interval around an instant, counted from the anchor."""
    recurring = item["price"]["recurring"]
    return period_at(anchor, recurring["interval"], recurring["interval_count"], instant)


def advance_amount(world: World, subscription: Object, item: Object) -> int:
    """What a full period of a licensed item costs, after the discounts in percent that the subscription has now."""
    amount = sum(piece.amount for piece in rated(item["price"], Decimal(item["quantity"])))
    return net(world, subscription, amount, item["price"]["product"])


def net(world: World, subscription: Object, amount: int, product: str) -> int:
    for id in in_force(world, subscription["discounts"], world.now(subscription)):
        discount = world.store.get("discount", id)
        coupon = coupon_of(world, discount) if discount else {}
        products = (coupon.get("applies_to") or {}).get("products")
        if coupon.get("percent_off") and (products is None or product in products):
            amount -= half_up(Decimal(amount) * Decimal(str(coupon["percent_off"])) / 100)
    return amount


def tax_ids_of(item: Object) -> list[str]:
    return [rate["id"] for rate in item["tax_rates"]]


def usage_source(subscription: Object, item: Object, until: int) -> dict[str, Any]:
    """The source of an invoice line for a metered item's usage that is not billed yet."""
    return {
        "kind": "usage",
        "item": item["id"],
        "subscription": subscription["id"],
        "price": item["price"]["id"],
        "start": item["_usage_from"],
        "end": until,
        "tax_rates": tax_ids_of(item),
        "metadata": subscription["metadata"],
    }


def licensed_source(subscription: Object, item: Object, **more: Any) -> dict[str, Any]:
    """The source of an invoice line for a licensed item's running period."""
    return {
        "kind": "licensed",
        "item": item["id"],
        "subscription": subscription["id"],
        "price": item["price"]["id"],
        "quantity": item["quantity"],
        "start": item["current_period_start"],
        "end": item["current_period_end"],
        "tax_rates": tax_ids_of(item),
        "metadata": subscription["metadata"],
        **more,
    }


def items_of(subscription: Object) -> list[Object]:
    found: list[Object] = subscription["items"]["data"]
    return found


def set_items(subscription: Object, items: list[Object]) -> None:
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    subscription["items"] = {"object": "list", "data": items, "has_more": False, "total_count": len(items), "url": url}
