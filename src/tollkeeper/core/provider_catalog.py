"""The catalog as a payment provider is to hold it: products, meters and prices by key, and what has to be done so that it does.

Keys: a product has its plan's, a meter its own, a price `{plan}@{version}/{price}`. A price is never changed: another plan version
has others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tollkeeper.core.catalog_form import plan_to_dict
from tollkeeper.core.plans import Catalog, Plan, Price
from tollkeeper.core.provider_prices import CARRIER, needs_carrier, rated_here

Kind = Literal["product", "meter", "price", "portal"]
Action = Literal["make", "change", "retire"]
ORDER: tuple[Kind, ...] = ("product", "meter", "price", "portal")


@dataclass(frozen=True, slots=True)
class Thing:
    """One object that the provider is to hold. `fields` is plain data; `price` the price that a thing of kind price is."""

    kind: Kind
    key: str
    fields: Mapping[str, Any]
    price: Price | None = None

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.fields, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Held:
    """What the provider holds for a key: its id, and the fingerprint of what was written. `retired` things are kept but not sold."""

    kind: Kind
    key: str
    id: str
    fingerprint: str

    @property
    def retired(self) -> bool:
        return self.fingerprint == RETIRED


RETIRED = "retired"
IMPORTED = "imported/"
"""Begins the key of a price that was there before us: it is never ours to retire."""


@dataclass(frozen=True, slots=True)
class Change:
    action: Action
    kind: Kind
    key: str
    thing: Thing | None
    held: Held | None


def price_key(plan: Plan, price: str) -> str:
    return f"{plan.key}@{plan.version}/{price}"


def event_name(installation: str, meter: str) -> str:
    """The name under which usage of a meter is reported; no other installation of the same account has it. At most 100 characters."""
    return f"tk_{installation[:8]}_{meter}"[:100]


def wanted(catalog: Catalog, also: Iterable[Plan] = ()) -> Iterator[Thing]:
    """What the provider is to hold for a catalog, and for plan versions that somebody is still on (`also`)."""
    plans = {(plan.key, plan.version): plan for plan in (*also, *catalog.plans.values())}.values()
    meters = {price.meter for plan in plans for price in plan.prices if price.meter and rated_here(price) is None}
    for key in dict.fromkeys(plan.key for plan in plans):
        plan = catalog.plans.get(key) or next(plan for plan in plans if plan.key == key)
        product = catalog.products.get(plan.product)
        name = plan.name if product is None or product.name in plan.name else f"{product.name} {plan.name}"
        yield Thing("product", key, {"name": name, "description": product.description if product else ""})
    for meter in sorted(meters):
        yield Thing("meter", meter, {"name": meter})
    for plan in plans:
        for price in _prices(plan):
            yield Thing("price", price_key(plan, price.key), _price_fields(plan, price), price)
    yield Thing("portal", "default", {"name": catalog.name})


def _prices(plan: Plan) -> Iterator[Price]:
    yield from (price for price in plan.prices if rated_here(price) is None)
    for currency in sorted({price.currency for price in plan.prices}):
        if needs_carrier(plan, currency):
            yield carrier(currency, plan)


def carrier(currency: str, plan: Plan) -> Price:
    """The price of 0 a month that a subscription to `plan` holds on to."""
    several = len({price.currency for price in plan.prices}) > 1
    return Price(key=f"{CARRIER}_{currency}" if several else CARRIER, model="flat", currency=currency)


def _price_fields(plan: Plan, price: Price) -> dict[str, Any]:
    alone = Plan(plan.key, plan.product, plan.name, prices=(price,))
    fields: dict[str, Any] = plan_to_dict(alone)["prices"][0]
    return {"plan": plan.key, "version": plan.version, **fields}


def changes(things: Iterable[Thing], held: Iterable[Held]) -> list[Change]:
    """What makes the provider hold exactly `things`: in an order in which each can refer to the ones before it."""
    there = {(one.kind, one.key): one for one in held}
    found: list[Change] = []
    asked = set()
    for thing in things:
        asked.add((thing.kind, thing.key))
        one = there.get((thing.kind, thing.key))
        if one is None:
            found.append(Change("make", thing.kind, thing.key, thing, None))
        elif one.fingerprint != thing.fingerprint:
            found.append(Change("change", thing.kind, thing.key, thing, one))
    for where, one in there.items():
        if f"/{IMPORTED}" in one.key:
            continue
        if where not in asked and not one.retired and one.kind in ("price", "product", "meter"):
            found.append(Change("retire", one.kind, one.key, None, one))
    return sorted(found, key=lambda change: (change.action == "retire", ORDER.index(change.kind)))
