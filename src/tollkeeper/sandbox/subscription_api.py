"""The operations of subscriptions and their items (https://docs.stripe.com/api/subscriptions)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.cards import card_error, default_method, find_method
from tollkeeper.sandbox.customers import ON_DELETE
from tollkeeper.sandbox.discounts import redeem_all
from tollkeeper.sandbox.errors import invalid, no_such
from tollkeeper.sandbox.invoice_lines import refresh
from tollkeeper.sandbox.invoices import collect, finalize, void
from tollkeeper.sandbox.lists import cut_rows, page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.payments import outcome
from tollkeeper.sandbox.render import lazy
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.subscription_change import Change, plan, set_cancel
from tollkeeper.sandbox.subscription_items import full_period, items_of, licensed_source, metered, place
from tollkeeper.sandbox.subscription_life import (
    end,
    hold_back,
    make_invoice,
    plan_next,
    set_status,
    snapshot,
    tell,
    waiting_items,
)
from tollkeeper.sandbox.subscriptions import ENDED, add_item, invoice_for, make
from tollkeeper.sandbox.support import listed, only, unset

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_CREATE = (
    "add_invoice_items", "automatic_tax", "billing_cycle_anchor", "billing_cycle_anchor_config", "billing_mode", "cancel_at",
    "cancel_at_period_end", "collection_method", "currency", "customer", "days_until_due", "default_payment_method", "default_tax_rates",
    "description", "discounts", "items", "metadata", "off_session", "payment_behavior", "payment_settings", "proration_behavior",
    "trial_end", "trial_period_days", "trial_settings",
)  # fmt: skip
_UPDATE = (
    "add_invoice_items", "automatic_tax", "billing_cycle_anchor", "cancel_at", "cancel_at_period_end", "cancellation_details",
    "collection_method", "days_until_due", "default_payment_method", "default_tax_rates", "description", "discounts", "items", "metadata",
    "off_session", "pause_collection", "payment_behavior", "payment_settings", "proration_behavior", "proration_date", "trial_end",
    "trial_settings",
)  # fmt: skip

lazy(
    "customer",
    "subscriptions",
    lambda world, row: listed(
        f"/v1/customers/{row['id']}/subscriptions",
        [
            one
            for one in world.store.table("subscription").of("customer", row["id"])[::-1]
            if one["status"] not in ENDED
        ],
    ),
)


def _end_all(world: World, customer: Object) -> None:
    """A customer that is deleted has no subscription any more."""
    for row in world.store.table("subscription").of("customer", customer["id"]):
        if row["status"] not in ENDED:
            end(world, row, world.now(row), final=False, reason="cancellation_requested")


ON_DELETE.append(_end_all)


@operation("POST", "/v1/subscriptions")
def create(call: Call) -> Object:
    only(call.params, _CREATE)
    if "customer" not in call.params:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    customer = call.world.require("customer", call.params["customer"], "customer")
    return make(call.world, customer, call.params)


@operation("GET", "/v1/subscriptions/{subscription_exposed_id}")
def retrieve(call: Call, subscription_exposed_id: str) -> Object:
    return call.world.require("subscription", subscription_exposed_id)


@operation("GET", "/v1/subscriptions")
def list_subscriptions(call: Call) -> Object:
    status, price = call.params.get("status"), call.params.get("price")

    def fits(row: Object) -> bool:
        if price is not None and all(item["price"]["id"] != price for item in items_of(row)):
            return False
        if status is None:
            return bool(row["status"] != "canceled")
        return bool(status in ("all", row["status"]) or (status == "ended" and row["status"] in ENDED))

    return page(call, "subscription", equal=("customer", "collection_method"), where=fits)


@operation("POST", "/v1/subscriptions/{subscription_exposed_id}")
def update(call: Call, subscription_exposed_id: str) -> Object:
    only(call.params, _UPDATE)
    return change(call.world, call.world.require("subscription", subscription_exposed_id), call.params)


def change(world: World, subscription: Object, params: dict[str, Any]) -> Object:
    """Change a subscription by the parameters of its update. Raises ApiError 400, or 402 when a payment that must not fail would."""
    if subscription["status"] in ENDED:
        allowed = {"metadata", "cancellation_details"}
        if set(params) - allowed:
            raise invalid(
                "A canceled subscription can only update its cancellation_details and metadata.",
                None,
                "resource_missing",
            )
    if params.get("payment_behavior") == "pending_if_incomplete":
        raise invalid("The sandbox has no pending updates.", "payment_behavior", "sandbox_unsupported")
    before = snapshot(world, subscription)
    if {"items", "billing_cycle_anchor", "trial_end"} & set(params):
        planned = plan(world, subscription, params, kept=False)
        _check(world, subscription, planned, params)
        planned = plan(world, subscription, params, kept=True)
    else:
        planned = Change(subscription)
    after = planned.subscription
    _plain(world, after, params)
    if after is not subscription:
        sequence = subscription["_sequence"]
        subscription.clear()
        subscription.update(after, _sequence=sequence)
    for item in items_of(subscription):
        if world.store.get("_subscription_item", item["id"]) is None:
            world.store.save({"object": "_subscription_item", "id": item["id"], "subscription": subscription["id"]})
    for number, one in enumerate(params.get("add_invoice_items") or ()):
        add_item(world, subscription, one, f"add_invoice_items[{number}]")
    invoice = None
    if planned.at_once:
        sources = waiting_items(world, subscription) + planned.sources
        if sources:
            now = world.now(subscription)
            invoice = make_invoice(
                world,
                subscription,
                "subscription_update",
                sources,
                before["items"]["data"][0]["current_period_start"],
                now,
            )
    plan_next(world, subscription)
    tell(world, subscription, before)
    if invoice is not None and subscription["pause_collection"]:
        hold_back(world, subscription, invoice)
    elif invoice is not None:
        finalize(world, invoice)
        collect(world, invoice)
    return subscription


def _check(world: World, subscription: Object, planned: Change, params: dict[str, Any]) -> None:
    """A change whose payment must not fail is not made when it would."""
    if params.get("payment_behavior") != "error_if_incomplete" or not planned.at_once:
        return
    invoice = _draft(world, planned, waiting_items(world, subscription))
    method = default_method(world, subscription["customer"], subscription)
    if invoice["amount_due"]:
        came = "generic_decline" if method is None else outcome(method, off_session=True)
        if came != "succeeded":
            raise card_error("authentication_required" if came == "requires_action" else came)


def _draft(world: World, planned: Change, waiting: list[dict[str, Any]]) -> Object:
    """The invoice that a planned change would make at once."""
    now = world.now(planned.subscription)
    invoice = invoice_for(world, planned.subscription, "subscription_update", [*waiting, *planned.sources], now, now)
    with_items(world, invoice, planned.prorations)
    return invoice


def with_items(world: World, invoice: Object, items: list[Object]) -> None:
    """Work out an unkept invoice with invoice items that are not kept either, before its other lines."""
    for item in items:
        world.store.save(item)
    try:
        invoice["_sources"] = [{"kind": "item", "id": item["id"]} for item in items] + invoice["_sources"]
        refresh(world, invoice)
    finally:
        for item in items:
            world.store.remove(item)


def _plain(world: World, row: Object, params: dict[str, Any]) -> None:
    """The fields that change no sum by themselves."""
    now = world.now(row)
    if "metadata" in params:
        row["metadata"] = merged(params["metadata"], row["metadata"])
    for name in ("description", "days_until_due", "collection_method"):
        if name in params:
            row[name] = unset(params[name])
    if "default_payment_method" in params:
        row["default_payment_method"] = None
        if params["default_payment_method"]:
            method = find_method(world, params["default_payment_method"], "default_payment_method")
            if method["customer"] != row["customer"]:
                raise invalid(
                    "The payment method must be attached to the customer.", "default_payment_method", "resource_missing"
                )
            row["default_payment_method"] = method["id"]
    if "default_tax_rates" in params:
        row["default_tax_rates"] = [
            world.require("tax_rate", id, "default_tax_rates") for id in params["default_tax_rates"] or []
        ]
    if "automatic_tax" in params:
        enabled = params["automatic_tax"]["enabled"]
        row["automatic_tax"] = {
            "disabled_reason": None,
            "enabled": enabled,
            "liability": {"type": "self"} if enabled else None,
        }
    if "trial_settings" in params:
        row["trial_settings"] = {
            "end_behavior": {"billing_cycle_anchor": None, **params["trial_settings"]["end_behavior"]}
        }
    if "payment_settings" in params:
        row["payment_settings"] = {**row["payment_settings"], **params["payment_settings"]}
    if "discounts" in params:
        row["discounts"] = redeem_all(
            world, params["discounts"] or [], row["currency"], row["customer"], subscription=row["id"]
        )
    if "pause_collection" in params:
        given = params["pause_collection"]
        row["pause_collection"] = (
            None if given == "" else {"behavior": given["behavior"], "resumes_at": given.get("resumes_at")}
        )
        if given and given.get("resumes_at") is not None and given["resumes_at"] <= now:
            raise invalid("`resumes_at` must be a timestamp in the future.", "pause_collection[resumes_at]")
    if "cancellation_details" in params:
        given = {name: unset(value) for name, value in params["cancellation_details"].items()}
        row["cancellation_details"] = {**row["cancellation_details"], **given}
    if "cancel_at" in params or "cancel_at_period_end" in params:
        set_cancel(world, row, params)


@operation("DELETE", "/v1/subscriptions/{subscription_exposed_id}")
def cancel(call: Call, subscription_exposed_id: str) -> Object:
    params, world = call.params, call.world
    only(params, ("cancellation_details", "invoice_now", "prorate"))
    subscription = world.require("subscription", subscription_exposed_id)
    if subscription["status"] in ENDED:
        raise no_such("subscription", subscription_exposed_id)
    first = world.store.get("invoice", subscription["latest_invoice"] or "")
    incomplete = subscription["status"] == "incomplete"
    end(
        world, subscription, world.now(subscription), final=params.get("invoice_now", False) and not incomplete,
        reason="cancellation_requested", prorate=params.get("prorate", False), at_once=True, details=params.get("cancellation_details"),
    )  # fmt: skip
    if incomplete and first is not None and first["status"] == "open":
        void(world, first)
    return subscription


@operation("DELETE", "/v1/subscriptions/{subscription_exposed_id}/discount")
def delete_discount(call: Call, subscription_exposed_id: str) -> Object:
    world = call.world
    subscription = world.require("subscription", subscription_exposed_id)
    if not subscription["discounts"]:
        raise no_such("discount", subscription_exposed_id)
    before = snapshot(world, subscription)
    row = world.require("discount", subscription["discounts"][-1])
    subscription["discounts"] = subscription["discounts"][:-1]
    tell(world, subscription, before)
    world.emit("customer.discount.deleted", row)
    return {**row, "deleted": True}


@operation("POST", "/v1/subscriptions/{subscription}/resume")
def resume(call: Call, subscription: str) -> Object:
    """A subscription that paused when its trial ended without a card begins a new period."""
    world = call.world
    only(call.params, ("billing_cycle_anchor", "proration_behavior"))
    row = world.require("subscription", subscription)
    if row["status"] != "paused":
        raise invalid("You can only resume a subscription that is paused.", None, "subscription_not_paused")
    now = world.now(row)
    before = snapshot(world, row)
    row.update(status="active", status_details=None, billing_cycle_anchor=now)
    sources = waiting_items(world, row)
    for item in items_of(row):
        place(item, *full_period(item, now, now))
        item["_usage_from"] = now
        if not metered(item["price"]):
            sources.append(licensed_source(row, item))
    invoice = make_invoice(world, row, "subscription_update", sources, now, now) if sources else None
    plan_next(world, row)
    tell(world, row, before)
    world.emit("customer.subscription.resumed", row)
    if invoice is not None:
        finalize(world, invoice)
        collect(world, invoice)
        if invoice["status"] == "open":
            set_status(world, row, "past_due")
    return row


def _of_item(world: World, id: str) -> tuple[Object, Object]:
    held = world.store.get("_subscription_item", id)
    subscription = world.store.get("subscription", held["subscription"]) if held else None
    item = next((one for one in items_of(subscription) if one["id"] == id), None) if subscription else None
    if subscription is None or item is None:
        raise no_such("subscription_item", id)
    return subscription, item


_ITEM = ("metadata", "payment_behavior", "price", "proration_behavior", "proration_date", "quantity", "tax_rates")


def _item_params(params: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    own = {name: params[name] for name in ("metadata", "price", "quantity", "tax_rates") if name in params}
    rest: dict[str, Any] = {
        name: params[name] for name in ("payment_behavior", "proration_behavior", "proration_date") if name in params
    }
    return {"items": [{**entry, **own}], **rest}


@operation("POST", "/v1/subscription_items")
def create_item(call: Call) -> Object:
    only(call.params, ("subscription", *_ITEM))
    subscription = call.world.require("subscription", call.params["subscription"], "subscription")
    known = {item["id"] for item in items_of(subscription)}
    change(call.world, subscription, _item_params(call.params, {}))
    return next(item for item in items_of(subscription) if item["id"] not in known)


@operation("GET", "/v1/subscription_items/{item}")
def retrieve_item(call: Call, item: str) -> Object:
    return _of_item(call.world, item)[1]


@operation("POST", "/v1/subscription_items/{item}")
def update_item(call: Call, item: str) -> Object:
    only(call.params, _ITEM)
    subscription, _ = _of_item(call.world, item)
    change(call.world, subscription, _item_params(call.params, {"id": item}))
    return _of_item(call.world, item)[1]


@operation("DELETE", "/v1/subscription_items/{item}")
def delete_item(call: Call, item: str) -> Object:
    only(call.params, ("payment_behavior", "proration_behavior", "proration_date"))
    subscription, _ = _of_item(call.world, item)
    change(call.world, subscription, _item_params(call.params, {"id": item, "deleted": True}))
    return {"id": item, "object": "subscription_item", "deleted": True}


@operation("GET", "/v1/subscription_items")
def list_items(call: Call) -> Object:
    subscription = call.world.require("subscription", call.params["subscription"], "subscription")
    return cut_rows(call, items_of(subscription))
