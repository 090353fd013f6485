"""Setup intents: a card saved for later, with authentication where the card asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.cards import attach, card_of, declined, find_method
from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_AFTER: list[Callable[[World, Object], None]] = []


def after_setup(function: Callable[[World, Object], None]) -> Callable[[World, Object], None]:
    """The function is called with a setup intent after each attempt."""
    _AFTER.append(function)
    return function


def make_setup(world: World, customer: str | None, metadata: Any = None, description: str | None = None) -> Object:
    """A setup intent that waits for a payment method."""
    id = world.ids.new("seti_1")
    row = world.store.save(
        {
            "id": id,
            "object": "setup_intent",
            "application": None,
            "automatic_payment_methods": None,
            "cancellation_reason": None,
            "client_secret": f"{id}_secret_{world.ids.new('')}",
            "created": world.now(customer),
            "customer": customer,
            "customer_account": None,
            "description": description,
            "excluded_payment_method_types": None,
            "flow_directions": None,
            "last_setup_error": None,
            "latest_attempt": None,
            "livemode": False,
            "mandate": None,
            "metadata": merged(metadata),
            "next_action": None,
            "on_behalf_of": None,
            "payment_method": None,
            "payment_method_configuration_details": None,
            "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
            "payment_method_types": ["card"],
            "single_use_mandate": None,
            "status": "requires_payment_method",
            "usage": "off_session",
        }
    )
    world.emit("setup_intent.created", row)
    return row


def set_up(world: World, intent: Object, method: Object, *, authenticated: bool = False) -> str:
    """Save the method: "succeeded", "requires_action" or "failed"."""
    card = card_of(method)
    if not card.attach and card.decline:
        fail(world, intent, method, card.decline)
        result = "failed"
    elif card.authenticate and not method["_authenticated"] and not authenticated:
        url = f"{world.base_url}/authenticate/{intent['id']}"
        action = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": intent.get("_return_url")}}
        intent.update(status="requires_action", payment_method=method["id"], next_action=action)
        world.store.save(intent)
        world.emit("setup_intent.requires_action", intent)
        result = "requires_action"
    else:
        method["_authenticated"] = True
        world.store.save(method)
        if intent["customer"]:
            attach(world, method, intent["customer"])
        intent.update(status="succeeded", payment_method=method["id"], next_action=None, last_setup_error=None)
        world.store.save(intent)
        world.emit("setup_intent.succeeded", intent)
        result = "succeeded"
    for function in _AFTER:
        function(world, intent)
    return result


def fail(world: World, intent: Object, method: Object, code: str) -> None:
    """The card was refused, or its authentication failed."""
    error = declined(code)
    if code == "setup_intent_authentication_failure":
        error = {
            "code": code,
            "message": "The provided PaymentMethod has failed authentication.",
            "type": "invalid_request_error",
        }
    intent.update(status="requires_payment_method", payment_method=None, next_action=None, last_setup_error=error)
    world.store.save(intent)
    world.emit("setup_intent.setup_failed", intent)


def _confirm(world: World, intent: Object, params: dict[str, Any]) -> Object:
    id = params.get("payment_method") or intent["payment_method"]
    if id is None:
        raise invalid("You cannot confirm this SetupIntent because it's missing a payment method.", "payment_method")
    intent["_return_url"] = params.get("return_url")
    if set_up(world, intent, find_method(world, id)) == "failed":
        error = intent["last_setup_error"]
        extra = {name: error[name] for name in ("decline_code",) if name in error}
        raise ApiError(402, error["message"], type=error["type"], code=error["code"], extra=extra)
    return intent


@operation("POST", "/v1/setup_intents")
def create(call: Call) -> Object:
    params, world = call.params, call.world
    only(
        params,
        ("automatic_payment_methods", "confirm", "customer", "description", "metadata", "payment_method", "payment_method_types",
         "return_url", "usage"),
    )  # fmt: skip
    if "customer" in params:
        world.require("customer", params["customer"], "customer")
    intent = make_setup(world, params.get("customer"), params.get("metadata"), params.get("description"))
    if "payment_method" in params:
        intent.update(payment_method=find_method(world, params["payment_method"])["id"], status="requires_confirmation")
        world.store.save(intent)
    return _confirm(world, intent, params) if params.get("confirm") else intent


@operation("GET", "/v1/setup_intents/{intent}")
def retrieve(call: Call, intent: str) -> Object:
    return call.world.require("setup_intent", intent)


@operation("POST", "/v1/setup_intents/{intent}/confirm")
def confirm(call: Call, intent: str) -> Object:
    only(call.params, ("payment_method", "return_url"))
    return _confirm(call.world, call.world.require("setup_intent", intent), call.params)


@operation("POST", "/v1/setup_intents/{intent}/cancel")
def cancel(call: Call, intent: str) -> Object:
    found = call.world.require("setup_intent", intent)
    if found["status"] in ("succeeded", "canceled"):
        raise invalid(
            f"You cannot cancel this SetupIntent because it has a status of {found['status']}.",
            None,
            "setup_intent_unexpected_state",
        )
    found.update(status="canceled", cancellation_reason=call.params.get("cancellation_reason"), next_action=None)
    call.world.store.save(found)
    call.world.emit("setup_intent.canceled", found)
    return found


@operation("GET", "/v1/setup_intents")
def list_setups(call: Call) -> Object:
    return page(call, "setup_intent", equal=("customer", "payment_method"))
