"""Checkout sessions (https://docs.stripe.com/api/checkout/sessions), strict where Stripe is, with a page at the session's `url`."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tollkeeper.sandbox.arithmetic import discounted, rated
from tollkeeper.sandbox.discounts import usable
from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.lists import cut_rows, page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.prices import make as make_price
from tollkeeper.sandbox.render import lazy
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.subscription_items import metered
from tollkeeper.sandbox.support import listed, only
from tollkeeper.sandbox.texts import money, product_name
from tollkeeper.sandbox.world import due as task

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

DAY, HOUR = 86_400, 3600
_SMALLEST = 50
_SERVED = (
    "allow_promotion_codes", "automatic_tax", "billing_address_collection", "cancel_url", "client_reference_id", "currency", "customer",
    "customer_creation", "customer_email", "customer_update", "discounts", "expires_at", "invoice_creation", "line_items", "locale",
    "metadata", "mode", "payment_intent_data", "payment_method_collection", "setup_intent_data", "submit_type", "subscription_data",
    "success_url", "tax_id_collection", "ui_mode",
)  # fmt: skip
_SUBSCRIPTION_DATA = (
    "billing_cycle_anchor", "billing_cycle_anchor_config", "billing_mode", "default_tax_rates", "description", "metadata",
    "proration_behavior", "trial_end", "trial_period_days", "trial_settings",
)  # fmt: skip
_INTENT_DATA = ("description", "metadata", "receipt_email", "setup_future_usage")
_OF_MODE = {
    "subscription_data": ("subscription",), "payment_intent_data": ("payment",), "invoice_creation": ("payment",),
    "setup_intent_data": ("setup",), "customer_creation": ("payment", "setup"), "submit_type": ("payment", "subscription"),
    "payment_method_collection": ("subscription",),
}  # fmt: skip


def _check(call: Call, params: dict[str, Any]) -> None:
    """What Stripe refuses of parameters that do not go together. Raises ApiError 400."""
    mode = params.get("mode")
    if mode is None:
        raise invalid("Missing required param: mode.", "mode", "parameter_missing")
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise ApiError(400, "The sandbox has hosted pages only.", code="sandbox_unsupported", param="ui_mode")
    for name, modes in _OF_MODE.items():
        if name in params and mode not in modes:
            raise invalid(f"You can not pass `{name}` in `{mode}` mode.", name)
    if "success_url" not in params:
        raise invalid("Missing required param: success_url.", "success_url", "parameter_missing")
    for name in ("success_url", "cancel_url"):
        if name in params and (
            urlsplit(params[name]).scheme not in ("http", "https") or not urlsplit(params[name]).netloc
        ):
            raise invalid("Not a valid URL", name, "url_invalid")
    for one, other in (
        ("customer", "customer_email"),
        ("allow_promotion_codes", "discounts"),
        ("customer", "customer_creation"),
    ):
        if one in params and other in params:
            raise invalid(f"You may only specify one of these parameters: {one}, {other}.", one)
    if len(params.get("client_reference_id", "")) > 200:
        raise invalid("Invalid string: client_reference_id must be at most 200 characters", "client_reference_id")
    if len(params.get("discounts") or ()) > 1:
        raise invalid("You may only apply one discount to a Checkout Session.", "discounts")
    if "customer_update" in params and "customer" not in params:
        raise invalid("`customer_update` can only be used with `customer`.", "customer_update")
    now = call.world.now(params.get("customer"))
    if "expires_at" in params and not now + 1800 <= params["expires_at"] <= now + DAY:
        raise invalid(
            "The `expires_at` timestamp must be at least 30 minutes and at most 24 hours from Checkout Session creation.",
            "expires_at",
        )
    _check_customer(call, params)
    _check_trial(params.get("subscription_data") or {}, now)


def _check_customer(call: Call, params: dict[str, Any]) -> None:
    if "customer" not in params:
        return
    customer = call.world.require("customer", params["customer"], "customer")
    update = params.get("customer_update") or {}
    if (params.get("tax_id_collection") or {}).get("enabled") and update.get("name") != "auto":
        raise invalid(
            "Tax ID collection requires updating business name on the customer. To enable tax ID collection for an existing customer, "
            "please set `customer_update[name]` to `auto`.",
            "tax_id_collection",
        )
    located = bool((customer.get("address") or {}).get("country"))
    if (params.get("automatic_tax") or {}).get("enabled") and not located and update.get("address") != "auto":
        raise invalid(
            "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address to the Customer or set "
            "either `customer_update[address]` to 'auto' or `customer_update[shipping]` to 'auto' to save the address entered in Checkout "
            "to the Customer.",
            "automatic_tax",
            "customer_tax_location_invalid",
        )


def _check_trial(data: dict[str, Any], now: int) -> None:
    only(data, _SUBSCRIPTION_DATA, "subscription_data")
    if "trial_end" in data and "trial_period_days" in data:
        raise invalid(
            "You may only specify one of these parameters: trial_end, trial_period_days.",
            "subscription_data[trial_end]",
        )
    if "trial_end" in data and data["trial_end"] < now + 2 * DAY:
        raise invalid("The `trial_end` date has to be at least 2 days in the future.", "subscription_data[trial_end]")
    if data.get("trial_period_days", 1) < 1:
        raise invalid("The minimum number of trial period days is 1.", "subscription_data[trial_period_days]")


def _line_items(call: Call, params: dict[str, Any]) -> list[Object]:
    given, mode = params.get("line_items"), params["mode"]
    if mode == "setup":
        if given:
            raise invalid("`line_items` are not supported in `setup` mode.", "line_items")
        if "currency" not in params:
            raise invalid("`currency` is required in `setup` mode.", "currency", "parameter_missing")
        return []
    if not given:
        raise invalid("Missing required param: line_items.", "line_items", "parameter_missing")
    found = [_line_item(call, one, f"line_items[{number}]") for number, one in enumerate(given)]
    prices = [line["price"] for line in found]
    if len({price["currency"] for price in prices}) > 1:
        raise invalid("All prices on a Checkout Session must have the same currency.", "line_items")
    recurring = [price["type"] == "recurring" for price in prices]
    if mode == "payment" and any(recurring):
        raise invalid(
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices.",
            "line_items",
        )
    if mode == "subscription" and not any(recurring):
        raise invalid(
            "You must provide at least one recurring price in `subscription` mode when using prices.", "line_items"
        )
    return found


def _line_item(call: Call, given: dict[str, Any], param: str) -> Object:
    only(given, ("metadata", "price", "price_data", "quantity"), param)
    if ("price" in given) == ("price_data" in given):
        raise invalid(
            "You must specify either `price` or `price_data` for each line item.",
            f"{param}[price]",
            "parameter_missing",
        )
    if "price" in given:
        price = call.world.require("price", given["price"], f"{param}[price]")
        if not price["active"]:
            raise invalid(
                "The price specified is inactive. This field only accepts active prices.", f"{param}[price]"
            )  # fmt: skip
    else:
        price = make_price(call, given["price_data"], f"{param}[price_data]")
    if metered(price):
        if "quantity" in given:
            raise invalid(
                f"Quantity should not be specified where usage_type is `metered`. Remove quantity from `{param}`",
                f"{param}[quantity]",
            )
        quantity = None
    elif "quantity" not in given:
        raise invalid(f"Quantity is required. Add `quantity` to `{param}`", f"{param}[quantity]", "parameter_missing")
    else:
        quantity = given["quantity"]
        if quantity < 1:
            raise invalid(
                "This value must be greater than or equal to 1.", f"{param}[quantity]", "parameter_invalid_integer"
            )
    return {
        "id": call.world.ids.new("li_1"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": 0,
        "amount_tax": 0,
        "amount_total": 0,
        "currency": price["currency"],
        "description": product_name(call.world, price),
        "metadata": merged(given.get("metadata")),
        "price": price,
        "quantity": quantity,
    }


def trial_of(session: Object) -> bool:
    data = session["_data"]
    return bool(data.get("trial_period_days") or data.get("trial_end"))


def sum_up(world: World, session: Object) -> None:
    """What is to be paid now: usage later, nothing recurring in a trial, the discount off."""
    lines = session["_line_items"]
    for line in lines:
        free = line["quantity"] is None or (trial_of(session) and line["price"]["type"] == "recurring")
        line["amount_subtotal"] = (
            0 if free else sum(piece.amount for piece in rated(line["price"], Decimal(line["quantity"])))
        )
    coupon = world.store.get("coupon", session["_coupon"] or "")
    parts = [0] * len(lines)
    if coupon:
        products = (coupon.get("applies_to") or {}).get("products")
        fits = [products is None or line["price"]["product"] in products for line in lines]
        parts = discounted([line["amount_subtotal"] for line in lines], [(coupon, fits)])[0]
    for line, off in zip(lines, parts, strict=True):
        line["amount_discount"] = off
        line["amount_total"] = line["amount_subtotal"] - off
    if session["mode"] != "setup":
        session["amount_subtotal"] = sum(line["amount_subtotal"] for line in lines)
        session["amount_total"] = sum(line["amount_total"] for line in lines)
        session["total_details"] = {"amount_discount": sum(parts), "amount_shipping": 0, "amount_tax": 0}


@operation("POST", "/v1/checkout/sessions", resource="checkout_session")
def create(call: Call) -> Object:
    params, world = call.params, call.world
    only(params, _SERVED)
    _check(call, params)
    only(params.get("payment_intent_data") or {}, _INTENT_DATA, "payment_intent_data")
    only(params.get("setup_intent_data") or {}, ("description", "metadata"), "setup_intent_data")
    lines = _line_items(call, params)
    mode = params["mode"]
    customer = params.get("customer")
    now = world.now(customer)
    id = world.ids.new("cs_test_", 58)
    currency = lines[0]["currency"] if lines else params["currency"].lower()
    created = params.get("customer_creation") or (
        "always" if mode == "subscription" and customer is None else "if_required"
    )
    session: Object = {
        "id": id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": params.get("allow_promotion_codes"),
        "amount_subtotal": None,
        "amount_total": None,
        "automatic_tax": _automatic(params),
        "billing_address_collection": params.get("billing_address_collection"),
        "branding_settings": None,
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": now,
        "currency": currency,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": customer,
        "customer_account": None,
        "customer_creation": None if customer else created,
        "customer_details": None,
        "customer_email": params.get("customer_email"),
        "discounts": [],
        "excluded_payment_method_types": None,
        "expires_at": params.get("expires_at", now + DAY),
        "integration_identifier": None,
        "invoice": None,
        "invoice_creation": _invoice_creation(params) if mode == "payment" else None,
        "livemode": False,
        "locale": params.get("locale"),
        "metadata": merged(params.get("metadata")),
        "mode": mode,
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": params.get("payment_method_collection", "always")
        if mode == "subscription"
        else "if_required",
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": params.get("submit_type"),
        "subscription": None,
        "success_url": params["success_url"],
        "tax_id_collection": {"required": "never", **(params.get("tax_id_collection") or {"enabled": False})},
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{world.base_url}/checkout/{id}",
        "wallet_options": None,
        "_line_items": lines,
        "_data": params.get("subscription_data") or {},
        "_intent_data": params.get("payment_intent_data") or params.get("setup_intent_data") or {},
        "_update": params.get("customer_update") or {},
        "_coupon": None,
        "_code": None,
        "_intent": None,
    }
    for number, one in enumerate(params.get("discounts") or ()):
        coupon, code = usable(world, one, currency, customer, f"discounts[{number}]")
        use_coupon(session, coupon, code)
    sum_up(world, session)
    if mode == "payment" and 0 < session["amount_total"] < _SMALLEST:
        least = money(_SMALLEST, currency)
        raise invalid(
            f"The Checkout Session's total amount due must add up to at least {least} {currency}",
            None,
            "amount_too_small",
        )
    world.store.save(session)
    world.at(session["expires_at"], "checkout.expire", {"session": id}, world.clock_of(session))
    return session


def use_coupon(session: Object, coupon: Object | None, code: str | None) -> None:
    session["_coupon"], session["_code"] = (coupon["id"] if coupon else None), code
    session["discounts"] = [{"coupon": None if code else coupon["id"], "promotion_code": code}] if coupon else []


def _automatic(params: dict[str, Any]) -> Object:
    enabled = bool((params.get("automatic_tax") or {}).get("enabled"))
    return {
        "enabled": enabled,
        "liability": {"type": "self"} if enabled else None,
        "provider": "stripe" if enabled else None,
        "status": "requires_location_inputs" if enabled else None,
    }


def _invoice_creation(params: dict[str, Any]) -> Object:
    given = params.get("invoice_creation") or {"enabled": False}
    data = given.get("invoice_data") or {}
    only(data, ("description", "footer", "metadata"))
    return {
        "enabled": given["enabled"],
        "invoice_data": {
            "account_tax_ids": None, "custom_fields": None, "description": data.get("description"), "footer": data.get("footer"),
            "issuer": None, "metadata": merged(data.get("metadata")), "rendering_options": None,
        },
    }  # fmt: skip


lazy(
    "checkout.session",
    "line_items",
    lambda world, row: listed(f"/v1/checkout/sessions/{row['id']}/line_items", row["_line_items"]),
)


@operation("GET", "/v1/checkout/sessions/{session}", resource="checkout_session")
def retrieve(call: Call, session: str) -> Object:
    return call.world.require("checkout.session", session)


@operation("GET", "/v1/checkout/sessions", resource="checkout_session")
def list_sessions(call: Call) -> Object:
    details = call.params.get("customer_details") or {}
    return page(
        call,
        "checkout.session",
        equal=("customer", "payment_intent", "status", "subscription"),
        where=lambda row: not details or (row["customer_details"] or {}).get("email") == details["email"],
    )


@operation("POST", "/v1/checkout/sessions/{session}", resource="checkout_session")
def update(call: Call, session: str) -> Object:
    only(call.params, ("metadata",))
    row = call.world.require("checkout.session", session)
    if "metadata" in call.params:
        call.world.update(row, {"metadata": merged(call.params["metadata"], row["metadata"])})
    return row


@operation("GET", "/v1/checkout/sessions/{session}/line_items", resource="checkout_session")
def list_line_items(call: Call, session: str) -> Object:
    return cut_rows(call, call.world.require("checkout.session", session)["_line_items"])


@operation("POST", "/v1/checkout/sessions/{session}/expire", resource="checkout_session")
def expire_it(call: Call, session: str) -> Object:
    row = call.world.require("checkout.session", session)
    if row["status"] != "open":
        raise invalid(
            f'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of {row["status"]}.'
        )
    expire(call.world, row)
    return row


def expire(world: World, session: Object) -> None:
    session.update(status="expired", url=None)
    world.store.save(session)
    world.emit("checkout.session.expired", session)


@task("checkout.expire")
def _expire(world: World, data: dict[str, Any]) -> None:
    session = world.store.get("checkout.session", data["session"])
    if session is not None and session["status"] == "open":
        expire(world, session)
