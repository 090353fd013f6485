"""Credit notes: what is taken off an invoice after it was finalised (https://docs.stripe.com/invoicing/integration/programmatic-credit-notes).

Of an open invoice a note lowers what is left to pay. Of a paid one it is refunded, put on the customer's balance, or settled elsewhere.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.arithmetic import times
from tollkeeper.sandbox.balance import change_balance
from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.invoices import mark_paid, require_status
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.refunds import make_refund
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import chargeable, listed, only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_SERVED = (
    "amount",
    "credit_amount",
    "effective_at",
    "invoice",
    "lines",
    "memo",
    "metadata",
    "out_of_band_amount",
    "reason",
    "refund_amount",
)


def _lines(world: World, invoice: Object, params: dict[str, Any]) -> list[Object]:
    given = params.get("lines")
    if given is None:
        if "amount" not in params:
            raise invalid("You must specify `amount` or `lines`.", "amount", "parameter_missing")
        return [_line(world, invoice, "custom_line_item", params["amount"], "Credit", None, 1)]
    found = []
    for number, one in enumerate(given):
        if one["type"] == "invoice_line_item":
            held = next((line for line in invoice["_lines"] if line["id"] == one.get("invoice_line_item")), None)
            if held is None:
                raise invalid(
                    "No such invoice line item: " + str(one.get("invoice_line_item")),
                    f"lines[{number}][invoice_line_item]",
                    "resource_missing",
                )
            if "quantity" in one and held["quantity"]:
                amount = times(Decimal(one["quantity"]), Decimal(held["amount"]) / Decimal(held["quantity_decimal"]))
            else:
                amount = one.get("amount", held["amount"])
            if amount > held["amount"]:
                raise invalid(
                    "The amount of a credit note line is at most that of the invoice's line.",
                    f"lines[{number}][amount]",
                )
            found.append(
                _line(
                    world,
                    invoice,
                    "invoice_line_item",
                    amount,
                    held["description"],
                    held["id"],
                    one.get("quantity", held["quantity"]),
                )
            )
        else:
            unit = Decimal(str(one.get("unit_amount_decimal", one.get("unit_amount", 0))))
            quantity = one.get("quantity", 1)
            found.append(
                _line(
                    world,
                    invoice,
                    "custom_line_item",
                    times(Decimal(quantity), unit),
                    one.get("description"),
                    None,
                    quantity,
                )
            )
    return found


def _line(
    world: World, invoice: Object, type: str, amount: int, description: str | None, held: str | None, quantity: int
) -> Object:
    return {
        "id": world.ids.new("cnli_1"),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": description,
        "discount_amount": 0,
        "discount_amounts": [],
        "invoice_line_item": held,
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "quantity": quantity,
        "tax_rates": [],
        "taxes": [],
        "type": type,
        "unit_amount": None,
        "unit_amount_decimal": None,
    }


def make(world: World, params: dict[str, Any], *, kept: bool) -> Object:
    """A credit note, with its effect on the invoice when it is kept. Raises ApiError 400."""
    invoice = world.require("invoice", params["invoice"], "invoice")
    require_status(invoice, ("open", "paid", "uncollectible"), "credit")
    lines = _lines(world, invoice, params)
    amount = sum(line["amount"] for line in lines)
    chargeable(amount, invoice["currency"])
    before = invoice["status"] != "paid"
    most = (
        invoice["amount_remaining"] if before else invoice["amount_paid"] - invoice["post_payment_credit_notes_amount"]
    )
    if not 0 < amount <= most:
        raise invalid(
            f"The sum of credit amounts ({amount}) must not be greater than what the invoice can be credited ({most}).",
            "amount",
        )
    parts = {name: params.get(name) or 0 for name in ("credit_amount", "refund_amount", "out_of_band_amount")}
    if before and any(parts.values()):
        raise invalid("An invoice that is not paid is credited before payment: nothing is refunded.", "refund_amount")
    if not before and sum(parts.values()) != amount:
        raise invalid(
            f"The sum of credit amount, refund amount and out of band amount ({sum(parts.values())}) must equal the credit note amount "
            f"({amount}).", "credit_amount"
        )  # fmt: skip
    now = world.now(invoice)
    number = len(world.store.table("credit_note").of("invoice", invoice["id"])) + 1
    note: Object = {
        "id": world.ids.new("cn_1"),
        "object": "credit_note",
        "amount": amount,
        "amount_shipping": 0,
        "created": now,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "customer_account": None,
        "customer_balance_transaction": None,
        "discount_amount": 0,
        "discount_amounts": [],
        "effective_at": params.get("effective_at", now),
        "invoice": invoice["id"],
        "lines": listed(f"/v1/credit_notes/{invoice['id']}/lines", lines),
        "livemode": False,
        "memo": params.get("memo"),
        "metadata": merged(params.get("metadata")),
        "number": f"{invoice['number']}-CN-{number:02d}",
        "out_of_band_amount": parts["out_of_band_amount"] or None,
        "pdf": f"{world.base_url}/i/{invoice['id']}/{invoice.get('_secret')}/print",
        "post_payment_amount": 0 if before else amount,
        "pre_payment_amount": amount if before else 0,
        "pretax_credit_amounts": [],
        "reason": params.get("reason"),
        "refunds": [],
        "shipping_cost": None,
        "status": "issued",
        "subtotal": amount,
        "subtotal_excluding_tax": amount,
        "total": amount,
        "total_excluding_tax": amount,
        "total_taxes": [],
        "type": "pre_payment" if before else "post_payment",
        "voided_at": None,
    }
    if kept:
        _apply(world, note, invoice, parts, before=before)
    return note


def _apply(world: World, note: Object, invoice: Object, parts: dict[str, int], *, before: bool) -> None:
    amount = note["amount"]
    if parts["refund_amount"]:
        intent = world.require("payment_intent", invoice["_intent"] or "", "refund_amount")
        charge = world.require("charge", intent["latest_charge"] or "", "refund_amount")
        refund = make_refund(world, charge, parts["refund_amount"], "requested_by_customer")
        note["refunds"] = [
            {
                "amount_refunded": parts["refund_amount"],
                "payment_record_refund": None,
                "refund": refund["id"],
                "type": "refund",
            }
        ]
    if parts["credit_amount"]:
        moved = change_balance(
            world, invoice["customer"], -parts["credit_amount"], invoice["currency"], "credit_note", invoice=invoice["id"],
            credit_note=note["id"],
        )  # fmt: skip
        note["customer_balance_transaction"] = moved["id"]
    world.store.save(note)
    if before:
        invoice["pre_payment_credit_notes_amount"] += amount
        invoice["amount_remaining"] -= amount
        invoice["amount_due"] -= amount
        if held := world.store.get("payment_intent", invoice["_intent"] or ""):
            held["amount"] = invoice["amount_remaining"]
            world.store.save(held)
    else:
        invoice["post_payment_credit_notes_amount"] += amount
    world.store.save(invoice)
    world.emit("credit_note.created", note)
    world.emit("invoice.updated", invoice, {})
    if before and invoice["amount_remaining"] == 0:
        mark_paid(world, invoice)


@operation("POST", "/v1/credit_notes")
def create(call: Call) -> Object:
    only(call.params, _SERVED)
    return make(call.world, call.params, kept=True)


@operation("GET", "/v1/credit_notes/preview")
def preview(call: Call) -> Object:
    only(call.params, _SERVED)
    return make(call.world, call.params, kept=False)


@operation("GET", "/v1/credit_notes/{id}")
def retrieve(call: Call, id: str) -> Object:
    return call.world.require("credit_note", id)


@operation("POST", "/v1/credit_notes/{id}")
def update(call: Call, id: str) -> Object:
    only(call.params, ("memo", "metadata"))
    row = call.world.require("credit_note", id)
    changes: dict[str, Any] = {"memo": call.params["memo"]} if "memo" in call.params else {}
    if "metadata" in call.params:
        changes["metadata"] = merged(call.params["metadata"], row["metadata"])
    call.world.update(row, changes, "credit_note.updated")
    return row


@operation("POST", "/v1/credit_notes/{id}/void")
def void(call: Call, id: str) -> Object:
    world = call.world
    row = world.require("credit_note", id)
    invoice = world.require("invoice", row["invoice"])
    if row["status"] == "void" or row["type"] != "pre_payment" or invoice["status"] != "open":
        raise invalid("You can only void a credit note of an open invoice.")
    row.update(status="void", voided_at=world.now(row))
    invoice["pre_payment_credit_notes_amount"] -= row["amount"]
    invoice["amount_remaining"] += row["amount"]
    invoice["amount_due"] += row["amount"]
    world.store.save(row)
    world.store.save(invoice)
    world.emit("credit_note.voided", row)
    return row


@operation("GET", "/v1/credit_notes")
def list_notes(call: Call) -> Object:
    return page(call, "credit_note", equal=("customer", "invoice"))
