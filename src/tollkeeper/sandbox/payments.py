"""Payment intents and charges: what a card does with an amount, and what is told of it.

A payment intent belongs to an invoice (`_invoice`) or to a Checkout session in payment mode. `settle` is the one place where a
charge is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.cards import attach, card_error, card_of, declined, find_method
from tollkeeper.sandbox.charges import make_charge
from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.render import lazy
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import chargeable, listed, only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_AFTER: list[Callable[[World, Object], None]] = []
_CREATE = (
    "amount", "automatic_payment_methods", "capture_method", "confirm", "currency", "customer", "description", "error_on_requires_action",
    "metadata", "off_session", "payment_method", "payment_method_types", "receipt_email", "return_url", "setup_future_usage",
    "statement_descriptor", "statement_descriptor_suffix",
)  # fmt: skip


def after_payment(function: Callable[[World, Object], None]) -> Callable[[World, Object], None]:
    """The function is called with a payment intent after each attempt to pay it, when it succeeded, failed or waits."""
    _AFTER.append(function)
    return function


def make_intent(
    world: World, amount: int, currency: str, customer: str | None, *, description: str | None = None, metadata: Any = None,
    invoice: str | None = None, future: str | None = None, receipt: str | None = None,
) -> Object:  # fmt: skip
    """A payment intent that waits for a payment method."""
    id = world.ids.new("pi_3")
    intent = world.store.save(
        {
            "id": id,
            "object": "payment_intent",
            "amount": amount,
            "amount_capturable": 0,
            "amount_details": {"tip": {}},
            "amount_received": 0,
            "application": None,
            "application_fee_amount": None,
            "automatic_payment_methods": None,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": "automatic",
            "client_secret": f"{id}_secret_{world.ids.new('')}",
            "confirmation_method": "automatic",
            "created": world.now(customer),
            "currency": currency,
            "customer": customer,
            "customer_account": None,
            "description": description,
            "excluded_payment_method_types": None,
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": merged(metadata),
            "next_action": None,
            "on_behalf_of": None,
            "payment_method": None,
            "payment_method_configuration_details": None,
            "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
            "payment_method_types": ["card"],
            "processing": None,
            "receipt_email": receipt,
            "review": None,
            "setup_future_usage": future,
            "shipping": None,
            "source": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": None,
            "status": "requires_payment_method",
            "transfer_data": None,
            "transfer_group": None,
            "_invoice": invoice,
        }
    )
    world.emit("payment_intent.created", intent)
    return intent


def outcome(method: Object, *, off_session: bool) -> str:
    """What a charge of this method would come to: "succeeded", "requires_action" or a decline code."""
    card = card_of(method)
    if card.decline:
        return card.decline
    if method.get("_passed"):
        return "succeeded"
    if card.authenticate == "always" or (card.authenticate == "once" and not method["_authenticated"]):
        return "authentication_required" if off_session else "requires_action"
    return "succeeded"


def settle(
    world: World, intent: Object, method: Object, *, off_session: bool = False, authenticated: bool = False
) -> str:
    """Try to pay an intent with a method, tell what came of it, and return it: "succeeded", "requires_action" or "failed"."""
    came = outcome(method, off_session=off_session)
    if authenticated and came in ("requires_action", "authentication_required"):
        came = "succeeded"
    if came == "succeeded":
        _succeed(world, intent, method)
        result = "succeeded"
    elif came == "requires_action":
        _ask(world, intent, method)
        result = "requires_action"
    else:
        fail(world, intent, method, came)
        result = "failed"
    for function in _AFTER:
        function(world, intent)
    return result


def refuse(world: World, intent: Object, method: Object) -> None:
    """The authentication of a payment failed."""
    fail(world, intent, method, "payment_intent_authentication_failure")
    for function in _AFTER:
        function(world, intent)


def _succeed(world: World, intent: Object, method: Object) -> None:
    if intent["customer"] and intent["setup_future_usage"] and method["customer"] is None:
        method["_authenticated"] = True
        attach(world, method, intent["customer"])
    charge = make_charge(world, intent, method, None)
    changes = {"status": "succeeded", "amount_received": intent["amount"], "latest_charge": charge["id"]}
    intent.update(changes, payment_method=method["id"], next_action=None, last_payment_error=None)
    world.store.save(intent)
    world.emit("charge.succeeded", charge)
    world.emit("payment_intent.succeeded", intent)
    if card_of(method).dispute:
        from tollkeeper.sandbox.disputes import open_dispute

        open_dispute(world, charge, "fraudulent")


def _ask(world: World, intent: Object, method: Object) -> None:
    url = f"{world.base_url}/authenticate/{intent['id']}"
    action = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": intent.get("_return_url")}}
    intent.update(status="requires_action", payment_method=method["id"], next_action=action)
    world.store.save(intent)
    world.emit("payment_intent.requires_action", intent)


def fail(world: World, intent: Object, method: Object, code: str) -> None:
    """The method did not pay: a failed charge, or an authentication that was missing."""
    if code == "authentication_required":
        error: dict[str, Any] = {
            "code": code,
            "doc_url": "https://stripe.com/docs/error-codes/authentication-required",
            "message": "Your card was declined. This transaction requires authentication.",
            "decline_code": code,
            "type": "card_error",
        }
    elif code == "payment_intent_authentication_failure":
        error = {
            "code": code,
            "doc_url": "https://stripe.com/docs/error-codes/payment-intent-authentication-failure",
            "message": "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new PaymentMethod "
            "to attempt to fulfill this PaymentIntent again.",
            "type": "invalid_request_error",
        }
    else:
        error = declined(code)
    charge = None
    if code != "payment_intent_authentication_failure":
        charge = make_charge(world, intent, method, error)
        error["charge"] = charge["id"]
    from tollkeeper.sandbox.render import render

    error["payment_method"] = render(world, method)
    intent.update(status="requires_payment_method", payment_method=None, next_action=None, last_payment_error=error)
    if charge is not None:
        intent["latest_charge"] = charge["id"]
    world.store.save(intent)
    if charge is not None:
        world.emit("charge.failed", charge)
    world.emit("payment_intent.payment_failed", intent)


def wait_for_bank(world: World, intent: Object, method: Object) -> None:
    """A bank account was told to pay; its answer comes later."""
    intent.update(
        status="processing", payment_method=method["id"], next_action=None, payment_method_types=["sepa_debit"]
    )
    world.store.save(intent)
    world.emit("payment_intent.processing", intent)


def cancel_intent(world: World, intent: Object, reason: str | None) -> None:
    if intent["status"] in ("succeeded", "canceled"):
        return
    intent.update(status="canceled", canceled_at=world.now(intent), cancellation_reason=reason, next_action=None)
    world.store.save(intent)
    world.emit("payment_intent.canceled", intent)


def error_of(intent: Object) -> ApiError:
    """The answer 402 for an attempt that failed."""
    error = intent["last_payment_error"]
    from tollkeeper.sandbox.render import _show

    extra = {name: error[name] for name in ("decline_code", "charge", "payment_method") if name in error}
    extra["payment_intent"] = _show(None, intent, {}, "")  # type: ignore[arg-type]
    return ApiError(402, error["message"], type=error["type"], code=error["code"], extra=extra)


def confirm(world: World, intent: Object, params: dict[str, Any]) -> Object:
    """Pay with the method given or held. Raises ApiError 402 when the card is declined."""
    if intent["status"] not in ("requires_payment_method", "requires_confirmation", "requires_action"):
        raise invalid(
            f"This PaymentIntent's payment_method could not be updated because it has a status of {intent['status']}.",
            None,
            "payment_intent_unexpected_state",
        )
    id = params.get("payment_method") or intent["payment_method"]
    if id is None:
        raise invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method. Update the PaymentIntent with a payment method "
            "and then confirm it again.",
            "payment_method",
            "payment_intent_unexpected_state",
        )
    method = find_method(world, id)
    if "return_url" in params:
        intent["_return_url"] = params["return_url"]
    off_session = params.get("off_session") in (True, "true", "one_off", "recurring")
    if settle(world, intent, method, off_session=off_session) == "failed":
        raise error_of(intent)
    if intent["status"] == "requires_action" and params.get("error_on_requires_action"):
        raise card_error("authentication_required")
    return intent


lazy("payment_intent", "charges", lambda world, intent: listed("/v1/charges", charges_of(world, intent)))


def charges_of(world: World, intent: Object) -> list[Object]:
    return world.store.table("charge").of("payment_intent", intent["id"])[::-1]


@operation("POST", "/v1/payment_intents")
def create(call: Call) -> Object:
    params, world = call.params, call.world
    only(params, _CREATE)
    if params.get("capture_method", "automatic") not in ("automatic", "automatic_async"):
        raise invalid("The sandbox captures automatically.", "capture_method")
    if params["amount"] < 1:
        raise invalid("This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer")
    chargeable(params["amount"], params["currency"].lower())
    customer = params.get("customer")
    if customer is not None:
        world.require("customer", customer, "customer")
    intent = make_intent(
        world, params["amount"], params["currency"].lower(), customer, description=params.get("description"),
        metadata=params.get("metadata"), future=params.get("setup_future_usage"), receipt=params.get("receipt_email"),
    )  # fmt: skip
    if "payment_method" in params:
        intent.update(payment_method=find_method(world, params["payment_method"])["id"], status="requires_confirmation")
        world.store.save(intent)
    if params.get("confirm"):
        return confirm(world, intent, params)
    return intent


@operation("GET", "/v1/payment_intents/{intent}")
def retrieve(call: Call, intent: str) -> Object:
    return call.world.require("payment_intent", intent)


@operation("POST", "/v1/payment_intents/{intent}")
def update(call: Call, intent: str) -> Object:
    only(call.params, ("description", "metadata", "receipt_email", "payment_method", "setup_future_usage"))
    found = call.world.require("payment_intent", intent)
    changes = {name: value for name, value in call.params.items() if name != "metadata"}
    if "payment_method" in changes:
        changes["payment_method"] = find_method(call.world, changes["payment_method"])["id"]
        if found["status"] == "requires_payment_method":
            changes["status"] = "requires_confirmation"
    if "metadata" in call.params:
        changes["metadata"] = merged(call.params["metadata"], found["metadata"])
    call.world.update(found, changes)
    return found


@operation("POST", "/v1/payment_intents/{intent}/confirm")
def confirm_intent(call: Call, intent: str) -> Object:
    only(
        call.params,
        (
            "error_on_requires_action",
            "off_session",
            "payment_method",
            "return_url",
            "setup_future_usage",
            "receipt_email",
        ),
    )
    found = call.world.require("payment_intent", intent)
    for name in ("setup_future_usage", "receipt_email"):
        if name in call.params:
            found[name] = call.params[name]
    return confirm(call.world, found, call.params)


@operation("POST", "/v1/payment_intents/{intent}/cancel")
def cancel(call: Call, intent: str) -> Object:
    found = call.world.require("payment_intent", intent)
    if found["_invoice"]:
        raise invalid(
            "You cannot cancel a PaymentIntent of an invoice; void the invoice instead.",
            None,
            "payment_intent_unexpected_state",
        )
    if found["status"] in ("succeeded", "canceled"):
        raise invalid(
            f"You cannot cancel this PaymentIntent because it has a status of {found['status']}.",
            None,
            "payment_intent_unexpected_state",
        )
    cancel_intent(call.world, found, call.params.get("cancellation_reason"))
    return found


@operation("GET", "/v1/payment_intents")
def list_intents(call: Call) -> Object:
    return page(call, "payment_intent", equal=("customer",))
