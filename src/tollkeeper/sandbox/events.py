"""Events: a snapshot of an object at the moment something happened to it (https://docs.stripe.com/api/events), kept for 30 days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.render import render
from tollkeeper.sandbox.store import Object

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

KEPT_SECONDS = 30 * 86_400
_MOST_TYPES = 20


def make(world: World, type: str, row: Object, previous: dict[str, Any] | None) -> Object:
    """Keep the event and hand it to the webhooks. `previous`: the values before, of what changed."""
    from tollkeeper.sandbox.world import API_VERSION

    data: dict[str, Any] = {"object": render(world, row)}
    if previous is not None:
        data["previous_attributes"] = previous
    event: Object = {
        "id": world.ids.new("evt_1"),
        "object": "event",
        "api_version": API_VERSION,
        "created": world.now(row),
        "data": data,
        "livemode": False,
        "pending_webhooks": 0,
        "request": dict(world.request),
        "type": type,
    }
    world.store.save(event)
    world.webhooks.publish(event)
    _forget(world)
    return event


def _forget(world: World) -> None:
    """Drop the events that Stripe would no longer list; only the oldest few are looked at each time."""
    edge = world.now() - KEPT_SECONDS
    table = world.store.table("event")
    old = []
    for event in table.first(4):
        if event["created"] >= edge:
            break
        old.append(event)
    for event in old:
        world.store.remove(event)


@operation("GET", "/v1/events/{id}")
def retrieve(call: Call, id: str) -> Object:
    return call.world.require("event", id)


@operation("GET", "/v1/events")
def list_events(call: Call) -> Object:
    types = call.params.get("types")
    if types is not None and "type" in call.params:
        raise invalid("You may only specify one of these parameters: type, types.", "type", "parameters_exclusive")
    if types is not None and len(types) > _MOST_TYPES:
        raise invalid(f"You may specify up to {_MOST_TYPES} types.", "types")
    names = types if types is not None else ([call.params["type"]] if "type" in call.params else None)
    delivered = call.params.get("delivery_success")
    edge = call.world.now() - KEPT_SECONDS

    def fits(event: Object) -> bool:
        if event["created"] < edge or (names is not None and not any(matches(event["type"], name) for name in names)):
            return False
        return delivered is None or (event["pending_webhooks"] == 0) == delivered

    return page(call, "event", where=fits)


def matches(type: str, wanted: str) -> bool:
    """Whether a type is the wanted one; `*` stands for all, `invoice.*` for those of a kind."""
    return wanted in ("*", type) or (wanted.endswith(".*") and type.startswith(wanted[:-1]))
