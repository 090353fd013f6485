"""Test clocks (https://docs.stripe.com/api/test_clocks): a time of their own for the customers made on them."""

from __future__ import annotations

from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.world import World, due

KIND = "test_helpers.test_clock"
_KEPT_SECONDS = 30 * 86_400
_FARTHEST_SECONDS = 2 * 366 * 86_400


@operation("POST", "/v1/test_helpers/test_clocks")
def create(call: Call) -> Object:
    world, params = call.world, call.params
    now = world.now()
    clock: Object = {
        "id": world.ids.new("clock_1"),
        "object": KIND,
        "created": now,
        "deletes_after": now + _KEPT_SECONDS,
        "frozen_time": params["frozen_time"],
        "livemode": False,
        "name": params.get("name"),
        "status": "ready",
        "status_details": {},
    }
    if "customer" in params:
        world.require("customer", params["customer"], "customer")
        raise invalid("The sandbox puts a customer on a test clock only when the customer is made.", "customer")
    world.store.save(clock)
    world.emit("test_helpers.test_clock.created", clock)
    return clock


@operation("GET", "/v1/test_helpers/test_clocks/{test_clock}")
def retrieve(call: Call, id: str) -> Object:
    return call.world.require(KIND, id)


@operation("GET", "/v1/test_helpers/test_clocks")
def list_clocks(call: Call) -> Object:
    return page(call, KIND, ranges=())


@operation("POST", "/v1/test_helpers/test_clocks/{test_clock}/advance")
def advance(call: Call, id: str) -> Object:
    """Answered with the status "advancing"; by the next call the clock stands at its new time and everything has happened."""
    world = call.world
    clock, target = world.require(KIND, id), call.params["frozen_time"]
    if clock["status"] != "ready":
        raise ApiError(400, "The test clock is advancing.", code="testmode_charges_only", param="test_clock")
    if target <= clock["frozen_time"]:
        raise invalid("The new time must be after the current frozen_time.", "frozen_time")
    if target > clock["frozen_time"] + _FARTHEST_SECONDS:
        raise invalid("A test clock can advance by at most two years at once.", "frozen_time")
    details = {"advancing": {"target_frozen_time": target}}
    world.update(clock, {"status": "advancing", "status_details": details}, "test_helpers.test_clock.advancing")
    world.at(world.clock.now(), "test_clock", {"id": id})
    return clock


@due("test_clock")
def run(world: World, data: dict[str, str]) -> None:
    clock = world.store.get(KIND, data["id"])
    if clock is None or clock["status"] != "advancing":
        return
    world.run_test_clock(clock, clock["status_details"]["advancing"]["target_frozen_time"])
    world.update(clock, {"status": "ready", "status_details": {}}, "test_helpers.test_clock.ready")


@operation("DELETE", "/v1/test_helpers/test_clocks/{test_clock}")
def delete(call: Call, id: str) -> Object:
    """Deletes the clock with its customers."""
    world = call.world
    clock = world.require(KIND, id)
    world.tasks.cancel_clock(id)
    for customer in world.store.table("customer"):
        if customer["test_clock"] == id and not customer.get("deleted"):
            customer["deleted"] = True
            world.store.save(customer)
    world.emit("test_helpers.test_clock.deleted", clock)
    world.store.remove(clock)
    return {"id": id, "object": KIND, "deleted": True}
