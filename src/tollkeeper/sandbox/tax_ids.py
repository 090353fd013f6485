"""Tax ids of customers and of the account (https://docs.stripe.com/api/tax_ids)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.lists import answer, page
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.render import lazy
from tollkeeper.sandbox.store import Object

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

KIND = "tax_id"
_MOST = 5
_FORMS = {
    "eu_vat": re.compile(r"[A-Z]{2}[A-Z0-9+*]{2,12}"),
    "gb_vat": re.compile(r"(GB)?[0-9]{9}([0-9]{3})?|GB(GD|HA)[0-9]{3}"),
    "us_ein": re.compile(r"[0-9]{2}-?[0-9]{7}"),
    "au_abn": re.compile(r"[0-9]{11}"),
    "ch_vat": re.compile(r"CHE[-.0-9]{9,12}( ?(MWST|TVA|IVA))?"),
    "in_gst": re.compile(r"[0-9]{2}[A-Z0-9]{13}"),
}


def of_customer(world: World, customer: str) -> list[Object]:
    """A customer's tax ids, newest first."""
    return world.store.table(KIND).of("customer", customer)[::-1]


def _expanded(world: World, customer: Object) -> Object:
    return answer(f"/v1/customers/{customer['id']}/tax_ids", of_customer(world, customer["id"]))


lazy("customer", "tax_ids", _expanded)


def add(call: Call, customer: str | None, type: str, value: str) -> Object:
    """A new tax id; `customer` None: the account's own. Raises ApiError 400 for a value that cannot be one."""
    world = call.world
    form = _FORMS.get(type)
    if form is not None and not form.fullmatch(value.replace(" ", "")):
        raise invalid(f"Invalid value for {type}.", "value", "tax_id_invalid")
    if customer is not None and len(of_customer(world, customer)) >= _MOST:
        raise invalid(f"A customer can have at most {_MOST} tax ids.", code="customer_max_tax_ids")
    owner = "self" if customer is None else "customer"
    verified = type in ("eu_vat", "gb_vat", "au_abn")
    tax_id: Object = {
        "id": world.ids.new("txi_1"),
        "object": KIND,
        "country": value[:2] if type == "eu_vat" else type[:2].upper(),
        "created": world.now(customer),
        "customer": customer,
        "customer_account": None,
        "livemode": False,
        "owner": {"type": owner, **({"customer": customer} if customer else {})},
        "type": type,
        "value": value,
        "verification": {
            "status": "verified" if verified else "unavailable",
            "verified_address": None,
            "verified_name": None,
        },
    }
    world.store.save(tax_id)
    if customer is not None:
        world.emit("customer.tax_id.created", tax_id)
    return tax_id


def _of(call: Call, customer: str, id: str) -> Object:
    call.world.require("customer", customer)
    found = call.world.require(KIND, id)
    if found["customer"] != customer:
        raise invalid(f"No such tax id: '{id}'", "id", "resource_missing")
    return found


def _remove(call: Call, tax_id: Object) -> Object:
    if tax_id["customer"] is not None:
        call.world.emit("customer.tax_id.deleted", tax_id)
    call.world.store.remove(tax_id)
    return {"id": tax_id["id"], "object": KIND, "deleted": True}


@operation("POST", "/v1/customers/{customer}/tax_ids")
def create_of_customer(call: Call, customer: str) -> Object:
    call.world.require("customer", customer)
    return add(call, customer, call.params["type"], call.params["value"])


@operation("GET", "/v1/customers/{customer}/tax_ids/{id}")
def retrieve_of_customer(call: Call, customer: str, id: str) -> Object:
    return _of(call, customer, id)


@operation("GET", "/v1/customers/{customer}/tax_ids")
def list_of_customer(call: Call, customer: str) -> Object:
    call.world.require("customer", customer)
    return page(call, KIND, ranges=(), where=lambda row: row["customer"] == customer)


@operation("DELETE", "/v1/customers/{customer}/tax_ids/{id}")
def delete_of_customer(call: Call, customer: str, id: str) -> Object:
    return _remove(call, _of(call, customer, id))


def _owner(call: Call) -> str | None:
    owner = call.params.get("owner", {"type": "self"})
    if owner["type"] == "customer":
        return str(call.world.require("customer", owner.get("customer", ""), "owner[customer]")["id"])
    if owner["type"] != "self":
        raise invalid("The sandbox has tax ids of customers and of its own account.", "owner[type]")
    return None


@operation("POST", "/v1/tax_ids")
def create(call: Call) -> Object:
    return add(call, _owner(call), call.params["type"], call.params["value"])


@operation("GET", "/v1/tax_ids/{id}")
def retrieve(call: Call, id: str) -> Object:
    return call.world.require(KIND, id)


@operation("GET", "/v1/tax_ids")
def list_tax_ids(call: Call) -> Object:
    owner = _owner(call)
    return page(call, KIND, ranges=(), where=lambda row: row["customer"] == owner)


@operation("DELETE", "/v1/tax_ids/{id}")
def delete(call: Call, id: str) -> Object:
    return _remove(call, call.world.require(KIND, id))
