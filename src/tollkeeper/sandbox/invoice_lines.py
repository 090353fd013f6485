"""The lines of an invoice, and what they come to.

Each line has a source, kept with the invoice, and a draft is worked out from its sources anew whenever it is looked at: usage that arrives
while an invoice is a draft is on it. Kinds of sources:

    usage     {"item", "subscription", "price", "start", "end"}                 a metered price in arrears
    licensed  {"item", "subscription", "price", "quantity", "start", "end"}     in advance; "trial": for nothing; "share": [part, whole]
    item      {"id"}                                                            an invoice item, prorations among them
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.arithmetic import Piece, discounted, due, rated, share, tax
from tollkeeper.sandbox.discounts import coupon_of
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import listed
from tollkeeper.sandbox.texts import exact, piece_text

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_SHOWN = 10
Source = dict[str, Any]


def refresh(world: World, invoice: Object) -> None:
    """Work out a draft's lines and sums from its sources and what is known now."""
    lines: list[Object] = []
    for number, source in enumerate(invoice["_sources"]):
        lines += _lines(world, invoice, source, number)
    invoice["_lines"] = lines
    total(world, invoice)


def price_of(world: World, id: str) -> Object:
    found = world.store.get("price", id)
    assert found is not None, id
    return found


def usage_of(world: World, customer: str, price: Object, start: int, end: int) -> Decimal:
    """What a metered price counted in [start, end)."""
    meter = world.store.get("billing.meter", price["recurring"]["meter"])
    assert meter is not None
    return world.meters.usage(meter["id"], customer, start, end).by(meter["default_aggregation"]["formula"])


def _lines(world: World, invoice: Object, source: Source, number: int) -> list[Object]:
    if source["kind"] == "item":
        row = world.store.get("invoiceitem", source["id"])
        return [] if row is None or row.get("deleted") else [_item_line(world, invoice, row, number)]
    price = price_of(world, source["price"])
    if source["kind"] == "usage":
        quantity = usage_of(world, invoice["customer"], price, source["start"], source["end"])
    else:
        quantity = Decimal(source["quantity"])
    pieces = [Piece(quantity, Decimal(0), 0)] if source.get("trial") else rated(price, quantity)
    found = []
    part, whole = source.get("share") or (1, 1)
    for piece in pieces:
        amount = share(piece.amount, part, whole)
        line = _line(world, invoice, f"{number}:{piece.tier}:{piece.flat}", amount, source["start"], source["end"])
        line.update(
            description=piece_text(world, price, piece, trial=bool(source.get("trial"))),
            metadata=dict(source.get("metadata") or {}),
            parent={
                "invoice_item_details": None,
                "subscription_item_details": {
                    "invoice_item": None,
                    "proration": bool(source.get("share")),
                    "proration_details": {"credited_items": None},
                    "subscription": source["subscription"],
                    "subscription_item": source["item"],
                },
                "type": "subscription_item_details",
            },
            pricing=_pricing(price, piece.unit_amount),
            quantity=int(piece.quantity),
            quantity_decimal=exact(piece.quantity),
            subscription=source["subscription"],
            _tax_rates=source.get("tax_rates") or [],
        )
        found.append(line)
    return found


def _pricing(price: Object, unit_amount: Decimal) -> dict[str, Any]:
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": exact(unit_amount),
    }


def _item_line(world: World, invoice: Object, row: Object, number: int) -> Object:
    line = _line(world, invoice, f"item:{row['id']}", row["amount"], row["period"]["start"], row["period"]["end"])
    subscription = row["_subscription"]
    line.update(
        description=row["description"],
        discountable=row["discountable"],
        metadata=dict(row["metadata"]),
        pricing=row["pricing"],
        quantity=row["quantity"],
        quantity_decimal=row["quantity_decimal"],
        subscription=subscription,
        _tax_rates=row["_tax_rates"],
    )
    details = {
        "invoice_item": row["id"],
        "proration": row["proration"],
        "proration_details": {"credited_items": None},
        "subscription": subscription,
    }
    if row["_subscription_item"]:
        line["parent"] = {
            "invoice_item_details": None,
            "subscription_item_details": {**details, "subscription_item": row["_subscription_item"]},
            "type": "subscription_item_details",
        }
    else:
        line["parent"] = {
            "invoice_item_details": details,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        }
    return line


def _line(world: World, invoice: Object, key: str, amount: int, start: int, end: int) -> Object:
    ids = invoice["_line_ids"]
    if key not in ids:
        ids[key] = world.ids.new("il_1")
    return {
        "id": ids[key],
        "object": "line_item",
        "amount": amount,
        "currency": invoice["currency"],
        "description": None,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice.get("id"),
        "livemode": False,
        "metadata": {},
        "parent": None,
        "period": {"end": end, "start": start},
        "pretax_credit_amounts": [],
        "pricing": None,
        "quantity": 1,
        "quantity_decimal": "1",
        "subscription": None,
        "subtotal": amount,
        "taxes": [],
    }


def total(world: World, invoice: Object) -> None:
    """Discounts, taxes and sums of an invoice from its lines."""
    lines = invoice["_lines"]
    discounts = [row for id in invoice["discounts"] if (row := world.store.get("discount", id)) is not None]
    found = []
    for row in discounts:
        coupon = coupon_of(world, row)
        products = (coupon.get("applies_to") or {}).get("products")
        fits = [
            line["discountable"] and (products is None or _product(line) in products) for line in lines
        ]  # fmt: skip
        found.append((coupon, fits))
    parts = discounted([line["amount"] for line in lines], found)
    sums = []
    for row, each in zip(discounts, parts, strict=True):
        sums.append({"amount": sum(each), "discount": row["id"]})
    for place, line in enumerate(lines):
        line["discount_amounts"] = [
            {"amount": each[place], "discount": row["id"]}
            for row, each, (_, fits) in zip(discounts, parts, found, strict=True)
            if fits[place]
        ]
        line["pretax_credit_amounts"] = [
            {"amount": one["amount"], "discount": one["discount"], "type": "discount"}
            for one in line["discount_amounts"]
        ]
    taxes, on_top, inside = _taxes(world, invoice)
    subtotal = sum(line["amount"] for line in lines)
    off = sum(one["amount"] for one in sums)
    amount = subtotal - off + on_top
    balance = invoice["starting_balance"]
    charged = invoice["collection_method"] == "charge_automatically"
    owed, _ = (
        due(amount, balance, invoice["currency"], charged=charged) if invoice["_on_balance"] else (max(amount, 0), 0)
    )
    invoice.update(
        subtotal=subtotal,
        subtotal_excluding_tax=subtotal - inside,
        total=amount,
        total_excluding_tax=amount - on_top - inside,
        total_discount_amounts=sums,
        total_pretax_credit_amounts=[{**one, "type": "discount"} for one in sums],
        total_taxes=taxes,
        amount_due=owed,
        amount_remaining=owed,
        lines=listed(f"/v1/invoices/{invoice.get('id') or 'upcoming'}/lines", lines, _SHOWN),
    )
    invoice["lines"]["total_count"] = len(lines)


def _product(line: Object) -> str | None:
    details = (line["pricing"] or {}).get("price_details") or {}
    return details.get("product")


def _taxes(world: World, invoice: Object) -> tuple[list[Object], int, int]:
    """The taxes by rate, and what of them comes on top of the lines and stands inside them."""
    sums: dict[str, Object] = {}
    on_top = inside = 0
    exempt = invoice["customer_tax_exempt"] in ("exempt", "reverse")
    for line in invoice["_lines"]:
        net = line["amount"] - sum(one["amount"] for one in line["discount_amounts"])
        line["taxes"] = []
        for id in [] if exempt else line["_tax_rates"] or invoice["_tax_rates"]:
            rate = world.store.get("tax_rate", id)
            assert rate is not None
            amount = tax(net, rate["percentage"], inclusive=rate["inclusive"])
            on_top += 0 if rate["inclusive"] else amount
            inside += amount if rate["inclusive"] else 0
            one = {
                "amount": amount,
                "tax_behavior": "inclusive" if rate["inclusive"] else "exclusive",
                "tax_rate_details": {"tax_rate": id},
                "taxability_reason": "standard_rated",
                "taxable_amount": net - (amount if rate["inclusive"] else 0),
                "type": "tax_rate_details",
            }
            line["taxes"].append(one)
            held = sums.setdefault(id, {**one, "amount": 0, "taxable_amount": 0})
            held["amount"] += amount
            held["taxable_amount"] += one["taxable_amount"]
    return list(sums.values()), on_top, inside
