"""The billing portal: configurations and sessions (https://docs.stripe.com/api/customer_portal)."""

from __future__ import annotations

from typing import Any

from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import only, unset

_FEATURES: dict[str, dict[str, Any]] = {
    "customer_update": {"allowed_updates": [], "enabled": False},
    "invoice_history": {"enabled": False},
    "payment_method_update": {"enabled": False, "payment_method_configuration": None},
    "subscription_cancel": {
        "cancellation_reason": {
            "enabled": False,
            "feedback_options": None,
            "options": ["too_expensive", "missing_features", "switched_service", "unused", "other"],
        },
        "enabled": False,
        "mode": "at_period_end",
        "proration_behavior": "none",
    },
    "subscription_pause": {"duration": {"interval_options": [], "type": "indefinite"}, "enabled": False},
    "subscription_update": {
        "billing_cycle_anchor": None,
        "default_allowed_updates": [],
        "enabled": False,
        "products": None,
        "proration_behavior": "none",
        "schedule_at_period_end": {"conditions": []},
        "trial_update_behavior": "end_trial",
    },
}
_SERVED = {
    "subscription_update": ("default_allowed_updates", "enabled", "products", "proration_behavior"),
    "subscription_cancel": ("cancellation_reason", "enabled", "mode", "proration_behavior"),
}


def _features(call: Call, given: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    found = {name: dict(value) for name, value in before.items()}
    if given.get("subscription_pause", {}).get("enabled"):
        raise ApiError(
            400,
            "The sandbox's portal does not pause.",
            code="sandbox_unsupported",
            param="features[subscription_pause]",
        )
    for name, value in given.items():
        only(value, _SERVED.get(name, value))
        new = {key: unset(item) for key, item in value.items()}
        if name == "subscription_cancel" and "cancellation_reason" in new:
            new["cancellation_reason"] = {**found[name]["cancellation_reason"], **new["cancellation_reason"]}
        found[name] = {**found[name], **new}
    update = found["subscription_update"]
    if update["enabled"] and not update["products"]:
        raise invalid(
            "You must specify `products` when `subscription_update` is enabled.",
            "features[subscription_update][products]",
        )
    for number, product in enumerate(update["products"] or ()):
        param = f"features[subscription_update][products][{number}]"
        call.world.require("product", product["product"], f"{param}[product]")
        product.setdefault("adjustable_quantity", {"enabled": False, "maximum": None, "minimum": 1})
        for place, id in enumerate(product["prices"]):
            price = call.world.require("price", id, f"{param}[prices][{place}]")
            if (price["recurring"] or {}).get("usage_type") != "licensed":
                raise invalid("The portal changes between licensed recurring prices only.", f"{param}[prices][{place}]")
    return found


@operation("POST", "/v1/billing_portal/configurations", resource="customer_portal")
def create_configuration(call: Call) -> Object:
    params, world = call.params, call.world
    only(params, ("business_profile", "default_return_url", "features", "metadata", "name"))
    profile = params.get("business_profile") or {}
    now = world.now()
    row = world.store.save(
        {
            "id": world.ids.new("bpc_1"),
            "object": "billing_portal.configuration",
            "active": True,
            "application": None,
            "business_profile": {
                name: profile.get(name) for name in ("headline", "privacy_policy_url", "terms_of_service_url")
            },
            "created": now,
            "default_return_url": unset(params.get("default_return_url")),
            "features": _features(call, params["features"], _FEATURES),
            "is_default": False,
            "livemode": False,
            "login_page": {"enabled": False, "url": None},
            "metadata": merged(params.get("metadata")),
            "name": unset(params.get("name")),
            "updated": now,
        }
    )
    world.emit("billing_portal.configuration.created", row)
    return row


@operation("POST", "/v1/billing_portal/configurations/{configuration}", resource="customer_portal")
def update_configuration(call: Call, configuration: str) -> Object:
    params, world = call.params, call.world
    only(params, ("active", "business_profile", "default_return_url", "features", "metadata", "name"))
    row = world.require("billing_portal.configuration", configuration)
    changes: dict[str, Any] = {
        name: unset(params[name]) for name in ("active", "default_return_url", "name") if name in params
    }
    if "business_profile" in params:
        changes["business_profile"] = {
            **row["business_profile"],
            **{k: unset(v) for k, v in params["business_profile"].items()},
        }
    if "features" in params:
        changes["features"] = _features(call, params["features"], row["features"])
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], row["metadata"])
    world.update(row, {**changes, "updated": world.now()}, "billing_portal.configuration.updated")
    return row


@operation("GET", "/v1/billing_portal/configurations/{configuration}", resource="customer_portal")
def retrieve_configuration(call: Call, configuration: str) -> Object:
    return call.world.require("billing_portal.configuration", configuration)


@operation("GET", "/v1/billing_portal/configurations", resource="customer_portal")
def list_configurations(call: Call) -> Object:
    return page(call, "billing_portal.configuration", equal=("active", "is_default"), ranges=())


@operation("POST", "/v1/billing_portal/sessions", resource="customer_portal")
def create_session(call: Call) -> Object:
    params, world = call.params, call.world
    only(params, ("configuration", "customer", "locale", "return_url"))
    if "customer" not in params:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    world.require("customer", params["customer"], "customer")
    if "configuration" not in params:
        raise invalid(
            "No configuration provided and your test mode default configuration has not been created. Provide a configuration or create "
            "your default by saving your customer portal settings in test mode.",
            "configuration",
        )
    held = world.require("billing_portal.configuration", params["configuration"], "configuration")
    if not held["active"]:
        raise invalid("The configuration is inactive.", "configuration")
    secret = world.ids.new("", 40)
    row = world.store.save(
        {
            "id": world.ids.new("bps_1"),
            "object": "billing_portal.session",
            "configuration": held["id"],
            "created": world.now(params["customer"]),
            "customer": params["customer"],
            "customer_account": None,
            "flow": None,
            "livemode": False,
            "locale": params.get("locale"),
            "on_behalf_of": None,
            "return_url": params.get("return_url") or held["default_return_url"],
            "url": f"{world.base_url}/portal/{secret}",
        }
    )
    world.store.save({"object": "_portal", "id": secret, "session": row["id"]})
    world.emit("billing_portal.session.created", row)
    return row
