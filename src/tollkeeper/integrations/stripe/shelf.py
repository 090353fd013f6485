"""Products, billing meters, prices and the portal's configuration. What is there already is adopted by its id, event name or lookup key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import NotFound
from tollkeeper.core.provider import ProviderRefused
from tollkeeper.core.provider_catalog import Held, Kind, Thing, event_name
from tollkeeper.integrations.stripe.client import Calls
from tollkeeper.integrations.stripe.prices import price_params

Ids = Callable[[Kind, str], str]


class StripeShelf:
    """`services.provider_catalog.Shelf`. Stripe lets a price's amount and a meter's event name never be changed, so they are not."""

    name = "stripe"

    def __init__(self, calls: Calls, installation: str) -> None:
        self.environment: Environment = calls.environment
        self._calls = calls
        self._installation = installation

    def make(self, thing: Thing, ids: Ids, key: str) -> str:
        match thing.kind:
            case "product":
                return self._product(thing, key)
            case "meter":
                return self._meter(thing, key)
            case "price":
                return self._price(thing, ids, key)
            case "portal":
                return self._portal(thing, None, key)

    def change(self, held: Held, thing: Thing, ids: Ids, key: str) -> str:
        match thing.kind:
            case "product":
                params: Any = {**_product(thing), "active": True}
                self._calls.post(lambda c, o: c.v1.products.update(held.id, params, o), key)
            case "meter":
                if held.retired:
                    self._calls.post(lambda c, o: c.v1.billing.meters.reactivate(held.id, options=o), f"{key}-again")
                named: Any = {"display_name": thing.fields["name"]}
                self._calls.post(lambda c, o: c.v1.billing.meters.update(held.id, named, o), key)
            case "price":
                return self._price(thing, ids, key)
            case "portal":
                return self._portal(thing, held.id, key)
        return held.id

    def retire(self, held: Held, key: str) -> None:
        off: Any = {"active": False}
        match held.kind:
            case "product":
                self._calls.post(lambda c, o: c.v1.products.update(held.id, off, o), key)
            case "price":
                self._calls.post(lambda c, o: c.v1.prices.update(held.id, off, o), key)
            case "meter":
                self._calls.post(lambda c, o: c.v1.billing.meters.deactivate(held.id, options=o), key)

    def _product(self, thing: Thing, key: str) -> str:
        """Under an id of ours, so that the same product is never made twice."""
        id = f"tk_{self._installation[:8]}_{thing.key}"
        params: Any = {"id": id, **_product(thing)}
        try:
            return str(self._calls.post(lambda c, o: c.v1.products.create(params, o), key)["id"])
        except ProviderRefused as refused:
            if refused.reason != "resource_already_exists":
                raise
        again: Any = {**_product(thing), "active": True}
        return str(self._calls.post(lambda c, o: c.v1.products.update(id, again, o), f"{key}-adopt")["id"])

    def _meter(self, thing: Thing, key: str) -> str:
        """Formula sum: what is reported is by how much a period's total has changed, whatever the meter's own aggregation."""
        name = event_name(self._installation, thing.key)
        params: Any = {
            "display_name": thing.fields["name"],
            "event_name": name,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
        }
        for meter in self._calls.pages(lambda c, p: c.v1.billing.meters.list(p), {"status": "active"}):
            if meter["event_name"] == name:
                return str(meter["id"])
        return str(self._calls.post(lambda c, o: c.v1.billing.meters.create(params, o), key)["id"])

    def _price(self, thing: Thing, ids: Ids, key: str) -> str:
        price = thing.price
        assert price is not None
        lookup = f"tk_{self._installation[:8]}:{thing.key}"
        wanted: Any = {"lookup_keys": [lookup], "limit": 1}
        found = self._calls.get(lambda c: c.v1.prices.list(wanted))["data"]
        if found and found[0]["metadata"].get("tollkeeper_fingerprint") == thing.fingerprint[:32]:
            if not found[0]["active"]:
                on: Any = {"active": True}
                self._calls.post(lambda c, o: c.v1.prices.update(found[0]["id"], on, o), f"{key}-again")
            return str(found[0]["id"])
        meter = None if price.meter is None else ids("meter", price.meter)
        params: Any = {
            "product": ids("product", thing.fields["plan"]),
            "nickname": thing.key,
            "lookup_key": lookup,
            "transfer_lookup_key": True,
            "metadata": {
                "tollkeeper_plan": thing.fields["plan"],
                "tollkeeper_plan_version": str(thing.fields["version"]),
                "tollkeeper_price": price.key,
                "tollkeeper_fingerprint": thing.fingerprint[:32],
            },
            **price_params(price, meter),
        }
        return str(self._calls.post(lambda c, o: c.v1.prices.create(params, o), key)["id"])

    def _portal(self, thing: Thing, id: str | None, key: str) -> str:
        """Plans are changed at our own pages: Stripe's portal cannot change a subscription with metered prices."""
        params: Any = {
            "business_profile": {"headline": thing.fields["name"]},
            "features": {
                "customer_update": {"enabled": True, "allowed_updates": ["email", "name", "address", "tax_id"]},
                "invoice_history": {"enabled": True},
                "payment_method_update": {"enabled": True},
                "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
            },
        }
        if id is not None:
            try:
                changed = self._calls.post(lambda c, o: c.v1.billing_portal.configurations.update(id, params, o), key)
                return str(changed["id"])
            except NotFound:
                pass
        params["metadata"] = {"tollkeeper_installation": self._installation[:8]}
        return str(
            self._calls.post(lambda c, o: c.v1.billing_portal.configurations.create(params, o), f"{key}-make")["id"]
        )


def _product(thing: Thing) -> dict[str, Any]:
    params: dict[str, Any] = {"name": thing.fields["name"], "metadata": {"tollkeeper_plan": thing.key}}
    if thing.fields["description"]:
        params["description"] = thing.fields["description"]
    return params
