"""Subscription schedules, as far as a change of plan at the end of a period needs them: phases that begin where a period begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.billing_periods import add
from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.subscription_items import items_of, make_item, metered, set_items
from tollkeeper.sandbox.support import only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World


def _phase(world: World, items: list[dict[str, Any]], start: int, end: int, proration: str) -> Object:
    return {
        "add_invoice_items": [],
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": None,
        "billing_thresholds": None,
        "collection_method": None,
        "currency": items[0]["_currency"],
        "default_payment_method": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "end_date": end,
        "invoice_settings": None,
        "items": [
            {
                "billing_thresholds": None,
                "discounts": [],
                "metadata": one.get("metadata") or {},
                "plan": one["price"],
                "price": one["price"],
                **({"quantity": one["quantity"]} if "quantity" in one else {}),
                "tax_rates": [],
            }
            for one in items
        ],
        "metadata": {},
        "on_behalf_of": None,
        "proration_behavior": proration,
        "start_date": start,
        "transfer_data": None,
        "trial_end": None,
    }


def _running(subscription: Object) -> list[dict[str, Any]]:
    return [
        {
            "price": item["price"]["id"],
            "_currency": subscription["currency"],
            **({} if metered(item["price"]) else {"quantity": item["quantity"]}),
        }
        for item in items_of(subscription)
    ]


@operation("POST", "/v1/subscription_schedules")
def create(call: Call) -> Object:
    params, world = call.params, call.world
    only(params, ("from_subscription", "metadata"))
    if "from_subscription" not in params:
        raise invalid("The sandbox makes schedules from a subscription.", "from_subscription", "parameter_missing")
    subscription = world.require("subscription", params["from_subscription"], "from_subscription")
    if subscription["schedule"]:
        raise invalid(
            f"You cannot migrate a subscription that is already attached to a schedule: `{subscription['schedule']}`.",
            "from_subscription",
        )
    if subscription["status"] not in ("active", "trialing", "past_due"):
        raise invalid(
            "You cannot make a schedule of a subscription that is " + subscription["status"] + ".", "from_subscription"
        )
    items = items_of(subscription)
    start = min(item["current_period_start"] for item in items)
    until = max(item["current_period_end"] for item in items)
    row = world.store.save(
        {
            "id": world.ids.new("sub_sched_1"),
            "object": "subscription_schedule",
            "application": None,
            "billing_mode": subscription["billing_mode"],
            "canceled_at": None,
            "completed_at": None,
            "created": world.now(subscription),
            "current_phase": {"end_date": until, "start_date": start},
            "customer": subscription["customer"],
            "customer_account": None,
            "default_settings": {
                "application_fee_percent": None,
                "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
                "billing_cycle_anchor": "automatic",
                "billing_thresholds": None,
                "collection_method": subscription["collection_method"],
                "default_payment_method": None,
                "description": None,
                "invoice_settings": {"account_tax_ids": None, "days_until_due": None, "issuer": {"type": "self"}},
                "on_behalf_of": None,
                "transfer_data": None,
            },
            "end_behavior": "release",
            "livemode": False,
            "metadata": merged(params.get("metadata")),
            "pause_schedules": [],
            "phases": [_phase(world, _running(subscription), start, until, "create_prorations")],
            "released_at": None,
            "released_subscription": None,
            "status": "active",
            "subscription": subscription["id"],
            "test_clock": subscription["test_clock"],
        }
    )
    subscription["schedule"] = row["id"]
    world.store.save(subscription)
    world.emit("subscription_schedule.created", row)
    return row


def _active(world: World, id: str) -> tuple[Object, Object]:
    row = world.require("subscription_schedule", id)
    if row["status"] != "active":
        raise invalid(f"You cannot update a subscription schedule that is currently in the `{row['status']}` status.")
    return row, world.require("subscription", row["subscription"])


@operation("POST", "/v1/subscription_schedules/{schedule}")
def update(call: Call, schedule: str) -> Object:
    params, world = call.params, call.world
    only(params, ("end_behavior", "metadata", "phases", "proration_behavior"))
    row, subscription = _active(world, schedule)
    changes: dict[str, Any] = {name: params[name] for name in ("end_behavior",) if name in params}
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], row["metadata"])
    if "phases" in params:
        changes["phases"] = _phases(world, subscription, params["phases"])
    world.update(row, changes, "subscription_schedule.updated")
    return row


def _phases(world: World, subscription: Object, given: list[dict[str, Any]]) -> list[Object]:
    items = items_of(subscription)
    boundary = max(item["current_period_end"] for item in items)
    if min(item["current_period_end"] for item in items) != boundary:
        raise _unserved("a schedule for a subscription with periods of several lengths", "phases")
    found: list[Object] = []
    at = min(item["current_period_start"] for item in items)
    for number, phase in enumerate(given):
        param = f"phases[{number}]"
        only(phase, ("duration", "end_date", "items", "proration_behavior", "start_date"))
        start = phase.get("start_date", at)
        if start != at or (number == 1 and start != boundary):
            raise _unserved("a phase that begins elsewhere than at a period's end", f"{param}[start_date]")
        rows = []
        for place, one in enumerate(phase["items"]):
            made = make_item(
                world,
                subscription["id"],
                {k: v for k, v in one.items() if k in ("price", "quantity")},
                f"{param}[items][{place}]",
                subscription["currency"],
                at,
            )
            rows.append(
                {
                    **one,
                    "price": made["price"]["id"],
                    "_currency": subscription["currency"],
                    **({"quantity": made["quantity"]} if "quantity" in made else {}),
                }
            )
            recurring = made["price"]["recurring"]
        if "duration" in phase and "end_date" in phase:
            raise invalid("You may only specify one of these parameters: duration, end_date.", f"{param}[duration]")
        length = phase.get("duration") or recurring
        end = phase.get("end_date") or (
            boundary
            if number == 0 and "duration" not in phase
            else add(start, length["interval"], length.get("interval_count", 1))
        )
        found.append(_phase(world, rows, start, end, phase.get("proration_behavior", "create_prorations")))
        at = end
    return found


def _unserved(what: str, param: str) -> ApiError:
    return ApiError(400, f"The sandbox does not do this of Stripe's: {what}", code="sandbox_unsupported", param=param)


def next_phase(world: World, subscription: Object, now: int) -> None:
    """Put the items of the phase that begins now on the subscription, at the end of its period; release it after the last."""
    row = world.store.get("subscription_schedule", subscription["schedule"] or "")
    if row is None:
        return
    phase = next((one for one in row["phases"] if one["start_date"] == now), None)
    if phase is None:
        if row["phases"][-1]["end_date"] <= now:
            release(world, subscription, "released")
        return
    old = {item["id"] for item in items_of(subscription)}
    items = phase_items(world, subscription, phase, now)
    for item in items:
        if item["id"] not in old:
            world.store.save({"object": "_subscription_item", "id": item["id"], "subscription": subscription["id"]})
    set_items(subscription, items)
    world.update(
        row, {"current_phase": {"end_date": phase["end_date"], "start_date": now}}, "subscription_schedule.updated"
    )


def phase_items(world: World, subscription: Object, phase: Object, now: int) -> list[Object]:
    """The items of a phase: those that the subscription has go on, the others are made."""
    old = {item["price"]["id"]: item for item in items_of(subscription)}
    items = []
    for number, one in enumerate(phase["items"]):
        held = old.get(one["price"])
        if held is None:
            given = {name: one[name] for name in ("price", "quantity", "metadata") if name in one}
            held = make_item(world, subscription["id"], given, f"items[{number}]", subscription["currency"], now)
        elif "quantity" in one:
            held["quantity"] = one["quantity"]
        items.append(held)
    return items


def release(world: World, subscription: Object, status: str) -> None:
    """The schedule lets the subscription go on as it is."""
    row = world.require("subscription_schedule", subscription["schedule"])
    now = world.now(subscription)
    row.update(status=status, current_phase=None)
    if status == "released":
        row.update(released_at=now, released_subscription=subscription["id"], subscription=None)
    else:
        row["canceled_at"] = now
    world.store.save(row)
    subscription["schedule"] = None
    world.store.save(subscription)
    world.emit(f"subscription_schedule.{status}", row)


@operation("POST", "/v1/subscription_schedules/{schedule}/release")
def release_it(call: Call, schedule: str) -> Object:
    row, subscription = _active(call.world, schedule)
    release(call.world, subscription, "released")
    return row


@operation("POST", "/v1/subscription_schedules/{schedule}/cancel")
def cancel(call: Call, schedule: str) -> Object:
    from tollkeeper.sandbox.subscription_life import end

    row, subscription = _active(call.world, schedule)
    now = call.world.now(subscription)
    end(
        call.world, subscription, now, final=call.params.get("invoice_now", True), reason="cancellation_requested",
        prorate=call.params.get("prorate", True), at_once=True,
    )  # fmt: skip
    return row


@operation("GET", "/v1/subscription_schedules/{schedule}")
def retrieve(call: Call, schedule: str) -> Object:
    return call.world.require("subscription_schedule", schedule)


@operation("GET", "/v1/subscription_schedules")
def list_schedules(call: Call) -> Object:
    return page(call, "subscription_schedule", equal=("customer",))
