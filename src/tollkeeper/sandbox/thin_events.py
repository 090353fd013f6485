"""Thin events and where they go: /v2/core/events and /v2/core/event_destinations (https://docs.stripe.com/event-destinations)."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

KIND = "v2.core.event"
DESTINATION = "v2.core.event_destination"
_PAGE = 20


def instant_text(seconds: float) -> str:
    """RFC 3339 with milliseconds, as /v2 shows instants."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instant_of(text: str, param: str) -> float:
    """Seconds since 1970 of an RFC 3339 instant. Raises ApiError 400."""
    found: datetime | None = None
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
    if found is None or found.tzinfo is None:
        raise invalid(f"Invalid timestamp: {text}", param)
    return found.timestamp()


def emit(world: World, type: str, data: dict[str, Any], related: tuple[str, str, str] | None = None) -> Object:
    """Make a thin event and send it. `related`: id, kind and address of the object it is about."""
    event: Object = {
        "id": world.ids.new("evt_test_"),
        "object": KIND,
        "changes": None,
        "context": None,
        "created": instant_text(world.clock.now()),
        "data": data,
        "livemode": False,
        "reason": None,
        "snapshot_event": None,
        "type": type,
    }
    if related is not None:
        event["related_object"] = {"id": related[0], "type": related[1], "url": related[2]}
    world.store.save(event)
    world.webhooks.publish(event)
    return event


def notification(event: Object) -> dict[str, Any]:
    """What is delivered of a thin event: everything but its data."""
    left_out = ("data", "changes", "snapshot_event")
    return {name: value for name, value in event.items() if name not in left_out and not name.startswith("_")}


@operation("GET", "/v2/core/events/{id}")
def retrieve(call: Call, id: str) -> Object:
    return call.world.require(KIND, id)


@operation("GET", "/v2/core/events")
def list_events(call: Call) -> Object:
    params = call.params
    types, related, created = params.get("types"), params.get("object_id"), params.get("created", {})
    bounds = {name: instant_of(text, f"created[{name}]") for name, text in created.items()}

    def fits(event: Object) -> bool:
        if types is not None and event["type"] not in types:
            return False
        if related is not None and event.get("related_object", {}).get("id") != related:
            return False
        at = instant_of(event["created"], "created")
        return all(
            {"gt": at > bound, "gte": at >= bound, "lt": at < bound, "lte": at <= bound}[name]
            for name, bound in bounds.items()
        )

    return pages(call, [event for event in call.world.store.table(KIND).newest() if fits(event)])


def pages(call: Call, rows: list[Object]) -> Object:
    """A list of /v2: the next page is an address. `page` is the number of rows before it."""
    limit, start = call.params.get("limit", _PAGE), int(call.params.get("page") or 0)
    if not 1 <= limit <= 100:
        raise invalid("limit must be between 1 and 100", "limit")

    def url(first: int) -> str:
        return f"{call.path}?{urlencode([*_written(call.params), ('limit', limit), ('page', first)])}"

    end = start + limit
    return {
        "data": rows[start:end],
        "next_page_url": url(end) if end < len(rows) else None,
        "previous_page_url": url(max(0, start - limit)) if start else None,
    }


def _written(params: dict[str, Any]) -> list[tuple[str, Any]]:
    """The filters of a list, as its next page's address has them."""
    found: list[tuple[str, Any]] = []
    for name, value in params.items():
        if isinstance(value, dict):
            found += [(f"{name}[{key}]", one) for key, one in value.items()]
        elif isinstance(value, list):
            found += [(f"{name}[{n}]", one) for n, one in enumerate(value)]
        elif name not in ("limit", "page"):
            found.append((name, value))
    return found


@operation("POST", "/v2/core/event_destinations")
def create_destination(call: Call) -> Object:
    params = call.params
    if params["type"] != "webhook_endpoint" or "url" not in params.get("webhook_endpoint", {}):
        raise invalid("The sandbox sends to webhook endpoints only: webhook_endpoint[url] is required.", "type")
    return _shown(call, make_destination(call.world, params), secret=True)


def make_destination(world: World, params: dict[str, Any]) -> Object:
    """A new destination, with its secret as `_secret` and its address as `_url`."""
    now = instant_text(world.clock.now())
    destination: Object = {
        "id": world.ids.new("ed_test_"),
        "object": DESTINATION,
        "created": now,
        "description": params.get("description", ""),
        "enabled_events": params["enabled_events"],
        "event_payload": params["event_payload"],
        "events_from": params.get("events_from", ["self"]),
        "livemode": False,
        "metadata": merged(params.get("metadata")),
        "name": params["name"],
        "snapshot_api_version": params.get("snapshot_api_version"),
        "status": "enabled",
        "status_details": None,
        "type": "webhook_endpoint",
        "updated": now,
        "webhook_endpoint": None,
        "_url": params["webhook_endpoint"]["url"],
        "_secret": world.ids.new("whsec_", 32),
    }
    world.store.save(destination)
    return destination


def _shown(call: Call, destination: Object, *, secret: bool = False) -> Object:
    include = call.params.get("include", [])
    endpoint = {
        "signing_secret": destination["_secret"] if secret and "webhook_endpoint.signing_secret" in include else None,
        "url": destination["_url"] if "webhook_endpoint.url" in include else None,
    }
    return {**destination, "webhook_endpoint": endpoint}


@operation("GET", "/v2/core/event_destinations/{id}")
def retrieve_destination(call: Call, id: str) -> Object:
    return _shown(call, call.world.require(DESTINATION, id))


@operation("GET", "/v2/core/event_destinations")
def list_destinations(call: Call) -> Object:
    return pages(call, [_shown(call, row) for row in call.world.store.table(DESTINATION).newest()])


@operation("POST", "/v2/core/event_destinations/{id}")
def update_destination(call: Call, id: str) -> Object:
    destination, params = call.world.require(DESTINATION, id), call.params
    changes: dict[str, Any] = {
        name: params[name] for name in ("description", "enabled_events", "name") if name in params
    }
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], destination["metadata"])
    if "url" in params.get("webhook_endpoint", {}):
        changes["_url"] = params["webhook_endpoint"]["url"]
    call.world.update(destination, {**changes, "updated": instant_text(call.world.clock.now())})
    return _shown(call, destination)


@operation("POST", "/v2/core/event_destinations/{id}/disable")
def disable_destination(call: Call, id: str) -> Object:
    destination = call.world.require(DESTINATION, id)
    call.world.update(destination, {"status": "disabled", "status_details": {"disabled": {"reason": "user"}}})
    return _shown(call, destination)


@operation("POST", "/v2/core/event_destinations/{id}/enable")
def enable_destination(call: Call, id: str) -> Object:
    destination = call.world.require(DESTINATION, id)
    call.world.update(destination, {"status": "enabled", "status_details": None})
    return _shown(call, destination)


@operation("POST", "/v2/core/event_destinations/{id}/ping")
def ping_destination(call: Call, id: str) -> Object:
    call.world.require(DESTINATION, id)
    related = (id, DESTINATION, f"/v2/core/event_destinations/{id}")
    return emit(call.world, "v2.core.event_destination.ping", {}, related)


@operation("DELETE", "/v2/core/event_destinations/{id}")
def delete_destination(call: Call, id: str) -> Object:
    call.world.store.remove(call.world.require(DESTINATION, id))
    return {"id": id, "object": DESTINATION}
