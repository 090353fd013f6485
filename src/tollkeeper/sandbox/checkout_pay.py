"""What a click on "Pay" does: a customer, a card, and the payment, subscription or saved card that the session is for."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox import customers, tax_ids
from tollkeeper.sandbox.arithmetic import rated
from tollkeeper.sandbox.cards import Card, attach, card_of, make_method
from tollkeeper.sandbox.discounts import redeem
from tollkeeper.sandbox.errors import ApiError
from tollkeeper.sandbox.invoice_items import make_item
from tollkeeper.sandbox.invoice_object import blank
from tollkeeper.sandbox.invoices import keep, settle_elsewhere
from tollkeeper.sandbox.operations import Call, Operation
from tollkeeper.sandbox.payments import after_payment, make_intent, settle, wait_for_bank
from tollkeeper.sandbox.setup_intents import after_setup, make_setup, set_up
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.subscriptions import make as make_subscription
from tollkeeper.sandbox.world import due as task

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

BANK_SECONDS = 3 * 86_400
_PAGE = Operation("page", "POST", "", dict, "", 1)


class Declined(Exception):
    """The card did not do; the text is for the person at the page."""


def call_of(world: World, params: dict[str, Any]) -> Call:
    """A call that a page makes."""
    return Call(world, _PAGE, "", params, [], "", None)


def pay(world: World, session: Object, card: Card | None, details: dict[str, Any]) -> str:
    """Do what the session is for. Answers the address to go to next: the shop's, or that of an authentication.

    Args:
        card: None where nothing is due and no card is asked for.
        details: email, name, address, tax_id ({"type", "value"} or None) as typed in.

    Raises Declined.
    """
    _customer(world, session, details)
    if card is None:
        return _finish(world, session, None)
    if card.delayed and session["mode"] != "payment":
        raise Declined("A bank account pays once only here; take a card.")
    method = make_method(world, card, {**details, "address": details.get("address") or {}})
    mode = session["mode"]
    if mode == "setup" or (mode == "subscription" and not session["amount_total"]):
        return _set_up(world, session, method)
    if mode == "payment":
        return _charge(world, session, method)
    if card.decline:
        intent = _intent(world, session)
        settle(world, intent, method)
        raise Declined(intent["last_payment_error"]["message"])
    if card.authenticate:
        session["_method"] = method["id"]
        world.store.save(session)
        return f"{world.base_url}/authenticate/{session['id']}"
    return _finish(world, session, method)


def authenticated(world: World, session: Object) -> str:
    """The card of a subscription's session was authenticated: go on. The shop's address."""
    method = world.require("payment_method", session["_method"])
    return _finish(world, session, method)


def _customer(world: World, session: Object, details: dict[str, Any]) -> None:
    """Make the customer, or bring the one named up to date as `customer_update` says."""
    wanted = session["mode"] == "subscription" or session["customer_creation"] == "always"
    wanted = wanted or bool((session["invoice_creation"] or {}).get("enabled")) or session["mode"] == "setup"
    wanted = wanted or bool(session["_intent_data"].get("setup_future_usage"))
    address = details.get("address")
    if session["customer"] is None and wanted:
        params = {name: details[name] for name in ("email", "name") if details.get(name)}
        if address:
            params["address"] = address
        session["customer"] = customers.create(call_of(world, params))["id"]
    elif session["customer"] is not None:
        held = world.require("customer", session["customer"])
        changes: dict[str, Any] = {}
        if session["_update"].get("name") == "auto" and details.get("name"):
            changes["name"] = details["name"]
        if session["_update"].get("address") == "auto" and address:
            changes["address"] = customers.address(address)
        if not held.get("email") and details.get("email"):
            changes["email"] = details["email"]
        world.update(held, changes, "customer.updated")
    tax_id = details.get("tax_id")
    if tax_id and session["customer"]:
        known = {(row["type"], row["value"]) for row in tax_ids.of_customer(world, session["customer"])}
        if (tax_id["type"], tax_id["value"]) not in known:
            try:
                tax_ids.add(call_of(world, {}), session["customer"], tax_id["type"], tax_id["value"])
            except ApiError as fault:
                raise Declined(fault.message) from None
    session["customer_details"] = {
        "address": customers.address(address),
        "business_name": None,
        "email": details.get("email"),
        "individual_name": None,
        "name": details.get("name"),
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [tax_id] if tax_id else [],
    }
    if session["automatic_tax"]["enabled"]:
        session["automatic_tax"]["status"] = "complete"
    world.store.save(session)


def _intent(world: World, session: Object) -> Object:
    """The session's payment intent, the same through all attempts."""
    held = world.store.get("payment_intent", session["_intent"] or "")
    if (
        held is not None
        and held["status"] not in ("succeeded", "canceled")
        and held["amount"] == session["amount_total"]
    ):
        return held
    data = session["_intent_data"]
    intent = make_intent(
        world, session["amount_total"], session["currency"], session["customer"], description=data.get("description"),
        metadata=data.get("metadata"), future=data.get("setup_future_usage"), receipt=data.get("receipt_email"),
    )  # fmt: skip
    intent["_session"] = session["id"] if session["mode"] == "payment" else None
    world.store.save(intent)
    session["_intent"] = intent["id"]
    if session["mode"] == "payment":
        session["payment_intent"] = intent["id"]
    world.store.save(session)
    return intent


def _charge(world: World, session: Object, method: Object) -> str:
    if not session["amount_total"]:
        return _finish(world, session, None)
    intent = _intent(world, session)
    if card_of(method).delayed:
        return _wait(world, session, intent, method)
    intent["_return_url"] = session["success_url"]
    came = settle(world, intent, method)
    if came == "failed":
        raise Declined(intent["last_payment_error"]["message"])
    if came == "requires_action":
        return str(intent["next_action"]["redirect_to_url"]["url"])
    return success_url(session)


def _wait(world: World, session: Object, intent: Object, method: Object) -> str:
    """Complete, and not paid: the bank answers later (https://docs.stripe.com/payments/sepa-debit)."""
    wait_for_bank(world, intent, method)
    session.update(status="complete", payment_status="unpaid", url=None)
    world.store.save(session)
    world.emit("checkout.session.completed", session)
    world.at(world.now(session) + BANK_SECONDS, "checkout.bank", {"session": session["id"]}, world.clock_of(session))
    return success_url(session)


@task("checkout.bank")
def _bank(world: World, data: dict[str, Any]) -> None:
    """The bank's answer."""
    session = world.require("checkout.session", data["session"])
    intent = world.require("payment_intent", session["payment_intent"])
    if intent["status"] != "processing":
        return
    method = world.require("payment_method", intent["payment_method"])
    if settle(world, intent, method) == "failed":
        world.emit("checkout.session.async_payment_failed", session)
        return
    _buy(world, session)
    session["payment_status"] = "paid"
    world.store.save(session)
    world.emit("checkout.session.async_payment_succeeded", session)


@after_payment
def _paid(world: World, intent: Object) -> None:
    """A payment of a session succeeded, at once or after authentication."""
    session = world.store.get("checkout.session", intent.get("_session") or "")
    if session is not None and session["status"] == "open" and intent["status"] == "succeeded":
        _finish(world, session, world.store.get("payment_method", intent["payment_method"]))


def _set_up(world: World, session: Object, method: Object) -> str:
    data = session["_intent_data"]
    intent = world.store.get("setup_intent", session["_intent"] or "")
    if intent is None:
        intent = make_setup(world, session["customer"], data.get("metadata"), data.get("description"))
        intent["_session"] = session["id"]
        world.store.save(intent)
        session["_intent"] = intent["id"]
        if session["mode"] == "setup":
            session["setup_intent"] = intent["id"]
        world.store.save(session)
    came = set_up(world, intent, method)
    if came == "failed":
        raise Declined(intent["last_setup_error"]["message"])
    if came == "requires_action":
        return str(intent["next_action"]["redirect_to_url"]["url"])
    return success_url(session)


@after_setup
def _saved(world: World, intent: Object) -> None:
    session = world.store.get("checkout.session", intent.get("_session") or "")
    if session is not None and session["status"] == "open" and intent["status"] == "succeeded":
        _finish(world, session, world.store.get("payment_method", intent["payment_method"]))


def success_url(session: Object) -> str:
    """Where the shop wants the person next."""
    return str(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]))


def _finish(world: World, session: Object, method: Object | None) -> str:
    """The session is complete."""
    mode = session["mode"]
    if mode == "subscription":
        _subscribe(world, session, method)
    elif mode == "payment":
        _buy(world, session)
    paid = "no_payment_required" if not session["amount_total"] else "paid"
    session.update(status="complete", payment_status=paid, url=None)
    world.store.save(session)
    world.emit("checkout.session.completed", session)
    return success_url(session)


def _buy(world: World, session: Object) -> None:
    """A payment was made: its coupon is used, and its invoice written."""
    coupon = world.store.get("coupon", session["_coupon"] or "")
    if coupon is not None:
        redeem(world, coupon, session["_code"], session["customer"], checkout=session["id"])
    if session["invoice_creation"]["enabled"]:
        _invoice(world, session)


def _subscribe(world: World, session: Object, method: Object | None) -> None:
    customer = world.require("customer", session["customer"])
    if method is not None:
        authenticate = card_of(method).authenticate
        method["_authenticated"] = bool(authenticate)
        method["_passed"] = bool(authenticate)
        attach(world, method, customer["id"])
    discounts = []
    coupon = world.store.get("coupon", session["_coupon"] or "")
    if coupon is not None:
        discounts.append(redeem(world, coupon, session["_code"], customer["id"], checkout=session["id"])["id"])
    lines = session["_line_items"]
    recurring = [line for line in lines if line["price"]["type"] == "recurring"]
    once = [line for line in lines if line["price"]["type"] != "recurring"]
    params: dict[str, Any] = {
        **session["_data"],
        "items": [_item(line) for line in recurring],
        "add_invoice_items": [_item(line) for line in once],
        "automatic_tax": {"enabled": session["automatic_tax"]["enabled"]},
        "discounts": discounts,
        "payment_settings": {"save_default_payment_method": "off"},
    }
    if method is not None:
        params["default_payment_method"] = method["id"]
    subscription = make_subscription(world, customer, params, method=method, checkout=session["id"])
    for id in discounts:
        row = world.require("discount", id)
        row["subscription"] = subscription["id"]
        world.store.save(row)
    if method is not None:
        method.pop("_passed", None)
        world.store.save(method)
    session.update(subscription=subscription["id"], invoice=subscription["latest_invoice"])


def _item(line: Object) -> dict[str, Any]:
    found = {"price": line["price"]["id"], "metadata": line["metadata"]}
    return found if line["quantity"] is None else {**found, "quantity": line["quantity"]}


def _invoice(world: World, session: Object) -> None:
    """A paid invoice of what was bought."""
    customer = world.require("customer", session["customer"])
    data = session["invoice_creation"]["invoice_data"]
    sources = []
    for line in session["_line_items"]:
        quantity = Decimal(line["quantity"])
        unit = rated(line["price"], quantity)[0].unit_amount
        row = make_item(
            world, customer["id"], session["currency"], line["amount_subtotal"], description=line["description"], price=line["price"],
            quantity=quantity, unit_amount=unit, metadata=line["metadata"],
        )  # fmt: skip
        sources.append({"kind": "item", "id": row["id"]})
    discounts = [row["id"] for row in world.store.table("discount") if row["checkout_session"] == session["id"]]
    invoice = blank(
        world, customer, session["currency"], "manual", auto_advance=False, description=data["description"], discounts=discounts,
        footer=data["footer"], metadata=dict(data["metadata"]), starting_balance=0, _on_balance=False, _sources=sources,
    )  # fmt: skip
    keep(world, invoice)
    settle_elsewhere(world, invoice, world.store.get("payment_intent", session["payment_intent"] or ""))
    session["invoice"] = invoice["id"]
