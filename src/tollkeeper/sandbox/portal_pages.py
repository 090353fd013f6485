"""The pages of the billing portal: plan, card, details, invoices; change and cancel. What a configuration does not allow is not shown."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tollkeeper.sandbox.cards import attach, card_of, card_of_number, default_method, make_method
from tollkeeper.sandbox.errors import ApiError
from tollkeeper.sandbox.frame import field, go, html, message, note, page_route
from tollkeeper.sandbox.invoice_pages import status_tag
from tollkeeper.sandbox.invoice_preview import upcoming
from tollkeeper.sandbox.invoices import subscription_of
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.subscription_api import change
from tollkeeper.sandbox.subscription_items import items_of, metered
from tollkeeper.sandbox.subscription_life import end
from tollkeeper.sandbox.subscriptions import ENDED
from tollkeeper.sandbox.texts import day, money, price_text, product_name

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_LIVES_SECONDS = 3600
_REASONS = {
    "customer_service": "Customer service was not what I expected", "low_quality": "The quality was not what I expected",
    "missing_features": "Features are missing", "other": "Another reason", "switched_service": "I found something else",
    "too_complex": "It is hard to use", "too_expensive": "It is too expensive", "unused": "I do not use it enough",
}  # fmt: skip
View = Callable[["World", Request, dict[str, str], "Visit"], Response]


class Visit:
    """Who is here, what they may do, and where they came from."""

    def __init__(self, world: World, session: Object, base: str) -> None:
        self.customer = world.require("customer", session["customer"])
        self.may: dict[str, Any] = world.require("billing_portal.configuration", session["configuration"])["features"]
        self.headline = world.require("billing_portal.configuration", session["configuration"])["business_profile"][
            "headline"
        ]
        self.back = session["return_url"]
        self.base = base

    def subscriptions(self, world: World) -> list[Object]:
        rows = world.store.table("subscription").of("customer", self.customer["id"])
        return [row for row in rows[::-1] if row["status"] not in ENDED]


def routes(world: World) -> list[Route]:
    views: dict[str, View] = {
        "": home,
        "/card": card,
        "/details": details,
        "/cancel/{subscription}": cancel,
        "/change/{subscription}": change_plan,
    }
    return [page_route(world, "/portal/{secret}" + path, _guarded(view)) for path, view in views.items()]


def _guarded(view: View) -> Callable[[World, Request, dict[str, str]], Response]:
    def shown(world: World, request: Request, fields: dict[str, str]) -> Response:
        secret = request.path_params["secret"]
        held = world.store.get("_portal", secret)
        session = world.store.get("billing_portal.session", held["session"]) if held else None
        if session is None:
            return message("Nothing here", "There is no portal session at this address.", status=404)
        if world.now(session) >= session["created"] + _LIVES_SECONDS:
            link = (session["return_url"], "Back") if session["return_url"] else None
            return message("This session has expired", "Ask for a new link where you came from.", status=410, link=link)
        return view(world, request, fields, Visit(world, session, f"/portal/{secret}"))

    return shown


def _page(visit: Visit, title: str, body: str, status: int = 200, *, inside: bool = True) -> Response:
    if inside:
        back = f'<a href="{visit.base}">← Overview</a>'
    else:
        back = f'<a href="{escape(visit.back)}">← Back</a>' if visit.back else ""
    top = f'<div class="row spread"><span>{back}</span><span class="badge">Sandbox</span></div>'
    return html(title, f'<main class="column">{top}<h1 class="below">{escape(title)}</h1>{body}</main>', status)


def home(world: World, request: Request, fields: dict[str, str], visit: Visit) -> Response:
    parts = [_subscription(world, visit, row) for row in visit.subscriptions(world)]
    if not parts:
        parts = ['<div class="card"><p>There is no subscription at present.</p></div>']
    parts.append(_payment(world, visit))
    if visit.may["customer_update"]["enabled"]:
        parts.append(_billing(visit))
    if visit.may["invoice_history"]["enabled"]:
        parts.append(_invoices(world, visit))
    return _page(visit, visit.headline or "Billing", "".join(parts), inside=False)


def _subscription(world: World, visit: Visit, row: Object) -> str:
    kinds = {
        "active": "good",
        "trialing": "good",
        "past_due": "bad",
        "unpaid": "bad",
        "incomplete": "warn",
        "paused": "warn",
    }
    names = list(dict.fromkeys(product_name(world, item["price"]) for item in items_of(row)))
    out = f'<section class="card"><div class="head"><h2>{escape(" + ".join(names))}</h2>'
    out += f'<span class="tag {kinds.get(row["status"], "")}">{row["status"].replace("_", " ")}</span></div><ul class="plain">'
    for item in items_of(row):
        many = f"{item['quantity']} × " if item.get("quantity", 1) != 1 else ""
        out += f"<li>{many}{escape(price_text(item['price']))}</li>"
    out += "</ul>"
    owed = [
        one
        for one in world.store.table("invoice").of("customer", row["customer"])
        if one["status"] == "open" and subscription_of(world, one) is row
    ]
    if owed:
        link = f'<a href="{escape(owed[0]["hosted_invoice_url"])}">Pay {money(owed[0]["amount_remaining"], row["currency"])}</a>'
        out += f'<div class="note bad">An invoice is not paid. {link}</div>'
    if row["cancel_at"]:
        out += note(f"It ends on {day(row['cancel_at'])}.", "warn")
    elif row["status"] in ("active", "trialing", "past_due"):
        ahead = upcoming(world, row)
        used = " with the usage so far" if any(metered(item["price"]) for item in items_of(row)) else ""
        out += f'<p class="soft">Next invoice on {day(ahead["period_end"])}: {money(max(ahead["total"], 0), row["currency"])}{used}.</p>'
    out += '<div class="row">'
    if visit.may["subscription_update"]["enabled"] and _changeable(row):
        out += f'<a class="quiet" href="{visit.base}/change/{row["id"]}">Change plan</a>'
    if visit.may["subscription_cancel"]["enabled"]:
        if row["cancel_at"]:
            out += f'<form method="post" action="{visit.base}/cancel/{row["id"]}">'
            out += '<button class="quiet" name="do" value="keep">Do not cancel</button></form>'
        else:
            out += f'<a class="quiet danger" href="{visit.base}/cancel/{row["id"]}">Cancel</a>'
    return out + "</div></section>"


def _changeable(row: Object) -> bool:
    """Stripe's portal changes subscriptions of one licensed price only."""
    items = items_of(row)
    return len(items) == 1 and not metered(items[0]["price"]) and row["status"] in ("active", "trialing")


def _payment(world: World, visit: Visit) -> str:
    subscriptions = visit.subscriptions(world)
    method = default_method(world, visit.customer["id"], *subscriptions)
    words = "No card is saved."
    if method is not None:
        held = method["card"]
        words = (
            f"{held['brand'].capitalize()} ending in {held['last4']}, until {held['exp_month']:02d}/{held['exp_year']}"
        )
    out = f'<section class="card"><h2>Payment</h2><p>{escape(words)}</p>'
    if visit.may["payment_method_update"]["enabled"]:
        out += f'<a class="quiet" href="{visit.base}/card">{"Change card" if method else "Add a card"}</a>'
    return out + "</section>"


def _billing(visit: Visit) -> str:
    held = visit.customer
    address = held.get("address") or {}
    place = ", ".join(str(address[name]) for name in ("line1", "postal_code", "city", "country") if address.get(name))
    lines = "<br>".join(escape(text) for text in (held.get("name"), held.get("email"), place) if text)
    link = f'<a class="quiet" href="{visit.base}/details">Change</a>'
    return f'<section class="card"><h2>Details</h2><p>{lines or "Nothing is known."}</p>{link}</section>'


def _invoices(world: World, visit: Visit) -> str:
    rows = ""
    for row in world.store.table("invoice").of("customer", visit.customer["id"])[::-1]:
        if row["status"] == "draft":
            continue
        link = f'<a href="{escape(row["hosted_invoice_url"])}">{escape(row["number"])}</a>'
        amount = money(row["total"], row["currency"])
        rows += (
            f"<tr><td><span class='nowrap'>{link}</span><br><span class='soft small'>{day(row['created'])}</span></td>"
        )
        rows += f"<td>{status_tag(row['status'])}</td><td class='right nowrap'>{amount}</td></tr>"
    if not rows:
        return '<section class="card"><h2>Invoices</h2><p>There is none yet.</p></section>'
    head = "<thead><tr><th>Invoice</th><th>Status</th><th class='right'>Total</th></tr></thead>"
    return f'<section class="card"><h2>Invoices</h2><div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div></section>'


def card(world: World, request: Request, fields: dict[str, str], visit: Visit) -> Response:
    """Another card: attached, and the default from now on."""
    if not visit.may["payment_method_update"]["enabled"]:
        return message("Not here", "The card cannot be changed here.", status=403, link=(visit.base, "Overview"))
    error = ""
    if request.method == "POST":
        found = card_of_number(fields.get("number", ""))
        if found is None or found.delayed:
            error = "Your card number is invalid."
        else:
            method = make_method(world, found, {"name": fields.get("name"), "email": visit.customer.get("email")})
            try:
                attach(world, method, visit.customer["id"])
            except ApiError as fault:
                error = fault.message
            else:
                _use_card(world, visit, method)
                return go(visit.base)
    form = note(error) + '<form method="post" autocomplete="off">'
    form += field("number", "Card number", "", inputmode="numeric", placeholder="4242 4242 4242 4242", required=True)
    form += (
        '<div class="pair">'
        + field("expiry", "Expires", placeholder="MM / YY")
        + field("cvc", "CVC", placeholder="123", maxlength=4)
        + "</div>"
    )
    form += field("name", "Name on card", fields.get("name") or visit.customer.get("name") or "")
    form += '<button class="go">Save card</button></form>'
    return _page(visit, "Card", f'<div class="card narrow">{form}</div>', 402 if error else 200)


def _use_card(world: World, visit: Visit, method: Object) -> None:
    method["_authenticated"] = bool(card_of(method).authenticate)
    settings = {**(visit.customer.get("invoice_settings") or {}), "default_payment_method": method["id"]}
    world.update(visit.customer, {"invoice_settings": settings}, "customer.updated")
    for row in visit.subscriptions(world):
        if row["default_payment_method"] is not None:
            world.update(row, {"default_payment_method": method["id"]}, "customer.subscription.updated")


def details(world: World, request: Request, fields: dict[str, str], visit: Visit) -> Response:
    """Name, e-mail and address, as far as the configuration lets them be changed."""
    from tollkeeper.sandbox.customers import address

    may = visit.may["customer_update"]
    if not may["enabled"]:
        return message("Not here", "The details cannot be changed here.", status=403, link=(visit.base, "Overview"))
    held, allowed = visit.customer, may["allowed_updates"]
    if request.method == "POST":
        changes: dict[str, Any] = {
            name: fields[name] or None for name in ("name", "email") if name in allowed and name in fields
        }
        if "address" in allowed:
            names = ("line1", "postal_code", "city", "country")
            changes["address"] = address({name: fields[name] for name in names if fields.get(name)})
        world.update(held, changes, "customer.updated")
        return go(visit.base)
    form = '<form method="post">'
    for name, label in (("name", "Name"), ("email", "E-mail")):
        if name in allowed:
            form += field(name, label, held.get(name) or "", type="email" if name == "email" else None)
    if "address" in allowed:
        known = held.get("address") or {}
        form += field("line1", "Address", known.get("line1") or "")
        form += '<div class="pair">' + field("postal_code", "Postal code", known.get("postal_code") or "")
        form += field("city", "City", known.get("city") or "") + "</div>"
        form += field(
            "country", "Country (two letters)", known.get("country") or "", maxlength=2, pattern="[A-Za-z]{2}"
        )
    return _page(visit, "Details", f'<div class="card narrow">{form}<button class="go">Save</button></form></div>')


def _own(world: World, request: Request, visit: Visit) -> Object:
    row = world.require("subscription", request.path_params["subscription"])
    if row["customer"] != visit.customer["id"] or row["status"] in ENDED:
        raise ApiError(404, "There is no such subscription.")
    return row


def cancel(world: World, request: Request, fields: dict[str, str], visit: Visit) -> Response:
    """Asks once more, and cancels as the configuration says."""
    may = visit.may["subscription_cancel"]
    if not may["enabled"]:
        return message(
            "Not here", "The subscription cannot be cancelled here.", status=403, link=(visit.base, "Overview")
        )
    row = _own(world, request, visit)
    if request.method == "POST":
        if fields.get("do") == "keep":
            change(world, row, {"cancel_at_period_end": False})
        else:
            _cancel(world, row, may, fields.get("reason"))
        return go(visit.base)
    until = min(item["current_period_end"] for item in items_of(row))
    words = (
        f"It stays in force until {day(until)}, and ends then."
        if may["mode"] == "at_period_end"
        else "It ends at once."
    )
    if any(metered(item["price"]) for item in items_of(row)):
        words += " What was used is billed."
    form = f'<p>{escape(words)}</p><form method="post">'
    if may["cancellation_reason"]["enabled"]:
        form += '<p class="label">Why? (optional)</p>'
        for name in may["cancellation_reason"]["options"]:
            form += f'<label class="choice"><input type="radio" name="reason" value="{name}">{_REASONS[name]}</label>'
    form += '<p class="row"><button class="quiet danger" name="do" value="cancel">Cancel the subscription</button>'
    return _page(visit, "Cancel", f'<div class="card narrow">{form}<a href="{visit.base}">Keep it</a></p></form></div>')


def _cancel(world: World, row: Object, may: dict[str, Any], reason: str | None) -> None:
    told = {"feedback": reason} if reason in _REASONS else {}
    if may["mode"] == "at_period_end":
        change(world, row, {"cancel_at_period_end": True, **({"cancellation_details": told} if told else {})})
        return
    prorate = may["proration_behavior"] != "none"
    invoice_now = may["proration_behavior"] == "always_invoice" or any(metered(item["price"]) for item in items_of(row))
    end(
        world, row, world.now(row), final=invoice_now, reason="cancellation_requested", prorate=prorate, at_once=True, details=told
    )  # fmt: skip


def change_plan(world: World, request: Request, fields: dict[str, str], visit: Visit) -> Response:
    """Another price of those that the configuration offers."""
    may = visit.may["subscription_update"]
    row = _own(world, request, visit)
    if not may["enabled"] or not _changeable(row):
        return message(
            "Not here", "This subscription cannot be changed here.", status=403, link=(visit.base, "Overview")
        )
    item = items_of(row)[0]
    offered = [
        id
        for product in may["products"]
        for id in product["prices"]
        if world.require("price", id)["currency"] == row["currency"]
    ]
    error = ""
    if request.method == "POST":
        if fields.get("price") not in offered:
            error = "Choose a plan."
        else:
            wanted = [{"id": item["id"], "price": fields["price"]}]
            change(world, row, {"items": wanted, "proration_behavior": may["proration_behavior"]})
            return go(visit.base)
    form = note(error) + '<form method="post">'
    for id in offered:
        price = world.require("price", id)
        running = id == item["price"]["id"]
        mark, name = " checked" if running else "", escape(product_name(world, price))
        form += f'<label class="choice"><input type="radio" name="price" value="{id}"{mark}><span><b>{name}</b>'
        form += f'<br><span class="soft">{escape(price_text(price))}{" · your plan" if running else ""}</span></span></label>'
    told = {
        "none": "The new price begins with the next period.",
        "create_prorations": "The difference for the rest of the period stands on the next invoice.",
        "always_invoice": "The difference for the rest of the period is charged now.",
    }[may["proration_behavior"]]
    form += f'<p class="soft small">{told}</p><button class="go">Change plan</button></form>'
    return _page(visit, "Change plan", f'<div class="card narrow">{form}</div>')
