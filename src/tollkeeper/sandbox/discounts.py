"""Discounts: a coupon or a promotion code put to use on a subscription, an invoice or a session; and promotion codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.billing_periods import add
from tollkeeper.sandbox.errors import invalid, no_such
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World


def coupon_of(world: World, discount: Object) -> Object:
    found = world.store.get("coupon", discount["source"]["coupon"])
    assert found is not None
    return found


def usable(
    world: World, given: dict[str, Any], currency: str | None, customer: str | None, param: str
) -> tuple[Object, str | None]:
    """The coupon that {"coupon"} or {"promotion_code"} names, and the promotion code's id. Raises ApiError 400 when it cannot be used."""
    code = None
    if given.get("promotion_code"):
        code = world.store.get("promotion_code", given["promotion_code"])
        if code is None:
            raise no_such("promotion code", given["promotion_code"], f"{param}[promotion_code]", status=400)
        fault = code_fault(world, code, customer)
        if fault:
            raise invalid(fault, f"{param}[promotion_code]")
    id = code["promotion"]["coupon"] if code else given.get("coupon")
    coupon = world.store.get("coupon", id or "")
    if coupon is None or coupon.get("deleted"):
        raise no_such("coupon", str(id), f"{param}[coupon]", status=400)
    if not coupon_valid(world, coupon):
        raise invalid(
            f"Coupon {coupon['id']} is used up or expired and cannot be applied.", f"{param}[coupon]", "coupon_expired"
        )
    if coupon.get("amount_off") and currency and coupon["currency"] != currency:
        raise invalid(
            f"The coupon's currency ({coupon['currency']}) does not match the currency of the subscription ({currency}).",
            param,
        )
    return coupon, code["id"] if code else None


def coupon_valid(world: World, coupon: Object) -> bool:
    most, until = coupon.get("max_redemptions"), coupon.get("redeem_by")
    return (most is None or coupon["times_redeemed"] < most) and (until is None or world.now() < until)


def code_fault(world: World, code: Object, customer: str | None) -> str | None:
    """Why a promotion code cannot be used, or None."""
    if not code["active"] or (code["expires_at"] is not None and world.now() >= code["expires_at"]):
        return "This promotion code is expired or inactive."
    if code["max_redemptions"] is not None and code["times_redeemed"] >= code["max_redemptions"]:
        return "This promotion code has been used as often as it may be."
    if code["customer"] is not None and code["customer"] != customer:
        return "This promotion code is for another customer."
    paid = any(row["status"] == "succeeded" for row in world.store.table("charge").of("customer", customer or ""))
    if code["restrictions"]["first_time_transaction"] and paid:
        return "This promotion code is for the first purchase only."
    return None


def redeem(
    world: World, coupon: Object, code: str | None, customer: str | None, *, subscription: str | None = None, invoice: str | None = None,
    checkout: str | None = None,
) -> Object:  # fmt: skip
    """A discount in force from now on, counted at its coupon and code."""
    now = world.now(customer)
    months = coupon.get("duration_in_months") if coupon["duration"] == "repeating" else None
    row = world.store.save(
        {
            "id": world.ids.new("di_1"),
            "object": "discount",
            "checkout_session": checkout,
            "customer": customer,
            "customer_account": None,
            "end": add(now, "month", months) if months else None,
            "invoice": invoice,
            "invoice_item": None,
            "promotion_code": code,
            "source": {"coupon": coupon["id"], "type": "coupon"},
            "start": now,
            "subscription": subscription,
            "subscription_item": None,
        }
    )
    world.update(coupon, {"times_redeemed": coupon["times_redeemed"] + 1})
    if code is not None:
        held = world.require("promotion_code", code)
        world.update(held, {"times_redeemed": held["times_redeemed"] + 1})
    if customer is not None:
        world.emit("customer.discount.created", row)
    return row


def redeem_all(
    world: World,
    given: Any,
    currency: str,
    customer: str,
    *,
    subscription: str | None = None,
    invoice: str | None = None,
) -> list[str]:
    """The discounts of a parameter `discounts`: ids of new ones, or of those it keeps by {"discount"}."""
    found = []
    for number, one in enumerate(given or ()):
        if one.get("discount"):
            if world.store.get("discount", one["discount"]) is None:
                raise no_such("discount", one["discount"], f"discounts[{number}][discount]", status=400)
            found.append(one["discount"])
            continue
        coupon, code = usable(world, one, currency, customer, f"discounts[{number}]")
        found.append(redeem(world, coupon, code, customer, subscription=subscription, invoice=invoice)["id"])
    return found


def in_force(world: World, ids: list[str], instant: int) -> list[str]:
    """The discounts that have not ended at an instant."""
    rows = [row for id in ids if (row := world.store.get("discount", id)) is not None]
    return [row["id"] for row in rows if row["end"] is None or instant < row["end"]]


def spent(world: World, ids: list[str]) -> list[str]:
    """The discounts left after an invoice: those for one invoice are gone."""
    return [
        id for id in ids if (row := world.store.get("discount", id)) and coupon_of(world, row)["duration"] != "once"
    ]


@operation("POST", "/v1/promotion_codes")
def create(call: Call) -> Object:
    params, world = call.params, call.world
    only(
        params, ("active", "code", "customer", "expires_at", "max_redemptions", "metadata", "promotion", "restrictions")
    )
    coupon = params["promotion"].get("coupon")
    world.require("coupon", coupon or "", "promotion[coupon]")
    code = params.get("code") or world.ids.new("", 8).upper()
    if any(row["active"] and row["code"].lower() == code.lower() for row in world.store.table("promotion_code")):
        raise invalid(
            f"An active promotion code with `code: {code}` already exists.", "code", "resource_already_exists"
        )
    restrictions = params.get("restrictions") or {}
    row = world.store.save(
        {
            "id": world.ids.new("promo_1"),
            "object": "promotion_code",
            "active": params.get("active", True),
            "code": code,
            "created": world.now(),
            "customer": params.get("customer"),
            "customer_account": None,
            "expires_at": params.get("expires_at"),
            "livemode": False,
            "max_redemptions": params.get("max_redemptions"),
            "metadata": merged(params.get("metadata")),
            "promotion": {"coupon": coupon, "type": "coupon"},
            "restrictions": {
                "first_time_transaction": restrictions.get("first_time_transaction", False),
                "minimum_amount": restrictions.get("minimum_amount"),
                "minimum_amount_currency": restrictions.get("minimum_amount_currency"),
            },
            "times_redeemed": 0,
        }
    )
    world.emit("promotion_code.created", row)
    return row


@operation("GET", "/v1/promotion_codes/{promotion_code}")
def retrieve(call: Call, promotion_code: str) -> Object:
    return call.world.require("promotion_code", promotion_code)


@operation("POST", "/v1/promotion_codes/{promotion_code}")
def update(call: Call, promotion_code: str) -> Object:
    only(call.params, ("active", "metadata"))
    row = call.world.require("promotion_code", promotion_code)
    changes: dict[str, Any] = {}
    if "active" in call.params:
        changes["active"] = call.params["active"]
    if "metadata" in call.params:
        changes["metadata"] = merged(call.params["metadata"], row["metadata"])
    call.world.update(row, changes, "promotion_code.updated")
    return row


@operation("GET", "/v1/promotion_codes")
def list_codes(call: Call) -> Object:
    coupon = call.params.get("coupon")
    return page(
        call,
        "promotion_code",
        equal=("active", "code", "customer"),
        where=lambda row: coupon is None or row["promotion"]["coupon"] == coupon,
    )
