"""Test cards (https://docs.stripe.com/testing) and payment methods. A card's number decides what it does; only its last four are kept."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.errors import ApiError, invalid, no_such
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World


@dataclass(frozen=True, slots=True)
class Card:
    """`decline` is a decline code, on each charge; `attach` false: refused as soon as it is saved; `authenticate`: "once" or "always".

    `dispute`: the charge goes through and is disputed. `delayed`: a bank account, whose answer comes days later.
    """

    number: str
    token: str
    brand: str = "visa"
    decline: str | None = None
    attach: bool = True
    authenticate: str | None = None
    dispute: bool = False
    delayed: bool = False


CARDS = (
    Card("4242424242424242", "visa"),
    Card("5555555555554444", "mastercard", "mastercard"),
    Card("378282246310005", "amex", "amex"),
    Card("4000000000000002", "chargeDeclined", decline="generic_decline", attach=False),
    Card("4000000000009995", "chargeDeclinedInsufficientFunds", decline="insufficient_funds", attach=False),
    Card("4000000000009987", "chargeDeclinedLostCard", decline="lost_card", attach=False),
    Card("4000000000000069", "chargeDeclinedExpiredCard", decline="expired_card", attach=False),
    Card("4000000000000127", "chargeDeclinedIncorrectCvc", decline="incorrect_cvc", attach=False),
    Card("4000000000000119", "chargeDeclinedProcessingError", decline="processing_error", attach=False),
    Card("4000000000000341", "chargeCustomerFail", decline="generic_decline"),
    Card("4000002500003155", "authenticationRequiredOnSetup", authenticate="once"),
    Card("4000002760003184", "authenticationRequired", authenticate="always"),
    Card("4000000000000259", "createDispute", dispute=True),
    Card("AT611904300234573201", "sepaDebit", "sepa_debit", delayed=True),
    Card("AT861904300235473202", "sepaDebitFails", "sepa_debit", decline="generic_decline", delayed=True),
)
_BY_NUMBER = {card.number: card for card in CARDS}
_BY_TOKEN = {card.token: card for card in CARDS}
_OWN_CODES = {"expired_card", "incorrect_cvc", "processing_error"}
_MESSAGES = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}


def card_of_number(number: str) -> Card | None:
    """The test card with this number, spaces allowed."""
    return _BY_NUMBER.get(number.replace(" ", "").replace("-", ""))


def card_of(method: Object) -> Card:
    """What a payment method's card does."""
    return _BY_NUMBER[method["_number"]]


def declined(code: str) -> dict[str, Any]:
    """The error of a decline, as it stands in `last_payment_error` and in an answer 402."""
    own = code if code in _OWN_CODES else "card_declined"
    error = {
        "code": own,
        "doc_url": f"https://stripe.com/docs/error-codes/{own.replace('_', '-')}",
        "message": _MESSAGES.get(code, "Your card was declined."),
        "type": "card_error",
    }
    if own in ("card_declined", "incorrect_cvc", "expired_card"):
        error["decline_code"] = code
    return error


def card_error(code: str, extra: dict[str, Any] | None = None) -> ApiError:
    """The answer 402 of a declined card."""
    error = declined(code)
    more = {name: error[name] for name in ("decline_code",) if name in error}
    return ApiError(402, error["message"], type="card_error", code=error["code"], extra={**more, **(extra or {})})


def make_method(world: World, card: Card, billing: dict[str, Any] | None = None, metadata: Any = None) -> Object:
    """A payment method of this card, kept and attached to nobody."""
    billing = billing or {}
    address = billing.get("address") or {}
    return world.store.save(
        {
            "id": world.ids.new("pm_1"),
            "object": "payment_method",
            "allow_redisplay": "unspecified",
            "billing_details": {
                "address": {
                    name: address.get(name)
                    for name in ("city", "country", "line1", "line2", "postal_code", "state")
                },
                "email": billing.get("email"),
                "name": billing.get("name"),
                "phone": billing.get("phone"),
                "tax_id": None,
            },
            **({"sepa_debit": _bank_hash(card)} if card.delayed else {"card": _card_hash(card, world.now())}),
            "created": world.now(),
            "customer": None,
            "customer_account": None,
            "livemode": False,
            "metadata": merged(metadata),
            "type": "sepa_debit" if card.delayed else "card",
            "_number": card.number,
            "_authenticated": False,
        }
    )  # fmt: skip


def _card_hash(card: Card, now: int) -> dict[str, Any]:
    return {
        "brand": card.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": card.brand,
        "exp_month": 12,
        "exp_year": 1970 + now // 31_556_952 + 3,
        "fingerprint": sha256(card.number.encode()).hexdigest()[:16],
        "funding": "credit",
        "generated_from": None,
        "last4": card.number[-4:],
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def _bank_hash(card: Card) -> dict[str, Any]:
    return {
        "bank_code": "19043",
        "branch_code": "",
        "country": "AT",
        "fingerprint": sha256(card.number.encode()).hexdigest()[:16],
        "generated_from": {"charge": None, "setup_attempt": None},
        "last4": card.number[-4:],
    }


def find_method(world: World, id: str, param: str = "payment_method") -> Object:
    """A payment method by its id; `pm_card_visa` and the like make a new one. Raises ApiError 400."""
    if id.startswith("pm_card_"):
        card = _BY_TOKEN.get(id.removeprefix("pm_card_"))
        if card is None:
            raise no_such("PaymentMethod", id, param, status=400)
        return make_method(world, card)
    found = world.store.get("payment_method", id)
    if found is None:
        raise no_such("PaymentMethod", id, param, status=400)
    return found


def attach(world: World, method: Object, customer: str) -> Object:
    """Save the method for a customer. Raises ApiError 402 for a card that is refused at once, 400 when another customer has it."""
    if method["customer"] not in (None, customer):
        raise invalid(
            "The payment method you provided has already been attached to a customer.", None, "payment_method_already_attached"
        )  # fmt: skip
    card = card_of(method)
    if not card.attach and card.decline:
        raise card_error(card.decline)
    if method["customer"] is None:
        method["customer"] = customer
        world.store.save(method)
        world.emit("payment_method.attached", method)
    return method


def default_method(world: World, customer: str, *rows: Object | None) -> Object | None:
    """The method to charge: of the invoice, of the subscription, of the customer, whichever has one first."""
    held = world.store.get("customer", customer) or {}
    settings = held.get("invoice_settings") or {}
    names = [row.get("default_payment_method") for row in rows if row] + [settings.get("default_payment_method")]
    for name in names:
        if name and (method := world.store.get("payment_method", name)) and method["customer"] == customer:
            return method
    return None


@operation("POST", "/v1/payment_methods")
def create(call: Call) -> Object:
    params = call.params
    if "payment_method" in params:
        raise invalid("Cloning payment methods is for connected accounts.", "payment_method")
    if params.get("type") != "card":
        raise invalid("The sandbox has payment methods of type card only.", "type")
    given = params.get("card") or {}
    token = given.get("token")
    if token is not None:
        card = _BY_TOKEN.get(token.removeprefix("tok_"))
        if card is None:
            raise no_such("token", token, "card[token]", status=400)
    else:
        card = card_of_number(given.get("number", ""))
        if card is None:
            raise ApiError(
                402, "Your card number is incorrect.", type="card_error", code="incorrect_number", param="card[number]"
            )
    return make_method(call.world, card, params.get("billing_details"), params.get("metadata"))


@operation("GET", "/v1/payment_methods/{payment_method}")
def retrieve(call: Call, payment_method: str) -> Object:
    if payment_method.startswith("pm_card_"):
        return find_method(call.world, payment_method)
    return call.world.require("payment_method", payment_method)


@operation("POST", "/v1/payment_methods/{payment_method}")
def update(call: Call, payment_method: str) -> Object:
    method = call.world.require("payment_method", payment_method)
    if method["customer"] is None:
        raise invalid("You must save this PaymentMethod to a customer before you can update it.")
    changes: dict[str, Any] = {}
    if "metadata" in call.params:
        changes["metadata"] = merged(call.params["metadata"], method["metadata"])
    if "allow_redisplay" in call.params:
        changes["allow_redisplay"] = call.params["allow_redisplay"]
    if "billing_details" in call.params:
        given = dict(call.params["billing_details"])
        if "address" in given:
            given["address"] = {**method["billing_details"]["address"], **(given["address"] or {})}
        changes["billing_details"] = {**method["billing_details"], **given}
    if "card" in call.params:
        dates = {name: value for name, value in call.params["card"].items() if name in ("exp_month", "exp_year")}
        changes["card"] = {**method["card"], **dates}
    call.world.update(method, changes, "payment_method.updated")
    return method


@operation("POST", "/v1/payment_methods/{payment_method}/attach")
def attach_to(call: Call, payment_method: str) -> Object:
    customer = call.params.get("customer")
    if customer is None:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    call.world.require("customer", customer, "customer")
    return attach(call.world, find_method(call.world, payment_method), customer)


@operation("POST", "/v1/payment_methods/{payment_method}/detach")
def detach(call: Call, payment_method: str) -> Object:
    world = call.world
    method = world.require("payment_method", payment_method)
    customer = method["customer"]
    if customer is None:
        raise invalid("The payment method you provided is not attached to a customer so detachment is impossible.")
    previous = {"customer": customer}
    method["customer"] = None
    world.store.save(method)
    holder = world.store.get("customer", customer)
    if holder and (holder.get("invoice_settings") or {}).get("default_payment_method") == payment_method:
        settings = {**holder["invoice_settings"], "default_payment_method": None}
        world.update(holder, {"invoice_settings": settings}, "customer.updated")
    for subscription in world.store.table("subscription").of("customer", customer):
        if subscription["default_payment_method"] == payment_method:
            world.update(subscription, {"default_payment_method": None}, "customer.subscription.updated")
    world.emit("payment_method.detached", method, previous)
    return method


@operation("GET", "/v1/payment_methods")
def list_methods(call: Call) -> Object:
    if "customer" not in call.params:
        return page(call, "payment_method", equal=("type",), where=lambda row: row["customer"] is not None, ranges=())
    call.world.require("customer", call.params["customer"], "customer")
    return page(call, "payment_method", equal=("customer", "type"), ranges=())


@operation("GET", "/v1/customers/{customer}/payment_methods", resource="payment_method")
def list_of_customer(call: Call, customer: str) -> Object:
    call.world.require("customer", customer)
    return page(call, "payment_method", equal=("type",), where=lambda row: row["customer"] == customer, ranges=())


@operation("GET", "/v1/customers/{customer}/payment_methods/{payment_method}", resource="payment_method")
def retrieve_of_customer(call: Call, customer: str, payment_method: str) -> Object:
    method = call.world.require("payment_method", payment_method)
    if method["customer"] != customer:
        raise no_such("PaymentMethod", payment_method)
    return method
