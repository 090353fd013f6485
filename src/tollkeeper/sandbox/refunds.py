"""Refunds of charges (https://docs.stripe.com/api/refunds). They succeed at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.balance import make_transaction
from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.render import lazy
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import chargeable, listed, only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World


def refunds_of(world: World, charge: Object) -> list[Object]:
    return world.store.table("refund").of("charge", charge["id"])[::-1]


lazy("charge", "refunds", lambda world, row: listed(f"/v1/charges/{row['id']}/refunds", refunds_of(world, row)))


def make_refund(
    world: World, charge: Object, amount: int | None, reason: str | None = None, metadata: Any = None
) -> Object:
    """Give back a charge or a part of it. Raises ApiError 400 for more than is left."""
    left = charge["amount"] - charge["amount_refunded"]
    if amount is not None:
        chargeable(amount, charge["currency"])
    amount = left if amount is None else amount
    if charge["refunded"] or left == 0:
        raise ApiError(400, f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if charge["disputed"]:
        raise ApiError(
            400, f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed"
        )
    if charge["status"] != "succeeded":
        raise invalid("Only charges that succeeded can be refunded.", "charge")
    if not 0 < amount <= left:
        raise invalid(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", "amount")
    now = world.now(charge)
    id = world.ids.new("re_3")
    transaction = make_transaction(world, -amount, charge["currency"], id, "refund", now)
    refund = world.store.save(
        {
            "id": id,
            "object": "refund",
            "amount": amount,
            "balance_transaction": transaction["id"],
            "charge": charge["id"],
            "created": now,
            "currency": charge["currency"],
            "customer": charge["customer"],
            "description": None,
            "destination_details": {
                "card": {"reference": None, "reference_status": "pending", "type": "refund"},
                "type": "card",
            },
            "metadata": merged(metadata),
            "payment_intent": charge["payment_intent"],
            "payment_method": charge["payment_method"],
            "reason": reason,
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": "succeeded",
            "transfer_reversal": None,
        }
    )
    refunded = charge["amount_refunded"] + amount
    previous = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    charge.update(amount_refunded=refunded, refunded=refunded == charge["amount"])
    world.store.save(charge)
    world.emit("refund.created", refund)
    world.emit("charge.refunded", charge, previous)
    return refund


@operation("POST", "/v1/refunds")
def create(call: Call) -> Object:
    params, world = call.params, call.world
    only(params, ("amount", "charge", "metadata", "payment_intent", "reason"))
    if "charge" in params:
        charge = world.require("charge", params["charge"], "charge")
    elif "payment_intent" in params:
        intent = world.require("payment_intent", params["payment_intent"], "payment_intent")
        if intent["status"] != "succeeded":
            raise invalid(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.", "payment_intent"
            )
        charge = world.require("charge", intent["latest_charge"], "payment_intent")
    else:
        raise invalid(
            "One of the following params should be provided for this request: payment_intent or charge.",
            None,
            "parameter_missing",
        )
    return make_refund(world, charge, params.get("amount"), params.get("reason"), params.get("metadata"))


@operation("GET", "/v1/refunds/{refund}")
def retrieve(call: Call, refund: str) -> Object:
    return call.world.require("refund", refund)


@operation("POST", "/v1/refunds/{refund}")
def update(call: Call, refund: str) -> Object:
    row = call.world.require("refund", refund)
    if "metadata" in call.params:
        call.world.update(row, {"metadata": merged(call.params["metadata"], row["metadata"])}, "refund.updated")
    return row


@operation("GET", "/v1/refunds")
def list_refunds(call: Call) -> Object:
    return page(call, "refund", equal=("charge", "payment_intent"))
