"""The hosted page of a Checkout session, and the page of a bank that asks whether it is you."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tollkeeper.sandbox import payments, setup_intents
from tollkeeper.sandbox.cards import CARDS, card_of_number
from tollkeeper.sandbox.checkout import sum_up, trial_of, use_coupon
from tollkeeper.sandbox.checkout_pay import Declined, authenticated, pay, success_url
from tollkeeper.sandbox.discounts import code_fault, coupon_valid
from tollkeeper.sandbox.errors import ApiError
from tollkeeper.sandbox.frame import field, go, html, message, note, page_route, select
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.texts import day, every, money, price_text

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_SAYS = {
    "4242424242424242": "pays",
    "4000000000000002": "is declined",
    "4000000000009995": "is declined: insufficient funds",
    "4000002500003155": "asks for authentication once",
    "4000002760003184": "asks for authentication each time",
    "4000000000000341": "is saved, and fails when charged",
    "4000000000000259": "pays, and is disputed",
    "AT611904300234573201": "a bank account, pays after 3 days",
    "AT861904300235473202": "a bank account, fails after 3 days",
}
_COUNTRIES = (
    "AT Austria|AU Australia|BE Belgium|BR Brazil|CA Canada|CH Switzerland|CZ Czechia|DE Germany|DK Denmark|ES Spain|FI Finland|FR France|"
    "GB United Kingdom|IE Ireland|IN India|IT Italy|JP Japan|NL Netherlands|NO Norway|NP Nepal|NZ New Zealand|PL Poland|PT Portugal|"
    "SE Sweden|SG Singapore|US United States"
)
_TAX_IDS = {
    "eu_vat": "EU VAT",
    "gb_vat": "UK VAT",
    "us_ein": "US EIN",
    "ch_vat": "Swiss VAT",
    "au_abn": "Australian ABN",
    "in_gst": "Indian GST",
}


def routes(world: World) -> list[Route]:
    return [page_route(world, "/checkout/{session}", checkout), page_route(world, "/authenticate/{id}", authenticate)]


def checkout(world: World, request: Request, fields: dict[str, str]) -> Response:
    """Shows the session, and on POST applies a promotion code or pays."""
    session = world.store.get("checkout.session", request.path_params["session"])
    if session is None:
        return message("Nothing here", "There is no Checkout session at this address.", status=404)
    if session["status"] != "open":
        words = (
            "This session is complete."
            if session["status"] == "complete"
            else "This session has expired. Ask the shop for a new one."
        )
        link = (success_url(session), "Back to the shop") if session["status"] == "complete" else None
        return message("Thank you" if session["status"] == "complete" else "Too late", words, link=link)
    if request.method == "GET":
        return _show(world, session, {}, "")
    if fields.get("do") == "promotion":
        return _show(world, session, fields, _promotion(world, session, fields.get("promotion", "")))
    if fields.get("do") == "remove":
        use_coupon(session, None, None)
        sum_up(world, session)
        world.store.save(session)
        return _show(world, session, fields, "")
    return _pay(world, session, fields)


def _pay(world: World, session: Object, fields: dict[str, str]) -> Response:
    held = world.store.get("customer", session["customer"] or "") or {}
    email = held.get("email") or session["customer_email"] or fields.get("email", "")
    if "@" not in email:
        return _show(world, session, fields, "Enter your e-mail address.")
    card = None
    if _asks_card(session):
        card = card_of_number(fields.get("number", ""))
        if card is None:
            return _show(
                world, session, fields, "Your card number is invalid. The test cards stand below the form.", "number"
            )
        if not fields.get("name"):
            return _show(world, session, fields, "Enter the name on the card.", "name")
    details: dict[str, object] = {"email": email, "name": fields.get("name") or None}
    if fields.get("country"):
        details["address"] = {
            "country": fields["country"], "line1": fields.get("line1") or None, "city": fields.get("city") or None,
            "postal_code": fields.get("postal") or None,
        }  # fmt: skip
    if fields.get("tax_value"):
        details["tax_id"] = {"type": fields.get("tax_type", "eu_vat"), "value": fields["tax_value"]}
    try:
        return go(pay(world, session, card, details))
    except Declined as declined:
        return _show(world, session, fields, str(declined), "number")
    except ApiError as fault:
        return _show(world, session, fields, fault.message)


def _promotion(world: World, session: Object, code: str) -> str:
    """Apply a code. What is wrong with it, or nothing."""
    found = next(
        (
            row
            for row in world.store.table("promotion_code").newest()
            if row["code"].lower() == code.lower() and row["active"]
        ),
        None,
    )
    coupon = world.store.get("coupon", found["promotion"]["coupon"]) if found else None
    if not session["allow_promotion_codes"] or found is None or coupon is None or not coupon_valid(world, coupon):
        return "This code is invalid."
    if fault := code_fault(world, found, session["customer"]):
        return fault
    if coupon.get("amount_off") and coupon["currency"] != session["currency"]:
        return "This code is for another currency."
    least = found["restrictions"]["minimum_amount"]
    if least and session["amount_subtotal"] < least:
        return f"This code is for purchases from {money(least, session['currency'])} on."
    use_coupon(session, coupon, found["id"])
    sum_up(world, session)
    world.store.save(session)
    return ""


def _asks_card(session: Object) -> bool:
    if session["mode"] == "payment":
        return bool(session["amount_total"])
    return (
        bool(session["amount_total"])
        or session["payment_method_collection"] != "if_required"
        or session["mode"] == "setup"
    )


def _show(world: World, session: Object, fields: dict[str, str], error: str, wrong: str = "") -> Response:
    aside = f'<aside class="side"><div>{_summary(world, session, fields)}</div></aside>'
    main = f'<main class="main"><div>{_form(world, session, fields, error, wrong)}{_cards(once=session["mode"] == "payment")}</div></main>'
    return html(
        "Checkout", f'<div class="split">{aside}{main}</div>', 402 if wrong and error else 400 if error else 200
    )


def _summary(world: World, session: Object, fields: dict[str, str]) -> str:
    currency = session["currency"]
    back = session["cancel_url"]
    top = f'<a class="small" href="{escape(back)}">← Back</a> ' if back else ""
    out = f'<p>{top}<span class="badge">Sandbox</span></p>'
    if session["mode"] == "setup":
        return f'{out}<p class="soft">Save a card</p><p class="amount">For later</p><p class="soft">Nothing is charged now.</p>'
    lines = session["_line_items"]
    recurring = [line for line in lines if line["price"]["type"] == "recurring"]
    names = list(dict.fromkeys(line["description"] for line in recurring or lines))
    title = names[0] if len(names) == 1 or recurring else "Your order"
    out += f'<p class="soft">{escape("Subscribe to " + title if recurring else title)}</p>'
    out += f'<p class="amount">{money(session["amount_total"], currency)}</p>'
    if trial_of(session):
        days = session["_data"].get("trial_period_days")
        end = session["_data"].get("trial_end")
        words = f"{days} days free" if days else f"Free until {day(end)}"
        out += f'<p class="soft">due today. {words}, then as below.</p>'
    elif recurring and any(line["quantity"] is None for line in lines):
        out += '<p class="soft">due today. What you use is billed at the end of each period.</p>'
    elif recurring:
        out += f'<p class="soft">due today, then every {every(recurring[0]["price"])}</p>'
    out += '<ul class="lines">'
    for line in lines:
        many = f"{line['quantity']} × " if line["quantity"] not in (None, 1) else ""
        amount = "as used" if line["quantity"] is None else money(line["amount_subtotal"], currency)
        words = f'{escape(many + line["description"])}<br><span class="soft small">{escape(price_text(line["price"]))}</span>'
        out += f'<li><span>{words}</span><span class="nowrap">{amount}</span></li>'
    if session["_coupon"]:
        coupon = world.require("coupon", session["_coupon"])
        off = (
            f"{coupon['percent_off']:g} % off"
            if coupon.get("percent_off")
            else f"{money(coupon['amount_off'], currency)} off"
        )
        lasts = {
            "once": "once",
            "forever": "every time",
            "repeating": f"for {coupon.get('duration_in_months')} months",
        }[coupon["duration"]]
        name = coupon.get("name") or "Discount"
        out += f'<li><span>{escape(name)}<br><span class="soft small">{off}, {lasts}</span></span>'
        out += f'<span class="nowrap">−{money(session["total_details"]["amount_discount"], currency)}</span></li>'
    if session["automatic_tax"]["enabled"]:
        out += f'<li><span>Tax</span><span class="nowrap">{money(0, currency)}</span></li>'
    return (
        out
        + f'<li class="sum"><span>Due today</span><span class="nowrap">{money(session["amount_total"], currency)}</span></li></ul>'
    )


def _form(world: World, session: Object, fields: dict[str, str], error: str, wrong: str) -> str:
    held = world.store.get("customer", session["customer"] or "") or {}
    email = held.get("email") or session["customer_email"]
    out = f"<h1>{'Save a card' if session['mode'] == 'setup' else 'Pay with card' if _asks_card(session) else 'Confirm'}</h1>"
    out += note(error) + '<form method="post" autocomplete="off">'
    # the first button of a form is the one that Enter presses
    if email:
        out += f'<div class="field"><span class="label">E-mail</span>{escape(email)}</div>'
    else:
        out += field("email", "E-mail", fields.get("email", ""), type="email", required=True)
    if _asks_card(session):
        out += field(
            "number", "Card number", "", inputmode="numeric", placeholder="4242 4242 4242 4242", required=True, maxlength=26,
            aria_invalid="true" if wrong == "number" else None,
        )  # fmt: skip
        out += '<div class="pair">' + field(
            "expiry", "Expires", fields.get("expiry", ""), placeholder="MM / YY", inputmode="numeric"
        )
        out += field("cvc", "CVC", "", placeholder="123", inputmode="numeric", maxlength=4) + "</div>"
        out += field("name", "Name on card", fields.get("name") or held.get("name") or "", required=True)
    elif session["tax_id_collection"]["enabled"]:
        out += field("name", "Name", fields.get("name") or held.get("name") or "")
    out += _address(session, fields, held)
    if session["tax_id_collection"]["enabled"]:
        out += '<div class="pair">' + select("tax_type", "Tax id", _TAX_IDS, fields.get("tax_type", "eu_vat"))
        out += (
            field("tax_value", "Number (optional)", fields.get("tax_value", ""), placeholder="DE123456789") + "</div>"
        )
    out += f'<button class="go" name="do" value="pay">{_words(session)}</button>'
    if session["_code"] and session["allow_promotion_codes"]:
        code = world.require("promotion_code", session["_code"])["code"]
        out += f'<p class="small below">Code <b>{escape(code)}</b> is applied. '
        out += '<button class="quiet" name="do" value="remove" formnovalidate>Remove</button></p>'
    elif session["allow_promotion_codes"]:
        is_open = " open" if fields.get("promotion") else ""
        out += f"<details{is_open}><summary>Add promotion code</summary><div class='below'>"
        out += field("promotion", "Code", fields.get("promotion", ""), maxlength=60)
        out += '<button class="quiet" name="do" value="promotion" formnovalidate>Apply</button></div></details>'
    return out + "</form>"


def _address(session: Object, fields: dict[str, str], held: Object) -> str:
    wanted = session["automatic_tax"]["enabled"] or session["billing_address_collection"] == "required"
    if not wanted:
        return ""
    known = held.get("address") or {}
    chosen = fields.get("country") or known.get("country") or "US"
    out = select("country", "Country", dict(one.split(" ", 1) for one in _COUNTRIES.split("|")), chosen)
    out += field("line1", "Address", fields.get("line1") or known.get("line1") or "")
    out += '<div class="pair">' + field("postal", "Postal code", fields.get("postal") or known.get("postal_code") or "")
    return out + field("city", "City", fields.get("city") or known.get("city") or "") + "</div>"


def _words(session: Object) -> str:
    if session["mode"] == "setup":
        return "Save card"
    if session["mode"] == "payment":
        return f"Pay {money(session['amount_total'], session['currency'])}"
    return "Start trial" if trial_of(session) else "Subscribe"


def _cards(*, once: bool) -> str:
    rows = ""
    for card in CARDS:
        if card.number in _SAYS and (once or not card.delayed):
            number = " ".join(card.number[place : place + 4] for place in range(0, len(card.number), 4))
            rows += f"<tr><td><code>{number}</code></td><td>{_SAYS[card.number]}</td></tr>"
    words = '<p class="soft small">Any date, any CVC. No money moves.</p>'
    return f'<details open><summary>Test cards</summary><table class="small">{rows}</table>{words}</details>'


def authenticate(world: World, request: Request, fields: dict[str, str]) -> Response:
    """The bank's question: confirm, or fail."""
    id = request.path_params["id"]
    row = world.store.find(id)
    kinds = ("payment_intent", "setup_intent", "checkout.session")
    waiting = row is not None and row["object"] in kinds and row["status"] in ("requires_action", "open")
    if row is None or not waiting:
        return message("Nothing to confirm", "This payment waits for no authentication.", status=404)
    if request.method == "GET":
        return _ask(world, row)
    return go(_confirmed(world, row) if fields.get("do") == "confirm" else _refused(world, row))


def _ask(world: World, row: Object) -> Response:
    amount = row.get("amount") or row.get("amount_total")
    words = (
        f"A payment of {money(amount, row['currency'])} waits for you."
        if amount
        else "A card is to be saved for later payments."
    )
    body = (
        '<main class="column narrow"><div class="card">'
        '<p><span class="badge">Sandbox</span> <span class="soft small">Test bank</span></p>'
        f"<h1>Is it you?</h1><p>{escape(words)} A real bank would ask for a code or a fingerprint here.</p>"
        '<form method="post"><p><button class="go" name="do" value="confirm">Confirm</button></p>'
        '<p class="middle"><button class="quiet danger" name="do" value="fail">Fail authentication</button></p>'
        "</form></div></main>"
    )
    return html("Test bank", body)


def _back(world: World, row: Object) -> str:
    session = world.store.get("checkout.session", row.get("_session") or "")
    if session is not None:
        return success_url(session) if session["status"] == "complete" else f"{world.base_url}/checkout/{session['id']}"
    if invoice := world.store.get("invoice", row.get("_invoice") or ""):
        return str(invoice["hosted_invoice_url"])
    return str(row.get("_return_url") or world.base_url)


def _confirmed(world: World, row: Object) -> str:
    if row["object"] == "checkout.session":
        return authenticated(world, row)
    method = world.require("payment_method", row["payment_method"])
    if row["object"] == "payment_intent":
        method["_authenticated"] = True
        payments.settle(world, row, method, authenticated=True)
    else:
        setup_intents.set_up(world, row, method, authenticated=True)
    return _back(world, row)


def _refused(world: World, row: Object) -> str:
    if row["object"] == "checkout.session":
        return f"{world.base_url}/checkout/{row['id']}"
    method = world.require("payment_method", row["payment_method"])
    if row["object"] == "payment_intent":
        payments.refuse(world, row, method)
    else:
        setup_intents.fail(world, row, method, "setup_intent_authentication_failure")
    return _back(world, row)
