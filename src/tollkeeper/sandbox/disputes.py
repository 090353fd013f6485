"""Disputes: opened by the card 4000000000000259 or by hand (POST /sandbox/disputes), closed as won, lost or accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.balance import make_transaction
from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import only
from tollkeeper.sandbox.world import due as task

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_EVIDENCE_SECONDS = 14 * 86_400
_REVIEW_SECONDS = 60
_EVIDENCE = (
    "access_activity_log", "billing_address", "cancellation_policy", "cancellation_policy_disclosure", "cancellation_rebuttal",
    "customer_communication", "customer_email_address", "customer_name", "customer_purchase_ip", "customer_signature",
    "duplicate_charge_documentation", "duplicate_charge_explanation", "duplicate_charge_id", "product_description", "receipt",
    "refund_policy", "refund_policy_disclosure", "refund_refusal_explanation", "service_date", "service_documentation",
    "shipping_address", "shipping_carrier", "shipping_date", "shipping_documentation", "shipping_tracking_number",
    "uncategorized_file", "uncategorized_text",
)  # fmt: skip
OPEN = ("needs_response", "under_review", "warning_needs_response")


def open_dispute(world: World, charge: Object, reason: str) -> Object:
    """The cardholder's bank takes the money back. Raises ApiError 400 when it cannot."""
    if charge["disputed"] or charge["status"] != "succeeded":
        raise invalid("Only charges that succeeded and are not disputed can be disputed.", "charge")
    now = world.now(charge)
    id = world.ids.new("dp_1")
    taken = make_transaction(world, -charge["amount"], charge["currency"], id, "adjustment", now)
    row = world.store.save(
        {
            "id": id,
            "object": "dispute",
            "amount": charge["amount"],
            "balance_transactions": [taken],
            "charge": charge["id"],
            "created": now,
            "currency": charge["currency"],
            "enhanced_eligibility_types": [],
            "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
            "evidence_details": {
                "due_by": now + _EVIDENCE_SECONDS,
                "enhanced_eligibility": {},
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
                "submission_method": "not_submitted",
            },
            "intended_submission_method": None,
            "is_charge_refundable": False,
            "livemode": False,
            "metadata": {},
            "payment_intent": charge["payment_intent"],
            "payment_method_details": {
                "card": {"brand": "visa", "case_type": "chargeback", "network": "visa", "network_reason_code": "10"},
                "type": "card",
            },
            "reason": reason,
            "status": "needs_response",
        }
    )
    charge["disputed"] = True
    world.store.save(charge)
    world.emit("charge.dispute.created", row)
    world.emit("charge.dispute.funds_withdrawn", row)
    return row


def close_dispute(world: World, row: Object, status: str) -> Object:
    """The bank's word: "won" gives the money back, "lost" does not."""
    if row["status"] not in OPEN:
        raise ApiError(400, "This dispute is already closed", code="dispute_closed")
    previous = {"status": row["status"]}
    row["status"] = status
    if status == "won":
        back = make_transaction(world, row["amount"], row["currency"], row["id"], "adjustment", world.now(row))
        row["balance_transactions"] = [*row["balance_transactions"], back]
    world.store.save(row)
    if status == "won":
        world.emit("charge.dispute.funds_reinstated", row)
    world.emit("charge.dispute.closed", row, previous)
    return row


@operation("GET", "/v1/disputes/{dispute}")
def retrieve(call: Call, dispute: str) -> Object:
    return call.world.require("dispute", dispute)


@operation("GET", "/v1/disputes")
def list_disputes(call: Call) -> Object:
    return page(call, "dispute", equal=("charge", "payment_intent"))


@operation("POST", "/v1/disputes/{dispute}")
def update(call: Call, dispute: str) -> Object:
    """Evidence `uncategorized_text` of winning_evidence or losing_evidence decides it a minute later, as in Stripe's test mode."""
    params, world = call.params, call.world
    only(params, ("evidence", "metadata", "submit"))
    row = world.require("dispute", dispute)
    changes: dict[str, Any] = {}
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], row["metadata"])
    if "evidence" in params:
        changes["evidence"] = {**row["evidence"], **params["evidence"]}
    if "evidence" in params and params.get("submit", True):
        if row["status"] not in OPEN:
            raise ApiError(400, "This dispute is already closed", code="dispute_closed")
        details = row["evidence_details"]
        changes["status"] = "under_review"
        changes["evidence_details"] = {
            **details,
            "has_evidence": True,
            "submission_count": details["submission_count"] + 1,
            "submission_method": "manual",
        }
        word = changes["evidence"].get("uncategorized_text")
        verdict = {"winning_evidence": "won", "losing_evidence": "lost"}.get(word)
        if verdict:
            charge = world.require("charge", row["charge"])
            data = {"dispute": dispute, "status": verdict}
            world.at(world.now(charge) + _REVIEW_SECONDS, "dispute.verdict", data, world.clock_of(charge))
    world.update(row, changes, "charge.dispute.updated")
    return row


@task("dispute.verdict")
def _verdict(world: World, data: dict[str, Any]) -> None:
    row = world.store.get("dispute", data["dispute"])
    if row is not None and row["status"] in OPEN:
        close_dispute(world, row, data["status"])


@operation("POST", "/v1/disputes/{dispute}/close")
def close(call: Call, dispute: str) -> Object:
    """Accept it: the dispute is lost."""
    return close_dispute(call.world, call.world.require("dispute", dispute), "lost")
