"""Products (https://docs.stripe.com/api/products)."""

from __future__ import annotations

from typing import Any

from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object

KIND = "product"
_PLAIN = (
    "active",
    "description",
    "images",
    "marketing_features",
    "name",
    "package_dimensions",
    "shippable",
    "statement_descriptor",
    "tax_code",
    "tax_details",
    "unit_label",
    "url",
)


@operation("POST", "/v1/products")
def create(call: Call) -> Object:
    params = call.params
    product = make(call, params)
    if "default_price_data" in params:
        from tollkeeper.sandbox.prices import make as make_price

        price = make_price(call, {**params["default_price_data"], "product": product["id"]}, "default_price_data")
        call.world.update(product, {"default_price": price["id"]}, "product.updated")
    return product


def make(call: Call, params: dict[str, Any]) -> Object:
    """A new product from `params` of POST /v1/products or `product_data` of another call."""
    world = call.world
    id = params.get("id") or world.ids.new("prod_", 14)
    if world.store.get(KIND, id) is not None:
        raise ApiError(400, "Product already exists.", code="resource_already_exists", param="id")
    now = world.now()
    product: Object = {
        "id": id,
        "object": KIND,
        "active": True,
        "created": now,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": merged(params.get("metadata")),
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "tax_details": None,
        "type": params.get("type", "service"),
        "unit_label": None,
        "updated": now,
        "url": None,
    }
    product.update({name: params[name] for name in _PLAIN if name in params})
    world.store.save(product)
    world.emit("product.created", product)
    return product


@operation("GET", "/v1/products/{id}")
def retrieve(call: Call, id: str) -> Object:
    return call.world.require(KIND, id)


@operation("POST", "/v1/products/{id}")
def update(call: Call, id: str) -> Object:
    world, params = call.world, call.params
    product = world.require(KIND, id)
    changes: dict[str, Any] = {name: params[name] for name in _PLAIN if name in params}
    for name in ("images", "marketing_features"):
        if changes.get(name) == "":
            changes[name] = []
    changes = {name: None if value == "" else value for name, value in changes.items()}
    if "default_price" in params:
        price = world.require("price", params["default_price"], "default_price")
        if price["product"] != id or not price["active"]:
            raise invalid("The default price must be an active price of this product.", "default_price")
        changes["default_price"] = params["default_price"]
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], product["metadata"])
    if any(product.get(name) != value for name, value in changes.items()):
        world.update(product, {**changes, "updated": world.now()}, "product.updated")
    return product


@operation("GET", "/v1/products")
def list_products(call: Call) -> Object:
    ids = call.params.get("ids")
    return page(
        call,
        KIND,
        equal=("active", "shippable", "type", "url"),
        where=lambda row: ids is None or row["id"] in ids,
    )


@operation("DELETE", "/v1/products/{id}")
def delete(call: Call, id: str) -> Object:
    world = call.world
    product = world.require(KIND, id)
    if world.store.table("price").of("product", id):
        raise invalid("This product cannot be deleted because it has one or more user-created prices.")
    world.emit("product.deleted", product)
    world.store.remove(product)
    return {"id": id, "object": KIND, "deleted": True}
