"""Webhook endpoints (https://docs.stripe.com/api/webhook_endpoints)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

KIND = "webhook_endpoint"


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid("Not a valid URL", "url", "url_invalid")


@operation("POST", "/v1/webhook_endpoints")
def create(call: Call) -> Object:
    _check_url(call.params["url"])
    endpoint = make(call.world, call.params)
    return {**endpoint, "secret": endpoint["_secret"]}  # shown this once


def make(world: World, params: dict[str, Any]) -> Object:
    """A new endpoint, with its secret as `_secret`."""
    endpoint: Object = {
        "id": world.ids.new("we_1"),
        "object": KIND,
        "api_version": params.get("api_version"),
        "application": None,
        "created": world.now(),
        "description": params.get("description") or None,
        "enabled_events": params["enabled_events"],
        "livemode": False,
        "metadata": merged(params.get("metadata")),
        "status": "enabled",
        "url": params["url"],
        "_secret": world.ids.new("whsec_", 32),
    }
    world.store.save(endpoint)
    return endpoint


@operation("GET", "/v1/webhook_endpoints/{webhook_endpoint}")
def retrieve(call: Call, id: str) -> Object:
    return call.world.require(KIND, id)


@operation("POST", "/v1/webhook_endpoints/{webhook_endpoint}")
def update(call: Call, id: str) -> Object:
    endpoint, params = call.world.require(KIND, id), call.params
    changes: dict[str, Any] = {name: params[name] for name in ("enabled_events", "url") if name in params}
    if "url" in changes:
        _check_url(changes["url"])
    if "description" in params:
        changes["description"] = params["description"] or None
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], endpoint["metadata"])
    if "disabled" in params:
        changes["status"] = "disabled" if params["disabled"] else "enabled"
    call.world.update(endpoint, changes)
    return endpoint


@operation("GET", "/v1/webhook_endpoints")
def list_endpoints(call: Call) -> Object:
    return page(call, KIND)


@operation("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}")
def delete(call: Call, id: str) -> Object:
    call.world.store.remove(call.world.require(KIND, id))
    return {"id": id, "object": KIND, "deleted": True}
