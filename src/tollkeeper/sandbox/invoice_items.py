"""Invoice items: what is put on the next invoice, or on a draft; prorations are kept as such too."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.arithmetic import times
from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.invoice_lines import refresh
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import chargeable, only
from tollkeeper.sandbox.texts import exact, product_name

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World


def make_item(
    world: World, customer: str, currency: str, amount: int, *, description: str | None = None, start: int | None = None,
    end: int | None = None, subscription: str | None = None, subscription_item: str | None = None, price: Object | None = None,
    quantity: Decimal = Decimal(1), unit_amount: Decimal | None = None, proration: bool = False, discountable: bool | None = None,
    discounts: list[str] | None = None, metadata: Any = None, tax_rates: list[str] | None = None, kept: bool = True,
) -> Object:  # fmt: skip
    """An invoice item that waits for an invoice. `kept` false: for a preview only."""
    now = world.now(customer)
    unit = Decimal(amount) if unit_amount is None else unit_amount
    row: Object = {
        "id": world.ids.new("ii_1"),
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "date": now,
        "description": description,
        "discountable": (amount >= 0 and not proration) if discountable is None else discountable,
        "discounts": discounts or [],
        "frozen_fields": None,
        "invoice": None,
        "invoicing_rules": None,
        "livemode": False,
        "metadata": merged(metadata),
        "net_amount": amount,
        "parent": {
            "subscription_details": {"subscription": subscription, "subscription_item": subscription_item},
            "type": "subscription_details",
        }
        if subscription
        else None,
        "period": {"end": now if end is None else end, "start": now if start is None else start},
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]} if price else None,
            "type": "price_details",
            "unit_amount_decimal": exact(unit),
        },
        "proration": proration,
        "proration_details": {"discount_amounts": []} if proration else None,
        "quantity": int(quantity),
        "quantity_decimal": exact(quantity),
        "tax_rates": [world.store.get("tax_rate", id) for id in tax_rates or []],
        "test_clock": world.clock_of(customer),
        "_subscription": subscription,
        "_subscription_item": subscription_item,
        "_tax_rates": tax_rates or [],
    }
    if kept:
        world.store.save(row)
        world.emit("invoiceitem.created", row)
    return row


def pending(world: World, customer: str, currency: str, subscription: str | None) -> list[Object]:
    """The items that wait for a customer's next invoice: of this subscription, and those of none."""
    return [
        row
        for row in world.store.table("invoiceitem").of("customer", customer)
        if row["invoice"] is None
        and row["currency"] == currency
        and row["_subscription"] in (None, subscription)
        and not row.get("deleted")
    ]


def _draft(world: World, id: str) -> Object:
    invoice = world.require("invoice", id, "invoice")
    if invoice["status"] != "draft":
        raise ApiError(
            400,
            "This invoice is no longer editable.",
            code="invoice_not_editable",
            param="invoice",
        )
    return invoice


@operation("POST", "/v1/invoiceitems")
def create(call: Call) -> Object:
    params, world = call.params, call.world
    only(
        params,
        ("amount", "currency", "customer", "description", "discountable", "invoice", "metadata", "period", "price_data", "pricing",
         "quantity", "quantity_decimal", "subscription", "tax_rates", "unit_amount_decimal"),
    )  # fmt: skip
    if "customer" not in params:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    customer = world.require("customer", params["customer"], "customer")
    invoice = _draft(world, params["invoice"]) if "invoice" in params else None
    subscription = None
    if "subscription" in params:
        subscription = world.require("subscription", params["subscription"], "subscription")["id"]
    if "quantity" in params and "amount" in params:
        raise invalid("You may only specify one of these parameters: amount, quantity.", "quantity")
    quantity = Decimal(str(params.get("quantity_decimal", params.get("quantity", 1))))
    price = None
    name = params.get("description")
    if "pricing" in params:
        price = world.require("price", params["pricing"].get("price") or "", "pricing[price]")
        if price["type"] != "one_time" or price["billing_scheme"] != "per_unit":
            raise invalid(
                "The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.",
                "pricing[price]",
            )
        unit, currency = Decimal(str(price["unit_amount_decimal"])), price["currency"]
        name = name or product_name(world, price)
    elif "price_data" in params:
        data = params["price_data"]
        world.require("product", data["product"], "price_data[product]")
        unit, currency = (
            Decimal(str(data.get("unit_amount_decimal", data.get("unit_amount", 0)))),
            data["currency"].lower(),
        )
    else:
        if "amount" not in params and "unit_amount_decimal" not in params:
            raise invalid(
                "You must specify either `amount`, `unit_amount_decimal`, `pricing` or `price_data`.",
                "amount",
                "parameter_missing",
            )
        unit = Decimal(str(params.get("unit_amount_decimal", params.get("amount"))))
        currency = params.get("currency", invoice["currency"] if invoice else "")
    currency = str(params.get("currency", currency)).lower()
    if not currency:
        raise invalid("Missing required param: currency.", "currency", "parameter_missing")
    if invoice is not None and currency != invoice["currency"]:
        raise invalid(
            f"The currency of the invoice item ({currency}) does not match that of the invoice ({invoice['currency']}).",
            "currency",
        )
    if invoice is not None and invoice["customer"] != customer["id"]:
        raise invalid("The invoice belongs to another customer.", "invoice")
    chargeable(times(quantity, unit), currency)
    period = params.get("period") or {}
    row = make_item(
        world, customer["id"], currency, times(quantity, unit), description=name, start=period.get("start"), end=period.get("end"),
        subscription=subscription, price=price, quantity=quantity, unit_amount=unit, discountable=params.get("discountable"),
        metadata=params.get("metadata"), tax_rates=params.get("tax_rates") or None,
    )  # fmt: skip
    if invoice is not None:
        row["invoice"] = invoice["id"]
        world.store.save(row)
        invoice["_sources"].append({"kind": "item", "id": row["id"]})
        refresh(world, invoice)
        world.store.save(invoice)
        world.emit("invoice.updated", invoice, {})
    return row


@operation("GET", "/v1/invoiceitems/{invoiceitem}")
def retrieve(call: Call, invoiceitem: str) -> Object:
    return call.world.require("invoiceitem", invoiceitem)


@operation("POST", "/v1/invoiceitems/{invoiceitem}")
def update(call: Call, invoiceitem: str) -> Object:
    params, world = call.params, call.world
    only(params, ("amount", "description", "discountable", "metadata", "period", "quantity"))
    row = world.require("invoiceitem", invoiceitem)
    invoice = _draft(world, row["invoice"]) if row["invoice"] else None
    changes: dict[str, Any] = {
        name: params[name] for name in ("description", "discountable", "period") if name in params
    }
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], row["metadata"])
    if "amount" in params:
        chargeable(params["amount"], row["currency"])
        changes.update(amount=params["amount"], net_amount=params["amount"])
        changes["pricing"] = {**row["pricing"], "unit_amount_decimal": str(params["amount"])}
    if "quantity" in params:
        amount = times(Decimal(params["quantity"]), Decimal(row["pricing"]["unit_amount_decimal"]))
        changes.update(
            amount=amount, net_amount=amount, quantity=params["quantity"], quantity_decimal=str(params["quantity"])
        )
    world.update(row, changes)
    if invoice is not None:
        refresh(world, invoice)
        world.store.save(invoice)
    return row


@operation("DELETE", "/v1/invoiceitems/{invoiceitem}")
def delete(call: Call, invoiceitem: str) -> Object:
    world = call.world
    row = world.require("invoiceitem", invoiceitem)
    invoice = _draft(world, row["invoice"]) if row["invoice"] else None
    world.store.remove(row)
    world.emit("invoiceitem.deleted", row)
    if invoice is not None:
        invoice["_sources"] = [source for source in invoice["_sources"] if source.get("id") != row["id"]]
        refresh(world, invoice)
        world.store.save(invoice)
    return {"id": row["id"], "object": "invoiceitem", "deleted": True}


@operation("GET", "/v1/invoiceitems")
def list_items(call: Call) -> Object:
    waiting = call.params.get("pending")
    return page(
        call,
        "invoiceitem",
        equal=("customer", "invoice"),
        ranges=(),
        where=lambda row: waiting is None or (row["invoice"] is None) == waiting,
    )
