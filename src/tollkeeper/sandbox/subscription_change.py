"""A change of a subscription: worked out on a copy first, so that a preview and the change itself are the same code.

Proration (https://docs.stripe.com/billing/subscriptions/prorations): what was billed ahead is given back for the time
left, exact to the second, and the new price is billed for it. Usage before a change of a metered price is billed at the old one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.arithmetic import share
from tollkeeper.sandbox.errors import invalid, no_such
from tollkeeper.sandbox.invoice_items import make_item as make_invoice_item
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.subscription_items import (
    SERVED,
    advance_amount,
    check_price,
    full_period,
    items_of,
    licensed_source,
    make_item,
    metered,
    place,
    plan_of,
    set_items,
    tax_ids_of,
    usage_source,
)
from tollkeeper.sandbox.subscription_life import credit
from tollkeeper.sandbox.support import only
from tollkeeper.sandbox.texts import day, product_name

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World


@dataclass(slots=True)
class Change:
    """What a change comes to. `subscription` is a copy; `prorations` are invoice items, `sources` go on an invoice that is made at once."""

    subscription: Object
    prorations: list[Object] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    at_once: bool = False


def plan(world: World, subscription: Object, params: dict[str, Any], *, kept: bool) -> Change:
    """Work out a change of items, anchor or trial.

    Args:
        params: `items`, `billing_cycle_anchor`, `trial_end`, `proration_behavior`, `proration_date`.
        kept: false for a preview, whose prorations are not kept.

    Raises ApiError 400.
    """
    now = world.now(subscription)
    at = params.get("proration_date", now)
    behavior = params.get("proration_behavior", "create_prorations")
    after = copy.deepcopy(subscription)
    change = Change(after)
    last = min(item["current_period_end"] for item in items_of(after)) - 1
    if kept and any(metered(item["price"]) for item in items_of(after)):
        last = now + 1  # usage that is still to come would stand on both sides
    if not min(item["current_period_start"] for item in items_of(after)) <= at <= last:
        raise invalid("Cannot specify a proration_date outside of the current billing period.", "proration_date")
    before = {item["id"]: copy.deepcopy(item) for item in items_of(after)}
    removed = _apply(world, after, params.get("items") or [], now)
    changed = [item for item in items_of(after) if _differs(before.get(item["id"]), item)]
    reset = _anchor(after, params, before, changed, now)
    gone = [before[id] for id in removed]
    prorate = behavior != "none"
    for item in items_of(after) if reset else changed:
        old = before.get(item["id"])
        if old is not None:
            gone.append(old)
    for old in gone:
        _close(world, after, old, at, change, prorate=prorate, kept=kept)
    for item in items_of(after):
        held = before.get(item["id"])
        if reset or held is None or item in changed:
            _open(world, after, item, held, at, now, reset, change, prorate=prorate, kept=kept)
    change.at_once = reset or behavior == "always_invoice"
    if not change.at_once:
        after["_loose"] += change.sources
        change.sources = []
    else:
        change.sources = after["_loose"] + change.sources
        after["_loose"] = []
    return change


def _apply(world: World, after: Object, given: list[dict[str, Any]], now: int) -> list[str]:
    """Put the parameter `items` on the copy. The ids that are gone."""
    items = {item["id"]: item for item in items_of(after)}
    removed = []
    for number, one in enumerate(given):
        param = f"items[{number}]"
        only(one, SERVED, param)
        id = one.get("id")
        if id is None:
            made = make_item(world, after["id"], one, param, after["currency"], now)
            items[made["id"]] = made
            continue
        item = items.get(id)
        if item is None:
            raise no_such("subscription item", id, f"{param}[id]", status=400)
        if one.get("deleted"):
            removed.append(id)
            del items[id]
            continue
        if one.get("price", item["price"]["id"]) != item["price"]["id"]:
            price = check_price(world, one["price"], f"{param}[price]", after["currency"])
            item.update(price=price, plan=plan_of(price))
            if metered(price):
                item.pop("quantity", None)
            else:
                item.setdefault("quantity", 1)
        if "quantity" in one:
            if metered(item["price"]):
                raise invalid(
                    f"Quantity should not be specified where usage_type is `metered`. Remove quantity from `{param}`",
                    f"{param}[quantity]",
                )
            item["quantity"] = one["quantity"]
        if "metadata" in one:
            item["metadata"] = merged(one["metadata"], item["metadata"])
        if "tax_rates" in one:
            item["tax_rates"] = [
                world.require("tax_rate", rate, f"{param}[tax_rates]") for rate in one["tax_rates"] or []
            ]
    prices = [item["price"]["id"] for item in items.values()]
    if not prices:
        raise invalid("A subscription must have at least one active plan. To cancel it, delete it instead.", "items")
    if len(set(prices)) != len(prices):
        raise invalid("A subscription can't have two items with the same price.", "items")
    set_items(after, list(items.values()))
    return removed


def _differs(old: Object | None, item: Object) -> bool:
    return old is None or old["price"]["id"] != item["price"]["id"] or old.get("quantity") != item.get("quantity")


def _interval(item: Object) -> tuple[str, int]:
    return item["price"]["recurring"]["interval"], item["price"]["recurring"]["interval_count"]


def _anchor(after: Object, params: dict[str, Any], before: dict[str, Object], changed: list[Object], now: int) -> bool:
    """Whether a new period begins now for all items; sets anchor, status and trial of the copy."""
    reset = (params.get("billing_cycle_anchor") or {}).get("type") == "now"
    trial = params.get("trial_end")
    if trial == "now":
        if after["status"] == "trialing":
            after.update(trial_end=now, status="active")
            reset = True
    elif trial is not None:
        if trial <= now:
            raise invalid("The trial_end must be in the future.", "trial_end")
        after.update(
            trial_end=trial, trial_start=after["trial_start"] or now, status="trialing", billing_cycle_anchor=trial
        )
        return True
    if after["status"] == "trialing":
        return False
    # another interval of all that is paid ahead begins a new cycle, as does the first metered or licensed item of a new interval alone
    old = {_interval(item) for item in before.values()}
    if changed and old.isdisjoint({_interval(item) for item in items_of(after)}):
        reset = True
    if reset:
        after["billing_cycle_anchor"] = now
    return reset


def _close(world: World, after: Object, old: Object, at: int, change: Change, *, prorate: bool, kept: bool) -> None:
    """What is owed and given back for an item as it was."""
    if metered(old["price"]):
        if old["_usage_from"] < at and after["status"] != "trialing":
            change.sources.append(usage_source(after, old, at))
    elif prorate:
        change.prorations += credit(world, after, old, at, kept=kept)


def _open(
    world: World, after: Object, item: Object, old: Object | None, at: int, now: int, reset: bool, change: Change, *,
    prorate: bool, kept: bool,
) -> None:  # fmt: skip
    """The item as it is from now on: its period, and what it costs until the period's end."""
    anchor = after["billing_cycle_anchor"]
    debits = [] if old is None or prorate or reset else old["_debits"]
    item["_usage_from"] = now
    if after["status"] == "trialing":
        place(item, item["current_period_start"], after["trial_end"])
        item["_debits"] = []
        return
    start, end = full_period(item, anchor, now)
    if reset or old is None or _interval(old) != _interval(item):
        place(item, now, end)
    if metered(item["price"]):
        item["_debits"] = []
        return
    full = advance_amount(world, after, item)
    if reset:
        item["_debits"] = [{"amount": full, "start": now, "end": end}]
        change.sources.append(licensed_source(after, item))
    elif prorate:
        amount = share(full, item["current_period_end"] - at, end - start)
        item["_debits"] = [{"amount": amount, "start": at, "end": item["current_period_end"]}]
        change.prorations.append(_debit(world, after, item, amount, at, kept=kept))
    else:
        item["_debits"] = debits


def _debit(world: World, after: Object, item: Object, amount: int, at: int, *, kept: bool) -> Object:
    quantity = item["quantity"]
    many = f"{quantity} × " if quantity != 1 else ""
    return make_invoice_item(
        world, after["customer"], after["currency"], amount,
        description=f"Remaining time on {many}{product_name(world, item['price'])} after {day(at)}", start=at,
        end=item["current_period_end"], subscription=after["id"], subscription_item=item["id"], price=item["price"],
        quantity=Decimal(quantity), unit_amount=Decimal(str(item["price"].get("unit_amount_decimal") or 0)), proration=True,
        tax_rates=tax_ids_of(item), metadata=after["metadata"], kept=kept,
    )  # fmt: skip


def set_cancel(world: World, subscription: Object, params: dict[str, Any]) -> None:
    """`cancel_at` and `cancel_at_period_end`. Flexible billing keeps both as an instant in `cancel_at`."""
    now = world.now(subscription)
    if "cancel_at" in params and "cancel_at_period_end" in params:
        raise invalid("You may only specify one of these parameters: cancel_at, cancel_at_period_end.", "cancel_at")
    ends = [item["current_period_end"] for item in items_of(subscription)]
    if "cancel_at_period_end" in params:
        at_end = params["cancel_at_period_end"]
        instant: int | None = min(ends) if at_end else None
    else:
        at_end = False
        wanted = params["cancel_at"]
        named = {"": None, "min_period_end": min(ends), "max_period_end": max(ends)}
        if wanted == "max_billed_until":
            named[wanted] = max(item["billed_until"] or now for item in items_of(subscription))
        instant = named[wanted] if isinstance(wanted, str) else int(wanted)
        if instant is not None and instant <= now:
            raise invalid("`cancel_at` must be a timestamp in the future.", "cancel_at")
    details = {**subscription["cancellation_details"], "reason": "cancellation_requested" if instant else None}
    subscription.update(
        cancel_at=instant,
        cancel_at_period_end=bool(at_end),
        canceled_at=None if instant is None else subscription["canceled_at"] or now,
        cancellation_details=details,
    )
