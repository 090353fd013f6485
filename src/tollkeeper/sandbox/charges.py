"""Charges: one for each attempt of a payment intent, made and never changed but by refunds and disputes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.balance import make_transaction
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World


def make_charge(world: World, intent: Object, method: Object, error: dict[str, Any] | None) -> Object:
    now = world.now(intent)
    id = world.ids.new("ch_3")
    paid = error is None
    transaction = None
    if paid:
        transaction = make_transaction(world, intent["amount"], intent["currency"], id, "charge", now)["id"]
    return world.store.save(
        {
            "id": id,
            "object": "charge",
            "amount": intent["amount"],
            "amount_captured": intent["amount"] if paid else 0,
            "amount_refunded": 0,
            "application": None,
            "application_fee": None,
            "application_fee_amount": None,
            "balance_transaction": transaction,
            "billing_details": dict(method["billing_details"]),
            "calculated_statement_descriptor": "SANDBOX",
            "captured": paid,
            "created": now,
            "currency": intent["currency"],
            "customer": intent["customer"],
            "description": intent["description"],
            "disputed": False,
            "failure_balance_transaction": None,
            "failure_code": None if error is None else error["code"],
            "failure_message": None if error is None else error["message"],
            "fraud_details": {},
            "livemode": False,
            "metadata": dict(intent["metadata"]),
            "on_behalf_of": None,
            "outcome": {
                "advice_code": None if paid else "try_again_later",
                "network_advice_code": None,
                "network_decline_code": None if paid else "01",
                "network_status": "approved_by_network" if paid else "declined_by_network",
                "reason": None if error is None else error.get("decline_code"),
                "risk_level": "normal",
                "risk_score": 20,
                "seller_message": "Payment complete."
                if paid
                else "The bank did not return any further details with this decline.",
                "type": "authorized" if paid else "issuer_declined",
            },
            "paid": paid,
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "payment_method_details": _details(intent, method, paid=paid),
            "radar_options": {},
            "receipt_email": intent["receipt_email"],
            "receipt_number": None,
            "receipt_url": f"{world.base_url}/receipts/{id}" if paid else None,
            "refunded": False,
            "review": None,
            "shipping": None,
            "source": None,
            "source_transfer": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": None,
            "status": "succeeded" if paid else "failed",
            "transfer_data": None,
            "transfer_group": None,
        }
    )


def _details(intent: Object, method: Object, *, paid: bool) -> dict[str, Any]:
    if method["type"] == "sepa_debit":
        bank = method["sepa_debit"]
        shown = {name: bank[name] for name in ("bank_code", "branch_code", "country", "fingerprint", "last4")}
        return {"sepa_debit": {**shown, "mandate": None}, "type": "sepa_debit"}
    card = method["card"]
    names = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")
    more = {
        "amount_authorized": intent["amount"] if paid else None, "network": card["brand"], "three_d_secure": None, "wallet": None,
    }  # fmt: skip
    return {"card": {**{name: card[name] for name in names}, **more}, "type": "card"}


@operation("GET", "/v1/charges/{charge}")
def retrieve_charge(call: Call, charge: str) -> Object:
    return call.world.require("charge", charge)


@operation("POST", "/v1/charges/{charge}")
def update_charge(call: Call, charge: str) -> Object:
    only(call.params, ("description", "metadata", "receipt_email"))
    found = call.world.require("charge", charge)
    changes = {name: value for name, value in call.params.items() if name != "metadata"}
    if "metadata" in call.params:
        changes["metadata"] = merged(call.params["metadata"], found["metadata"])
    call.world.update(found, changes, "charge.updated")
    return found


@operation("GET", "/v1/charges")
def list_charges(call: Call) -> Object:
    return page(call, "charge", equal=("customer", "payment_intent"))
