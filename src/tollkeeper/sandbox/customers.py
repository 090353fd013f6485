"""Customers (https://docs.stripe.com/api/customers)."""

from __future__ import annotations

import re
from typing import Any

from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.render import hide
from tollkeeper.sandbox.store import Object

KIND = "customer"
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_PLAIN = ("business_name", "description", "email", "individual_name", "name", "phone")
_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
_SHIPPING = ("name", "phone", "carrier", "tracking_number")
hide(KIND, "tax")


def address(given: Any) -> dict[str, str | None] | None:
    """An address as it is shown: every field, None where it was not given."""
    return {name: given.get(name) or None for name in _ADDRESS} if given else None


def _shipping(given: Any) -> dict[str, Any] | None:
    if not given:
        return None
    shown = {name: given.get(name) or None for name in _SHIPPING}
    return {**shown, "address": address(given.get("address"))}


def _check_email(params: dict[str, Any]) -> None:
    email = params.get("email")
    if email and not _EMAIL.fullmatch(email):
        raise invalid(f"Invalid email address: {email}", "email", "email_invalid")


@operation("POST", "/v1/customers")
def create(call: Call) -> Object:
    world, params = call.world, call.params
    _check_email(params)
    clock = params.get("test_clock")
    if clock is not None:
        world.require("test_helpers.test_clock", clock, "test_clock")
    customer: Object = {
        "id": world.ids.new("cus_", 14),
        "object": KIND,
        "address": address(params.get("address")),
        "balance": params.get("balance", 0),
        "created": world.now(clock),
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": params.get("invoice_prefix") or world.ids.new("", 8).upper(),
        "invoice_settings": _invoice_settings(params.get("invoice_settings"), None),
        "livemode": False,
        "metadata": merged(params.get("metadata")),
        "name": None,
        "next_invoice_sequence": params.get("next_invoice_sequence", 1),
        "phone": None,
        "preferred_locales": params.get("preferred_locales", []),
        "shipping": _shipping(params.get("shipping")),
        "tax": _tax(params),
        "tax_exempt": params.get("tax_exempt") or "none",
        "test_clock": clock,
    }
    customer.update({name: params[name] or None for name in _PLAIN if name in params})
    world.store.save(customer)
    world.emit("customer.created", customer)
    for datum in params.get("tax_id_data", []):
        from tollkeeper.sandbox.tax_ids import add

        add(call, customer["id"], datum["type"], datum["value"])
    if "payment_method" in params:
        attach_on_create(call, customer, params["payment_method"])
    return customer


def attach_on_create(call: Call, customer: Object, method: str) -> None:
    """`payment_method` of a new customer is attached to it."""
    from tollkeeper.sandbox.cards import attach, find_method

    attach(call.world, find_method(call.world, method), customer["id"])


def _invoice_settings(given: Any, before: dict[str, Any] | None) -> dict[str, Any]:
    settings = dict(
        before or {"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None}
    )
    settings.update({name: value or None for name, value in (given or {}).items()})
    return settings


def _tax(params: dict[str, Any]) -> dict[str, Any]:
    """Where tax would be computed for: the sandbox takes every given country for a known one."""
    country = (params.get("address") or {}).get("country")
    return {
        "automatic_tax": "supported" if country else "unrecognized_location",
        "ip_address": (params.get("tax") or {}).get("ip_address") or None,
        "location": {"country": country, "source": "billing_address", "state": None} if country else None,
        "provider": "stripe",
    }


@operation("GET", "/v1/customers/{customer}")
def retrieve(call: Call, id: str) -> Object:
    found = call.world.store.get(KIND, id)
    if found is not None and found.get("deleted"):
        return {"id": id, "object": KIND, "deleted": True}
    return call.world.require(KIND, id)


@operation("POST", "/v1/customers/{customer}")
def update(call: Call, id: str) -> Object:
    world, params = call.world, call.params
    customer = world.require(KIND, id)
    _check_email(params)
    changes: dict[str, Any] = {name: params[name] or None for name in _PLAIN if name in params}
    for name in ("balance", "next_invoice_sequence", "preferred_locales", "invoice_prefix"):
        if name in params:
            changes[name] = params[name]
    if "tax_exempt" in params:
        changes["tax_exempt"] = params["tax_exempt"] or "none"
    if "address" in params:
        changes["address"] = address(params["address"])
        changes["tax"] = _tax(params)
    if "shipping" in params:
        changes["shipping"] = _shipping(params["shipping"])
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], customer["metadata"])
    if "invoice_settings" in params:
        method = params["invoice_settings"].get("default_payment_method")
        if method:
            held = world.require("payment_method", method, "invoice_settings[default_payment_method]")
            if held["customer"] != id:
                raise invalid(
                    "The customer does not have a payment method with the ID "
                    f"{method}. The payment method must be attached to the customer.",
                    "invoice_settings[default_payment_method]",
                    "resource_missing",
                )
        changes["invoice_settings"] = _invoice_settings(params["invoice_settings"], customer["invoice_settings"])
    world.update(customer, changes, "customer.updated")
    return customer


@operation("GET", "/v1/customers")
def list_customers(call: Call) -> Object:
    clock = call.params.get("test_clock")
    return page(call, KIND, equal=("email",), where=lambda row: row["test_clock"] == clock)


ON_DELETE: list[Any] = []
"""Functions (world, customer) that run before a customer is deleted: its subscriptions end."""


@operation("DELETE", "/v1/customers/{customer}")
def delete(call: Call, id: str) -> Object:
    world = call.world
    customer = world.require(KIND, id)
    for function in ON_DELETE:
        function(world, customer)
    world.emit("customer.deleted", customer)
    customer["deleted"] = True
    world.store.save(customer)
    return {"id": id, "object": KIND, "deleted": True}
