"""The operations of invoices, their lines and their payments (https://docs.stripe.com/api/invoices)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.cards import card_error, find_method
from tollkeeper.sandbox.discounts import redeem_all
from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.invoice_items import pending
from tollkeeper.sandbox.invoice_lines import refresh
from tollkeeper.sandbox.invoice_object import blank
from tollkeeper.sandbox.invoices import (
    change,
    collect,
    finalize,
    keep,
    mark_paid,
    mark_uncollectible,
    method_of,
    pay,
    require_status,
    set_advance,
    subscription_of,
    void,
)
from tollkeeper.sandbox.lists import cut_rows, page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.payments import error_of, outcome
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_CREATE = (
    "auto_advance", "automatic_tax", "collection_method", "currency", "custom_fields", "customer", "days_until_due",
    "default_payment_method", "default_tax_rates", "description", "discounts", "due_date", "footer", "metadata",
    "pending_invoice_items_behavior", "subscription",
)  # fmt: skip
_UPDATE = (
    "auto_advance", "collection_method", "custom_fields", "days_until_due", "default_payment_method", "default_tax_rates", "description",
    "discounts", "due_date", "footer", "metadata",
)  # fmt: skip


def fresh(world: World, invoice: Object) -> Object:
    """A draft as it is now: usage goes on arriving."""
    if invoice["status"] == "draft":
        refresh(world, invoice)
        world.store.save(invoice)
    return invoice


@operation("POST", "/v1/invoices")
def create(call: Call) -> Object:
    params, world = call.params, call.world
    only(params, _CREATE)
    if "customer" not in params:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    customer = world.require("customer", params["customer"], "customer")
    subscription = (
        world.require("subscription", params["subscription"], "subscription") if "subscription" in params else None
    )
    currency = (
        params.get("currency") or (subscription or {}).get("currency") or customer.get("currency") or "usd"
    ).lower()
    behavior = params.get("pending_invoice_items_behavior", "include" if subscription else "exclude")
    rows = pending(world, customer["id"], currency, params.get("subscription")) if behavior == "include" else []
    if subscription is not None:
        rows = [row for row in rows if row["_subscription"] == subscription["id"]]
        if not rows:
            raise ApiError(400, "Nothing to invoice for subscription", code="invoice_no_subscription_line_items")
    method = params.get("collection_method", "charge_automatically")
    if method == "send_invoice" and "days_until_due" not in params and "due_date" not in params:
        raise invalid(
            "If `collection_method=send_invoice`, you must pass `due_date` or `days_until_due`.", "days_until_due"
        )
    fields: dict[str, Any] = {
        name: params[name] for name in ("custom_fields", "description", "due_date", "footer") if name in params
    }
    if subscription is not None:
        details = {
            "metadata": dict(subscription["metadata"]),
            "subscription": subscription["id"],
            "subscription_proration_date": None,
        }
        fields["parent"] = {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
    invoice = blank(
        world,
        customer,
        currency,
        "manual",
        auto_advance=params.get("auto_advance", False),
        automatic_tax={"disabled_reason": None, "enabled": bool((params.get("automatic_tax") or {}).get("enabled")), "liability": None,
                       "provider": None, "status": None},
        collection_method=method,
        metadata=merged(params.get("metadata")),
        _sources=[{"kind": "item", "id": row["id"]} for row in rows],
        _tax_rates=[world.require("tax_rate", id, "default_tax_rates")["id"] for id in params.get("default_tax_rates") or []],
        _days_until_due=params.get("days_until_due"),
        **fields,
    )  # fmt: skip
    if "default_payment_method" in params:
        invoice["default_payment_method"] = find_method(
            world, params["default_payment_method"], "default_payment_method"
        )["id"]
    held = customer.get("discount")
    if "discounts" in params:
        invoice["discounts"] = redeem_all(world, params["discounts"] or [], currency, customer["id"])
    elif held:
        invoice["discounts"] = [held["id"]]
    if not customer.get("currency"):
        world.update(customer, {"currency": currency})
    return keep(world, invoice)


@operation("GET", "/v1/invoices/{invoice}")
def retrieve(call: Call, invoice: str) -> Object:
    return fresh(call.world, call.world.require("invoice", invoice))


@operation("GET", "/v1/invoices")
def list_invoices(call: Call) -> Object:
    wanted = call.params.get("subscription")

    def fits(row: Object) -> bool:
        held = subscription_of(call.world, row)
        return wanted is None or (held is not None and held["id"] == wanted)

    found = page(
        call, "invoice", equal=("customer", "status", "collection_method"), ranges=("created", "due_date"), where=fits
    )
    for row in found["data"]:
        fresh(call.world, row)
    return found


@operation("GET", "/v1/invoices/{invoice}/lines")
def list_lines(call: Call, invoice: str) -> Object:
    return cut_rows(call, fresh(call.world, call.world.require("invoice", invoice))["_lines"])


@operation("POST", "/v1/invoices/{invoice}")
def update(call: Call, invoice: str) -> Object:
    params, world = call.params, call.world
    only(params, _UPDATE)
    row = world.require("invoice", invoice)
    if row["status"] != "draft" and set(params) - {"auto_advance", "metadata", "default_payment_method", "description"}:
        raise ApiError(400, "Finalized invoices can't be updated in this way.", code="invoice_not_editable")
    change(world, row, params)
    if "discounts" in params:
        row["discounts"] = redeem_all(
            world, params["discounts"] or [], row["currency"], row["customer"], invoice=invoice
        )
    if "default_tax_rates" in params:
        rates = [world.require("tax_rate", id, "default_tax_rates") for id in params["default_tax_rates"] or []]
        row.update(default_tax_rates=rates, _tax_rates=[rate["id"] for rate in rates])
    if "collection_method" in params:
        row["collection_method"] = params["collection_method"]
    if "days_until_due" in params:
        row["_days_until_due"] = params["days_until_due"]
    if "auto_advance" in params and params["auto_advance"] != row["auto_advance"]:
        set_advance(world, row, params["auto_advance"])
    fresh(world, row)
    world.store.save(row)
    return row


@operation("DELETE", "/v1/invoices/{invoice}")
def delete(call: Call, invoice: str) -> Object:
    world = call.world
    row = world.require("invoice", invoice)
    if row["status"] != "draft" or row["billing_reason"] != "manual":
        raise ApiError(
            400, "You can only delete draft invoices that are not of a subscription.", code="invoice_not_editable"
        )
    for source in row["_sources"]:
        held = world.store.get("invoiceitem", source.get("id", ""))
        if held is not None:
            world.store.remove(held)
    world.store.remove(row)
    world.emit("invoice.deleted", row)
    return {"id": invoice, "object": "invoice", "deleted": True}


@operation("POST", "/v1/invoices/{invoice}/finalize")
def finalize_it(call: Call, invoice: str) -> Object:
    only(call.params, ("auto_advance",))
    row = call.world.require("invoice", invoice)
    if row["status"] != "draft":
        raise ApiError(
            400,
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
            code="invoice_not_editable",
        )
    if "auto_advance" in call.params:
        row["auto_advance"] = call.params["auto_advance"]
    finalize(call.world, row)
    if row["auto_advance"]:
        collect(call.world, row)
    return row


@operation("POST", "/v1/invoices/{invoice}/pay")
def pay_it(call: Call, invoice: str) -> Object:
    params, world = call.params, call.world
    only(params, ("forgive", "off_session", "paid_out_of_band", "payment_method"))
    row = world.require("invoice", invoice)
    if row["status"] == "draft":
        finalize(world, row)
    if row["status"] == "paid":
        raise ApiError(400, "Invoice is already paid", code="invoice_already_paid")
    require_status(row, ("open", "uncollectible"), "pay")
    if params.get("paid_out_of_band"):
        mark_paid(world, row, elsewhere=True)
        return row
    method = find_method(world, params["payment_method"]) if "payment_method" in params else method_of(world, row)
    if method is None:
        raise ApiError(
            400,
            "There is no default payment method set on this Customer. Please use a PaymentMethod or set a default.",
            code="resource_missing",
        )
    off_session = params.get("off_session", True)
    asks = outcome(method, off_session=off_session)
    result = pay(world, row, method)
    intent = world.require("payment_intent", row["_intent"])
    if result == "failed":
        raise error_of(intent)
    if result == "requires_action" and asks == "authentication_required":
        error = card_error("authentication_required")
        raise ApiError(
            402, "This payment requires additional user action before it can be completed successfully.", type=error.type,
            code="invoice_payment_intent_requires_action",
        )  # fmt: skip
    return row


@operation("POST", "/v1/invoices/{invoice}/send")
def send(call: Call, invoice: str) -> Object:
    row = call.world.require("invoice", invoice)
    if row["status"] == "draft":
        finalize(call.world, row)
    require_status(row, ("open", "paid", "uncollectible"), "send")
    call.world.emit("invoice.sent", row)
    return row


@operation("POST", "/v1/invoices/{invoice}/void")
def void_it(call: Call, invoice: str) -> Object:
    row = call.world.require("invoice", invoice)
    require_status(row, ("open", "uncollectible"), "void")
    void(call.world, row)
    return row


@operation("POST", "/v1/invoices/{invoice}/mark_uncollectible")
def mark_it(call: Call, invoice: str) -> Object:
    row = call.world.require("invoice", invoice)
    require_status(row, ("open",), "mark as uncollectible")
    mark_uncollectible(call.world, row)
    return row


@operation("GET", "/v1/invoice_payments/{invoice_payment}", resource="invoice")
def retrieve_payment(call: Call, invoice_payment: str) -> Object:
    return call.world.require("invoice_payment", invoice_payment)


@operation("GET", "/v1/invoice_payments", resource="invoice")
def list_payments(call: Call) -> Object:
    wanted = (call.params.get("payment") or {}).get("payment_intent")
    return page(
        call,
        "invoice_payment",
        equal=("invoice", "status"),
        where=lambda row: wanted is None or row["payment"]["payment_intent"] == wanted,
    )
