"""An invoice for people: a page that can be paid, one to print, and the receipt of a charge."""

from __future__ import annotations

import contextlib
from html import escape
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tollkeeper.sandbox.cards import attach, card_of_number, make_method
from tollkeeper.sandbox.errors import ApiError
from tollkeeper.sandbox.frame import field, go, html, message, note, page_route
from tollkeeper.sandbox.invoices import mark_paid, pay
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.texts import day, exact_text, money

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_TAGS = {"paid": "good", "open": "warn", "draft": "", "void": "", "uncollectible": "bad"}


def routes(world: World) -> list[Route]:
    return [
        page_route(world, "/i/{invoice}/{secret}", hosted),
        page_route(world, "/i/{invoice}/{secret}/print", printed),
        page_route(world, "/receipts/{charge}", receipt),
    ]


def status_tag(status: str) -> str:
    return f'<span class="tag {_TAGS.get(status, "")}">{escape(status)}</span>'


def _find(world: World, request: Request) -> Object | None:
    invoice = world.store.get("invoice", request.path_params["invoice"])
    return invoice if invoice is not None and invoice.get("_secret") == request.path_params["secret"] else None


def hosted(world: World, request: Request, fields: dict[str, str]) -> Response:
    """`hosted_invoice_url`: what is owed, and a form to pay it."""
    invoice = _find(world, request)
    if invoice is None:
        return message("Nothing here", "There is no invoice at this address.", status=404)
    error = ""
    if request.method == "POST" and invoice["status"] in ("open", "uncollectible"):
        answer = _pay(world, invoice, fields)
        if isinstance(answer, Response):
            return answer
        error = answer
    return html(f"Invoice {invoice['number']}", _page(world, invoice, error), 402 if error else 200)


def _pay(world: World, invoice: Object, fields: dict[str, str]) -> Response | str:
    """Pay with the card typed in. The next page, or what is wrong."""
    card = card_of_number(fields.get("number", ""))
    if card is None or card.delayed:
        return "Your card number is invalid."
    if invoice["_intent"] is None:
        mark_paid(world, invoice)
        return go(str(invoice["hosted_invoice_url"]))
    method = make_method(world, card, {"name": fields.get("name"), "email": invoice["customer_email"]})
    came = pay(world, invoice, method)
    intent = world.require("payment_intent", invoice["_intent"])
    if came == "requires_action":
        return go(str(intent["next_action"]["redirect_to_url"]["url"]))
    if came == "failed":
        return str(intent["last_payment_error"]["message"])
    if method["customer"] is None:
        with contextlib.suppress(ApiError):  # paid all the same, when the card cannot be kept
            attach(world, method, invoice["customer"])
    return go(str(invoice["hosted_invoice_url"]))


def _page(world: World, invoice: Object, error: str) -> str:
    currency = invoice["currency"]
    out = '<main class="column"><p><span class="badge">Sandbox</span></p><div class="card">'
    out += f'<div class="head"><div><p class="soft">Invoice {escape(invoice["number"])}</p>'
    amount = invoice["amount_paid"] if invoice["status"] == "paid" else invoice["amount_remaining"]
    out += f'<p class="amount">{money(amount, currency)}</p>'
    paid_at = invoice["status_transitions"]["paid_at"]
    if paid_at:
        out += f'<p class="soft">Paid on {day(paid_at)}</p>'
    elif invoice["due_date"]:
        out += f'<p class="soft">Due on {day(invoice["due_date"])}</p>'
    out += f"</div><div>{status_tag(invoice['status'])}</div></div>"
    if invoice["status"] in ("open", "uncollectible"):
        out += note(error) + '<form method="post" class="narrow" autocomplete="off">'
        out += field("number", "Card number", "", inputmode="numeric", placeholder="4242 4242 4242 4242", required=True)
        out += field("name", "Name on card", invoice["customer_name"] or "")
        out += f'<button class="go">Pay {money(invoice["amount_remaining"], currency)}</button></form>'
    out += "</div>" + f'<div class="card">{body(world, invoice)}</div>'
    return (
        out
        + f'<p class="noprint"><a class="quiet" href="{escape(str(invoice["invoice_pdf"]))}">Print or save</a></p></main>'
    )


def printed(world: World, request: Request, fields: dict[str, str]) -> Response:
    """`invoice_pdf`: the same on one page for paper."""
    invoice = _find(world, request)
    if invoice is None:
        return message("Nothing here", "There is no invoice at this address.", status=404)
    head = f'<div class="head"><h1>Invoice</h1><p>{status_tag(invoice["status"])}</p></div>'
    back = f'<p class="noprint"><a class="quiet" href="{escape(str(invoice["hosted_invoice_url"]))}">Back</a></p>'
    return html(
        f"Invoice {invoice['number']}",
        f'<main class="column"><div class="card">{head}{body(world, invoice)}</div>{back}</main>',
    )


def body(world: World, invoice: Object) -> str:
    """From, to, lines and sums."""
    currency = invoice["currency"]
    address = invoice["customer_address"] or {}
    place = ", ".join(str(address[name]) for name in ("line1", "postal_code", "city", "country") if address.get(name))
    to = [invoice["customer_name"] or "", invoice["customer_email"] or "", place]
    to += [f"{row['type'].replace('_', ' ').upper()} {row['value']}" for row in invoice["customer_tax_ids"]]
    facts = {
        "Number": invoice["number"],
        "Issued": day(invoice["effective_at"] or invoice["created"]),
        "From": invoice["account_name"],
        "To": "\n".join(line for line in to if line),
    }
    rows = "".join(
        f"<tr><th scope='row'>{name}</th><td>{escape(str(value)).replace(chr(10), '<br>')}</td></tr>"
        for name, value in facts.items()
        if value
    )
    out = f'<table class="facts">{rows}</table><h2 class="below">Lines</h2><div class="scroll"><table><thead><tr>'
    out += '<th>What</th><th class="right">Quantity</th><th class="right">Amount</th></tr></thead><tbody>'
    for line in invoice["_lines"]:
        start, end = line["period"]["start"], line["period"]["end"]
        period = f'<br><span class="soft small">{day(start)} – {day(end)}</span>' if end > start else ""
        out += f"<tr><td>{escape(line['description'] or '')}{period}</td>"
        out += f"<td class='right nowrap'>{exact_text(line['quantity_decimal'])}</td>"
        out += f"<td class='right nowrap'>{money(line['amount'], currency)}</td></tr>"
    out += "</tbody><tfoot>"
    for words, amount in _sums(world, invoice):
        out += f"<tr><th colspan='2' class='right'>{escape(words)}</th><td class='right nowrap'>{money(amount, currency)}</td></tr>"
    return out + "</tfoot></table></div>"


def _sums(world: World, invoice: Object) -> list[tuple[str, int]]:
    found = [("Subtotal", invoice["subtotal"])]
    for one in invoice["total_discount_amounts"]:
        coupon = world.require("coupon", world.require("discount", one["discount"])["source"]["coupon"])
        found.append((coupon.get("name") or "Discount", -one["amount"]))
    for one in invoice["total_taxes"]:
        rate = world.require("tax_rate", one["tax_rate_details"]["tax_rate"])
        found.append((f"{rate['display_name']} {rate['percentage']:g} %", one["amount"]))
    found.append(("Total", invoice["total"]))
    if invoice["ending_balance"] is not None and invoice["ending_balance"] != invoice["starting_balance"]:
        found.append(("Balance of the account", invoice["starting_balance"] - invoice["ending_balance"]))
    if invoice["pre_payment_credit_notes_amount"]:
        found.append(("Credit notes", -invoice["pre_payment_credit_notes_amount"]))
    if invoice["amount_paid"]:
        found.append(("Paid", -invoice["amount_paid"]))
    found.append(("Due", invoice["amount_remaining"]))
    return found


def receipt(world: World, request: Request, fields: dict[str, str]) -> Response:
    """`receipt_url` of a charge."""
    charge = world.store.get("charge", request.path_params["charge"])
    if charge is None or not charge["paid"]:
        return message("Nothing here", "There is no receipt at this address.", status=404)
    card = charge["payment_method_details"]["card"]
    words = f"{money(charge['amount'], charge['currency'])} on {day(charge['created'])}, {card['brand']} ending in {card['last4']}."
    if charge["amount_refunded"]:
        words += f" Refunded: {money(charge['amount_refunded'], charge['currency'])}."
    return message("Receipt", words)
