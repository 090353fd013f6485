"""Coupons (https://docs.stripe.com/api/coupons)."""

from __future__ import annotations

from typing import Any

from tollkeeper.sandbox.errors import ApiError, invalid, missing_parameter
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.prices import currency_of
from tollkeeper.sandbox.render import hide
from tollkeeper.sandbox.store import Object

KIND = "coupon"
hide(KIND, "applies_to", "currency_options")


def _check(params: dict[str, Any]) -> None:
    if ("percent_off" in params) == ("amount_off" in params):
        if "percent_off" in params:
            raise invalid(
                "You may only specify one of these parameters: percent_off, amount_off.",
                "percent_off",
                "parameters_exclusive",
            )
        raise missing_parameter("percent_off")
    if "percent_off" in params and not 0 < params["percent_off"] <= 100:
        raise invalid("percent_off must be above 0 and at most 100.", "percent_off")
    if "amount_off" in params:
        if "currency" not in params:
            raise missing_parameter("currency")
        if params["amount_off"] <= 0:
            raise invalid("This value must be greater than or equal to 1.", "amount_off", "parameter_invalid_integer")
    repeating = params.get("duration", "once") == "repeating"
    if repeating and params.get("duration_in_months", 0) < 1:
        raise missing_parameter("duration_in_months")
    if not repeating and "duration_in_months" in params:
        raise invalid("duration_in_months can only be set when duration is repeating.", "duration_in_months")


@operation("POST", "/v1/coupons")
def create(call: Call) -> Object:
    world, params = call.world, call.params
    _check(params)
    id = params.get("id") or world.ids.new("", 8)
    if world.store.get(KIND, id) is not None:
        raise ApiError(400, "Coupon already exists.", code="resource_already_exists", param="id")
    for product in params.get("applies_to", {}).get("products", []):
        world.require("product", product, "applies_to[products]")
    coupon: Object = {
        "id": id,
        "object": KIND,
        "amount_off": params.get("amount_off"),
        "applies_to": params.get("applies_to"),
        "created": world.now(),
        "currency": currency_of(params["currency"]) if "amount_off" in params else None,
        "currency_options": params.get("currency_options", {}),
        "duration": params.get("duration", "once"),
        "duration_in_months": params.get("duration_in_months"),
        "livemode": False,
        "max_redemptions": params.get("max_redemptions"),
        "metadata": merged(params.get("metadata")),
        "name": params.get("name"),
        "percent_off": params.get("percent_off"),
        "redeem_by": params.get("redeem_by"),
        "times_redeemed": 0,
        "valid": True,
    }
    world.store.save(coupon)
    world.emit("coupon.created", coupon)
    return coupon


def refresh(call: Call, coupon: Object) -> Object:
    """`valid` as it is now: redemptions left, and before `redeem_by`."""
    most, until = coupon["max_redemptions"], coupon["redeem_by"]
    valid = (most is None or coupon["times_redeemed"] < most) and (until is None or call.world.now() < until)
    call.world.update(coupon, {"valid": valid})
    return coupon


@operation("GET", "/v1/coupons/{coupon}")
def retrieve(call: Call, id: str) -> Object:
    return refresh(call, call.world.require(KIND, id))


@operation("POST", "/v1/coupons/{coupon}")
def update(call: Call, id: str) -> Object:
    coupon, params = call.world.require(KIND, id), call.params
    changes: dict[str, Any] = {}
    if "name" in params:
        changes["name"] = params["name"]
    if "currency_options" in params:
        changes["currency_options"] = {**coupon["currency_options"], **params["currency_options"]}
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], coupon["metadata"])
    call.world.update(coupon, changes, "coupon.updated")
    return refresh(call, coupon)


@operation("GET", "/v1/coupons")
def list_coupons(call: Call) -> Object:
    found = page(call, KIND)
    for coupon in found["data"]:
        refresh(call, coupon)
    return found


@operation("DELETE", "/v1/coupons/{coupon}")
def delete(call: Call, id: str) -> Object:
    coupon = call.world.require(KIND, id)
    call.world.emit("coupon.deleted", coupon)
    call.world.store.remove(coupon)
    return {"id": id, "object": KIND, "deleted": True}
