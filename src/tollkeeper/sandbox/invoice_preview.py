"""What an invoice would be: the next of a subscription as it is, or with changes (POST /v1/invoices/create_preview)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.discounts import in_force
from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.invoice_items import make_item, pending
from tollkeeper.sandbox.invoice_object import blank
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.schedules import phase_items
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.subscription_api import with_items
from tollkeeper.sandbox.subscription_change import Change, plan, set_cancel
from tollkeeper.sandbox.subscription_items import full_period, items_of, licensed_source, metered, place, set_items
from tollkeeper.sandbox.subscription_items import make_item as make_subscription_item
from tollkeeper.sandbox.subscription_life import credit, unbilled, waiting_items
from tollkeeper.sandbox.subscriptions import ENDED, invoice_for
from tollkeeper.sandbox.support import only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_DETAILS = (
    "billing_cycle_anchor", "billing_mode", "cancel_at", "cancel_at_period_end", "cancel_now", "items", "metadata", "proration_behavior",
    "proration_date", "trial_end",
)  # fmt: skip


def upcoming(
    world: World, subscription: Object, prorations: list[Object] | None = None, schedule: Object | None = None
) -> Object:
    """The invoice at the end of the running period, with the usage counted so far; with a schedule, that of its next phase."""
    now = world.now(subscription)
    end = min(item["current_period_end"] for item in items_of(subscription))
    cancel_at = subscription["cancel_at"]
    last = cancel_at is not None and cancel_at <= end
    if last:
        end = cancel_at
    ended = [item for item in items_of(subscription) if item["current_period_end"] <= end or last]
    trial = subscription["status"] == "trialing"
    sources = waiting_items(world, subscription)
    sources += [] if trial else unbilled(world, subscription, ended, end)
    ahead = copy.deepcopy(subscription)
    phase = next((one for one in (schedule or {"phases": ()})["phases"] if one["start_date"] == end), None)
    if phase is not None:
        set_items(ahead, phase_items(world, ahead, phase, end))
    for item in [] if last else items_of(ahead):
        if (phase is not None or item["current_period_end"] <= end) and not metered(item["price"]):
            place(item, *full_period(item, ahead["billing_cycle_anchor"], end))
            sources.append(licensed_source(ahead, item))
    start = min(item["current_period_start"] for item in items_of(subscription))
    lasting = {**subscription, "discounts": in_force(world, subscription["discounts"], end)}
    invoice = invoice_for(world, lasting, "upcoming", sources, start, end)
    invoice["created"] = end
    with_items(world, invoice, prorations or [])
    invoice["next_payment_attempt"] = end + 3600 if now < end else now
    return invoice


def _at_once(world: World, planned: Change, before: Object) -> Object:
    now = world.now(before)
    start = min(item["current_period_start"] for item in items_of(before))
    sources = waiting_items(world, before) + planned.sources
    invoice = invoice_for(world, planned.subscription, "upcoming", sources, start, now)
    with_items(world, invoice, planned.prorations)
    return invoice


def _cancelled(world: World, subscription: Object, details: dict[str, Any]) -> Object:
    now = world.now(subscription)
    after = copy.deepcopy(subscription)
    prorations = []
    if details.get("proration_behavior", "create_prorations") != "none":
        for item in items_of(after):
            if not metered(item["price"]):
                prorations += credit(world, after, item, details.get("proration_date", now), kept=False)
    usage = [] if after["status"] == "trialing" else unbilled(world, after, items_of(after), now)
    start = min(item["current_period_start"] for item in items_of(after))
    invoice = invoice_for(world, after, "upcoming", waiting_items(world, after) + usage, start, now)
    with_items(world, invoice, prorations)
    return invoice


@operation("POST", "/v1/invoices/create_preview")
def create_preview(call: Call) -> Object:
    params, world = call.params, call.world
    only(
        params,
        (
            "automatic_tax",
            "currency",
            "customer",
            "invoice_items",
            "preview_mode",
            "schedule",
            "subscription",
            "subscription_details",
        ),
    )
    details = params.get("subscription_details") or {}
    only(details, _DETAILS)
    if params.get("preview_mode", "next") != "next":
        raise ApiError(
            400, "The sandbox previews the next invoice only.", code="sandbox_unsupported", param="preview_mode"
        )
    if "schedule" in params:
        invoice = _of_schedule(world, params)
    elif "subscription" in params:
        invoice = _of_subscription(world, params, details)
    else:
        invoice = _of_customer(world, params, details)
    extra = [_extra(world, invoice, one) for one in params.get("invoice_items") or ()]
    if extra:
        with_items(world, invoice, extra)
    invoice["id"] = world.ids.new("upcoming_in_1")
    invoice["lines"]["url"] = f"/v1/invoices/{invoice['id']}/lines"
    invoice["lines"]["data"], invoice["lines"]["has_more"] = invoice["_lines"], False
    return invoice


def _of_schedule(world: World, params: dict[str, Any]) -> Object:
    for other in ("subscription", "subscription_details"):
        if other in params:
            raise invalid(f"You may only specify one of these parameters: schedule, {other}.", other)
    schedule = world.require("subscription_schedule", params["schedule"], "schedule")
    if schedule["subscription"] is None:
        raise ApiError(404, f"No upcoming invoices for schedule: '{schedule['id']}'", code="invoice_upcoming_none")
    subscription = world.require("subscription", schedule["subscription"])
    return upcoming(world, copy.deepcopy(subscription), schedule=schedule)


def _of_subscription(world: World, params: dict[str, Any], details: dict[str, Any]) -> Object:
    subscription = world.require("subscription", params["subscription"], "subscription")
    if params.get("customer", subscription["customer"]) != subscription["customer"]:
        raise invalid("The subscription belongs to another customer.", "customer")
    if subscription["status"] in ENDED:
        raise ApiError(
            404, "No upcoming invoices for customer: '" + subscription["customer"] + "'", code="invoice_upcoming_none"
        )
    if details.get("cancel_now"):
        return _cancelled(world, subscription, details)
    if {"items", "billing_cycle_anchor", "trial_end"} & set(details):
        planned = plan(world, subscription, details, kept=False)
        if planned.at_once:
            return _at_once(world, planned, subscription)
        return upcoming(world, planned.subscription, planned.prorations)
    after = copy.deepcopy(subscription)
    if "cancel_at" in details or "cancel_at_period_end" in details:
        set_cancel(world, after, details)
    return upcoming(world, after)


def _of_customer(world: World, params: dict[str, Any], details: dict[str, Any]) -> Object:
    if "customer" not in params:
        raise invalid("You must specify `customer` or `subscription`.", "customer", "parameter_missing")
    customer = world.require("customer", params["customer"], "customer")
    if not details.get("items"):
        currency = str(params.get("currency") or customer.get("currency") or "")
        rows = pending(world, customer["id"], currency, None)
        if not rows:
            raise ApiError(404, f"No upcoming invoices for customer: '{customer['id']}'", code="invoice_upcoming_none")
        invoice = blank(
            world, customer, currency, "upcoming", _sources=[{"kind": "item", "id": row["id"]} for row in rows]
        )
        with_items(world, invoice, [])
        return invoice
    now = world.now(customer)
    items: list[Object] = []
    for number, one in enumerate(details["items"]):
        expected = items[0]["price"]["currency"] if items else params.get("currency")
        items.append(
            make_subscription_item(world, "sub_preview", one, f"subscription_details[items][{number}]", expected, now)
        )
    trial = details.get("trial_end")
    shell: Object = {
        "id": "sub_preview", "customer": customer["id"], "currency": items[0]["price"]["currency"],
        "metadata": details.get("metadata") or {}, "discounts": [],
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None}, "default_tax_rates": [],
        "collection_method": "charge_automatically", "days_until_due": None,
    }  # fmt: skip
    set_items(shell, items)
    sources = []
    for item in items:
        place(item, now, trial if isinstance(trial, int) else full_period(item, now, now)[1])
        if not metered(item["price"]):
            sources.append(licensed_source(shell, item, trial=isinstance(trial, int)))
    invoice = invoice_for(world, shell, "upcoming", sources, now, now)
    with_items(world, invoice, [])
    return invoice


def _extra(world: World, invoice: Object, given: dict[str, Any]) -> Object:
    only(given, ("amount", "currency", "description", "discountable", "metadata", "period"))
    period = given.get("period") or {}
    return make_item(
        world, invoice["customer"], invoice["currency"], given.get("amount", 0), description=given.get("description"),
        start=period.get("start"), end=period.get("end"), discountable=given.get("discountable"), kept=False,
    )  # fmt: skip
