"""The catalog and its plans as JSON-able values: stored, hashed, sent. Decimals are strings; a tier without end is "inf"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from tollkeeper.core.errors import CatalogInvalid
from tollkeeper.core.metering import Filter, Meter, format_quantity
from tollkeeper.core.plans import Catalog, Discount, Feature, Plan, Price, Product, Quota, RateLimit, Tier

T = TypeVar("T")

_DECIMALS = frozenset(
    {"unit_amount", "flat_amount", "package_size", "package_amount", "included", "minimum", "maximum", "up_to"}
    | {"percent_off", "amount_off"}
)


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """Every field."""
    return {
        "key": plan.key,
        "product": plan.product,
        "name": plan.name,
        "version": plan.version,
        "limits": [_plain(limit) for limit in plan.limits],
        "quotas": [_plain(quota) for quota in plan.quotas],
        "prices": [price_to_dict(price) for price in plan.prices],
        "features": dict(plan.features),
        "weight": plan.weight,
        "trial_days": plan.trial_days,
        "grace_days": plan.grace_days,
    }


def price_to_dict(price: Price) -> dict[str, Any]:
    """Every field: the shape of `POST /v1/rate`, with key, meter and interval."""
    return {
        **_plain(price),
        "tiers": [{**_plain(tier), "up_to": _up_to(tier.up_to)} for tier in price.tiers],
        "discounts": [_plain(discount) for discount in price.discounts],
    }


def plan_from_dict(data: Mapping[str, Any]) -> Plan:
    """The plan of `plan_to_dict`. Raises CatalogInvalid when it is something else, such as a later version's."""
    return _trusted(_plan, data)


def catalog_to_dict(catalog: Catalog) -> dict[str, Any]:
    """Every field, maps in the order of the file."""
    return {
        "name": catalog.name,
        "shadow": list(catalog.shadow),
        "fallback": catalog.fallback,
        "write_off": to_plain(catalog.write_off),
        "automatic_tax": catalog.automatic_tax,
        "tax_ids": catalog.tax_ids,
        "promotion_codes": catalog.promotion_codes,
        "currency": catalog.currency,
        "products": {key: _plain(product) for key, product in catalog.products.items()},
        "meters": {key: _meter_to_dict(meter) for key, meter in catalog.meters.items()},
        "features": {key: _plain(feature) for key, feature in catalog.features.items()},
        "plans": {key: plan_to_dict(plan) for key, plan in catalog.plans.items()},
    }


def _meter_to_dict(meter: Meter) -> dict[str, Any]:
    filters = [{**_plain(one), "values": list(one.values)} for one in meter.filters]
    return {**_plain(meter), "group_by": list(meter.group_by), "filters": filters}


def catalog_from_dict(data: Mapping[str, Any]) -> Catalog:
    """The catalog of `catalog_to_dict`. Raises CatalogInvalid when it is something else, such as a later version's."""
    return _trusted(_catalog, data)


def fingerprint(catalog: Catalog) -> str:
    """SHA-256 in hex of what the catalog says, the order of its plans included and their versions left out."""
    plans = {key: replace(plan, version=0) for key, plan in catalog.plans.items()}
    document = {**catalog_to_dict(replace(catalog, plans=plans)), "order": list(plans)}
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _trusted(make: Callable[[Mapping[str, Any]], T], data: Mapping[str, Any]) -> T:
    try:
        return make(data)
    except (TypeError, KeyError, AttributeError, ValueError, InvalidOperation) as error:
        raise CatalogInvalid(f"This is no stored catalog of this version of Tollkeeper: {error!r}") from error


def to_plain(value: Any) -> Any:
    """A field's value as JSON has it; tables within are not looked into."""
    if isinstance(value, Decimal):
        return format_quantity(value)
    return list(value) if isinstance(value, tuple) else value


def _plain(thing: Any) -> dict[str, Any]:
    return {field.name: to_plain(getattr(thing, field.name)) for field in fields(thing)}


def _up_to(quantity: Decimal | None) -> str:
    return "inf" if quantity is None else format_quantity(quantity)


def _exact(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if value == "inf" else Decimal(value) if name in _DECIMALS and value is not None else value
        for name, value in item.items()
    }


def _plan(data: Mapping[str, Any]) -> Plan:
    parts = {
        "limits": tuple(RateLimit(**limit) for limit in data["limits"]),
        "quotas": tuple(Quota(**{**quota, "limit": Decimal(quota["limit"])}) for quota in data["quotas"]),
        "prices": tuple(
            Price(
                **{
                    **_exact(price),
                    "tiers": tuple(Tier(**_exact(tier)) for tier in price["tiers"]),
                    "discounts": tuple(Discount(**_exact(item)) for item in price.get("discounts", ())),
                }
            )
            for price in data["prices"]
        ),
        "features": dict(data["features"]),
    }
    return Plan(**{**data, **parts})


def _meter(data: Mapping[str, Any]) -> Meter:
    filters = tuple(Filter(**{**one, "values": tuple(one["values"])}) for one in data.get("filters", ()))
    return Meter(**{**data, "group_by": tuple(data["group_by"]), "filters": filters})


def _catalog(data: Mapping[str, Any]) -> Catalog:
    parts = {
        "products": {key: Product(**item) for key, item in data["products"].items()},
        "meters": {key: _meter(item) for key, item in data["meters"].items()},
        "features": {key: Feature(**item) for key, item in data["features"].items()},
        "plans": {key: _plan(item) for key, item in data["plans"].items()},
        "shadow": tuple(data.get("shadow", ())),
        "write_off": None if data.get("write_off") is None else Decimal(data["write_off"]),
    }
    return Catalog(**{**data, **parts})
