"""Tax rates (https://docs.stripe.com/api/tax_rates): the percentage never changes once it is made."""

from __future__ import annotations

from typing import Any

from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object

KIND = "tax_rate"
_PLAIN = ("active", "country", "description", "display_name", "jurisdiction", "state", "tax_type")


@operation("POST", "/v1/tax_rates")
def create(call: Call) -> Object:
    world, params = call.world, call.params
    if not 0 <= params["percentage"] <= 100:
        raise invalid("percentage must be between 0 and 100.", "percentage")
    rate: Object = {
        "id": world.ids.new("txr_1"),
        "object": KIND,
        "active": True,
        "country": None,
        "created": world.now(),
        "description": None,
        "display_name": params["display_name"],
        "effective_percentage": params["percentage"],
        "flat_amount": None,
        "inclusive": params["inclusive"],
        "jurisdiction": None,
        "jurisdiction_level": None,
        "livemode": False,
        "metadata": merged(params.get("metadata")),
        "percentage": params["percentage"],
        "rate_type": "percentage",
        "state": None,
        "tax_type": None,
    }
    rate.update({name: params[name] for name in _PLAIN if name in params})
    world.store.save(rate)
    world.emit("tax_rate.created", rate)
    return rate


@operation("GET", "/v1/tax_rates/{tax_rate}")
def retrieve(call: Call, id: str) -> Object:
    return call.world.require(KIND, id)


@operation("POST", "/v1/tax_rates/{tax_rate}")
def update(call: Call, id: str) -> Object:
    rate, params = call.world.require(KIND, id), call.params
    changes: dict[str, Any] = {name: params[name] for name in _PLAIN if name in params}
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], rate["metadata"])
    call.world.update(rate, changes, "tax_rate.updated")
    return rate


@operation("GET", "/v1/tax_rates")
def list_rates(call: Call) -> Object:
    return page(call, KIND, equal=("active", "inclusive"))
