"""Billing meters and their summaries (https://docs.stripe.com/api/billing/meter)."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from tollkeeper.sandbox.errors import invalid
from tollkeeper.sandbox.lists import cut_rows, page
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object

KIND = "billing.meter"
MINUTE, HOUR, DAY = 60, 3_600, 86_400
_LONGEST_NAME = 100


@operation("POST", "/v1/billing/meters")
def create(call: Call) -> Object:
    world, params = call.world, call.params
    name = params["event_name"]
    if len(name) > _LONGEST_NAME:
        raise invalid(f"Invalid string: must be at most {_LONGEST_NAME} characters", "event_name")
    for other in world.store.table(KIND):
        if other["event_name"] == name and other["status"] == "active":
            raise invalid(
                f"An active meter with the event name `{name}` already exists: {other['id']}.",
                "event_name",
                "resource_already_exists",
            )
    mapping = params.get("customer_mapping", {"event_payload_key": "stripe_customer_id", "type": "by_id"})
    now = world.now()
    meter: Object = {
        "id": world.ids.new("mtr_test_"),
        "object": KIND,
        "created": now,
        "customer_mapping": mapping,
        "default_aggregation": params["default_aggregation"],
        "display_name": params["display_name"],
        "event_name": name,
        "event_time_window": params.get("event_time_window"),
        "livemode": False,
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": now,
        "value_settings": params.get("value_settings", {"event_payload_key": "value"}),
    }
    world.store.save(meter)
    world.emit("billing.meter.created", meter)
    return meter


@operation("GET", "/v1/billing/meters/{id}")
def retrieve(call: Call, id: str) -> Object:
    return call.world.require(KIND, id)


@operation("POST", "/v1/billing/meters/{id}")
def update(call: Call, id: str) -> Object:
    meter = call.world.require(KIND, id)
    if call.params.get("display_name", meter["display_name"]) != meter["display_name"]:
        changes = {"display_name": call.params["display_name"], "updated": call.world.now()}
        call.world.update(meter, changes, "billing.meter.updated")
    return meter


@operation("GET", "/v1/billing/meters")
def list_meters(call: Call) -> Object:
    return page(call, KIND, equal=("status",))


@operation("POST", "/v1/billing/meters/{id}/deactivate")
def deactivate(call: Call, id: str) -> Object:
    meter = call.world.require(KIND, id)
    if meter["status"] == "inactive":
        raise invalid("This meter is already inactive.")
    now = call.world.now()
    changes = {"status": "inactive", "status_transitions": {"deactivated_at": now}, "updated": now}
    call.world.update(meter, changes, "billing.meter.deactivated")
    return meter


@operation("POST", "/v1/billing/meters/{id}/reactivate")
def reactivate(call: Call, id: str) -> Object:
    world = call.world
    meter = world.require(KIND, id)
    if meter["status"] == "active":
        raise invalid("This meter is already active.")
    if any(row["event_name"] == meter["event_name"] and row["status"] == "active" for row in world.store.table(KIND)):
        raise invalid(f"An active meter with the event name `{meter['event_name']}` already exists.")
    changes = {"status": "active", "status_transitions": {"deactivated_at": None}, "updated": world.now()}
    world.update(meter, changes, "billing.meter.reactivated")
    return meter


def number(value: Decimal) -> int | float:
    """A decimal as a JSON number: whole ones exactly."""
    return int(value) if value == value.to_integral_value() else float(value)


@operation("GET", "/v1/billing/meters/{id}/event_summaries")
def list_summaries(call: Call, id: str) -> Object:
    world, params = call.world, call.params
    meter = world.require(KIND, id)
    customer = world.require("customer", params["customer"], "customer")["id"]
    start, end = params["start_time"], params["end_time"]
    grouping = params.get("value_grouping_window")
    step = {None: MINUTE, "hour": HOUR, "day": DAY}[grouping]
    for name, instant in (("start_time", start), ("end_time", end)):
        if instant % step:
            unit = {None: "minute", "hour": "hour", "day": "UTC day"}[grouping]
            raise invalid(f"{name} must be aligned with {unit} boundaries.", name)
    if start >= end:
        raise invalid("end_time must be after start_time.", "end_time")
    formula = meter["default_aggregation"]["formula"]

    def summary(first: int, after: int) -> Object:
        value = world.meters.usage(id, customer, first, after).by(formula)
        return _summary(meter, customer, first, after, value)

    if grouping is None:
        return cut_rows(call, [summary(start, end)])
    windows = sorted({math.floor(hour / step) * step for hour in world.meters.hours(id, customer, start, end)})
    return cut_rows(call, [summary(first, first + step) for first in reversed(windows)])


def _summary(meter: Object, customer: str, start: int, end: int, value: Decimal) -> dict[str, Any]:
    return {
        "id": f"mtrsum_test_{meter['id'][9:]}_{customer[4:]}_{start}_{end}",
        "object": "billing.meter_event_summary",
        "aggregated_value": number(value),
        "end_time": end,
        "livemode": False,
        "meter": meter["id"],
        "start_time": start,
    }
