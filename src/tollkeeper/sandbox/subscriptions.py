"""Subscriptions: made, billed for the first time, and told (https://docs.stripe.com/billing/subscriptions/overview)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.arithmetic import share
from tollkeeper.sandbox.billing_periods import anchor_of
from tollkeeper.sandbox.cards import default_method, find_method
from tollkeeper.sandbox.discounts import redeem_all
from tollkeeper.sandbox.errors import ApiError, invalid
from tollkeeper.sandbox.invoice_items import make_item as make_invoice_item
from tollkeeper.sandbox.invoice_items import pending
from tollkeeper.sandbox.invoice_object import blank
from tollkeeper.sandbox.invoices import collect, finalize, keep, pay
from tollkeeper.sandbox.payments import error_of, outcome
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.subscription_items import (
    MOST_ITEMS,
    advance_amount,
    full_period,
    items_of,
    licensed_source,
    make_item,
    metered,
    place,
)
from tollkeeper.sandbox.subscription_object import blank_subscription
from tollkeeper.sandbox.support import only

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

DAY = 86_400
ENDED = ("canceled", "incomplete_expired")
_INCOMPLETE_SECONDS = 23 * 3600


def make(
    world: World, customer: Object, params: dict[str, Any], *, method: Object | None = None, checkout: str | None = None
) -> Object:
    """A subscription, its first invoice made and, where it can be, paid.

    Args:
        params: as checked of POST /v1/subscriptions; of Checkout the same names.
        method: pays now, instead of the default one.
        checkout: the session that made it, whose discounts are redeemed already.

    Raises ApiError 400 for what does not fit, 402 where the payment fails and `payment_behavior` is error_if_incomplete.
    """
    now = world.now(customer)
    mode = params.get("billing_mode") or {"type": "flexible"}
    if mode["type"] != "flexible":
        raise invalid("The sandbox has subscriptions in flexible billing mode only.", "billing_mode[type]")
    id = world.ids.new("sub_1")
    items = _items(world, id, params, now)
    currency = items[0]["price"]["currency"]
    if customer.get("currency") not in (None, currency):
        raise invalid(
            f"You cannot combine currencies on a single customer. This customer has an active subscription, discount, "
            f"or invoice item with currency {customer['currency']}."
        )
    trial_end = _trial_end(params, now)
    anchor, first_end = _anchor(params, items, trial_end, now)
    default = (
        find_method(world, params["default_payment_method"], "default_payment_method")
        if params.get("default_payment_method")
        else None
    )
    if default is not None and default["customer"] != customer["id"]:
        raise invalid(
            f"The customer does not have a payment method with the ID {default['id']}. It must be attached to the customer.",
            "default_payment_method", "resource_missing",
        )  # fmt: skip
    subscription = blank_subscription(world, customer, params, id, items, currency, anchor, trial_end, now)
    subscription["default_payment_method"] = default["id"] if default else None
    discounts = params.get("discounts")
    if checkout is None:
        subscription["discounts"] = redeem_all(world, discounts, currency, customer["id"], subscription=id)
    else:
        subscription["discounts"] = list(discounts or [])
    for item in items:
        start, end = full_period(item, anchor, now)
        place(item, now, first_end or end)
        if not metered(item["price"]) and not trial_end:
            amount = advance_amount(world, subscription, item)
            if first_end and params.get("proration_behavior") == "none":
                amount = 0
            elif first_end:
                amount = share(amount, first_end - now, end - start)
            item["_debits"] = [{"amount": amount, "start": now, "end": item["current_period_end"]}]
    sources = _first_sources(world, subscription, params, first_end, now)
    invoice = _first_invoice(world, customer, subscription, sources)
    _check_payable(world, invoice, subscription, method, params)
    return _begin(world, subscription, invoice, method, params)


def _items(world: World, id: str, params: dict[str, Any], now: int) -> list[Object]:
    given = params.get("items") or []
    if not given:
        raise invalid("Missing required param: items.", "items", "parameter_missing")
    if len(given) > MOST_ITEMS:
        raise invalid(f"A subscription has at most {MOST_ITEMS} items.", "items")
    items: list[Object] = []
    for number, one in enumerate(given):
        currency = params.get("currency", items[0]["price"]["currency"] if items else None)
        item = make_item(world, id, one, f"items[{number}]", currency, now)
        if any(other["price"]["id"] == item["price"]["id"] for other in items):
            raise invalid(
                f"A subscription can't have two items with the same price ({item['price']['id']}).",
                f"items[{number}][price]",
            )
        items.append(item)
    return items


def _trial_end(params: dict[str, Any], now: int) -> int | None:
    if "trial_end" in params and "trial_period_days" in params:
        raise invalid("You may only specify one of these parameters: trial_end, trial_period_days.", "trial_end")
    if params.get("trial_period_days"):
        return now + int(params["trial_period_days"]) * DAY
    end = params.get("trial_end")
    if end in (None, "now"):
        return None
    if end <= now:
        raise invalid("The trial_end must be in the future.", "trial_end")
    return int(end)


def _anchor(params: dict[str, Any], items: list[Object], trial_end: int | None, now: int) -> tuple[int, int | None]:
    """The billing cycle anchor, and the end of a first period that is cut by it or by a trial."""
    if trial_end is not None:
        return trial_end, trial_end
    config = params.get("billing_cycle_anchor_config")
    anchor = anchor_of(config, now) if config else params.get("billing_cycle_anchor")
    if anchor in (None, now):
        return now, None
    if anchor < now:
        raise invalid("billing_cycle_anchor must be a timestamp in the future.", "billing_cycle_anchor")
    for item in items:
        if anchor > full_period(item, now, now)[1]:
            raise invalid(
                "billing_cycle_anchor cannot be later than next natural billing date for plan.", "billing_cycle_anchor"
            )
    return int(anchor), int(anchor)


def _first_sources(
    world: World, subscription: Object, params: dict[str, Any], first_end: int | None, now: int
) -> list[dict[str, Any]]:
    customer, currency = subscription["customer"], subscription["currency"]
    for number, one in enumerate(params.get("add_invoice_items") or ()):
        add_item(world, subscription, one, f"add_invoice_items[{number}]")
    sources = [{"kind": "item", "id": row["id"]} for row in pending(world, customer, currency, subscription["id"])]
    for item in items_of(subscription):
        if metered(item["price"]):
            continue
        if subscription["trial_end"]:
            sources.append(licensed_source(subscription, item, trial=True))
        elif first_end is None:
            sources.append(licensed_source(subscription, item))
        elif params.get("proration_behavior") != "none":
            start, end = full_period(item, subscription["billing_cycle_anchor"], now)
            sources.append(licensed_source(subscription, item, share=[first_end - now, end - start]))
    return sources


def add_item(world: World, subscription: Object, given: dict[str, Any], param: str) -> Object:
    """An item of `add_invoice_items`: a one-time price on the next invoice."""
    from decimal import Decimal

    from tollkeeper.sandbox.arithmetic import times
    from tollkeeper.sandbox.texts import product_name

    only(given, ("metadata", "price", "quantity"), param)
    price = world.require("price", given.get("price") or "", f"{param}[price]")
    if price["type"] != "one_time":
        raise invalid("add_invoice_items takes prices with `type=one_time` only.", f"{param}[price]")
    quantity = Decimal(given.get("quantity", 1))
    unit = Decimal(str(price["unit_amount_decimal"]))
    return make_invoice_item(
        world, subscription["customer"], subscription["currency"], times(quantity, unit), description=product_name(world, price),
        subscription=subscription["id"], price=price, quantity=quantity, unit_amount=unit, metadata=given.get("metadata"),
    )  # fmt: skip


def invoice_for(
    world: World, subscription: Object, reason: str, sources: list[dict[str, Any]], start: int, end: int
) -> Object:
    """An invoice of a subscription that is not kept yet."""
    customer = world.store.get("customer", subscription["customer"])
    assert customer is not None
    details = {
        "metadata": dict(subscription["metadata"]),
        "subscription": subscription["id"],
        "subscription_proration_date": None,
    }
    discounts = list(subscription["discounts"])
    held = customer.get("discount")
    if not discounts and held:
        discounts = [held["id"]]
    return blank(
        world,
        customer,
        subscription["currency"],
        reason,
        automatic_tax=dict(subscription["automatic_tax"], provider=None, status=None),
        collection_method=subscription["collection_method"],
        discounts=discounts,
        parent={"quote_details": None, "subscription_details": details, "type": "subscription_details"},
        period_start=start,
        period_end=end,
        _sources=sources,
        _tax_rates=[rate["id"] for rate in subscription["default_tax_rates"]],
        _days_until_due=subscription["days_until_due"],
    )


def _first_invoice(
    world: World, customer: Object, subscription: Object, sources: list[dict[str, Any]]
) -> Object | None:
    """Nothing to say, no invoice: a subscription with metered prices only begins without one."""
    from tollkeeper.sandbox.invoice_lines import refresh

    if not sources:
        return None
    now = subscription["created"]
    invoice = invoice_for(world, subscription, "subscription_create", sources, now, now)
    refresh(world, invoice)
    return invoice


def _check_payable(
    world: World, invoice: Object | None, subscription: Object, method: Object | None, params: dict[str, Any]
) -> None:
    """Refuse before anything is kept."""
    if invoice is None or not invoice["amount_due"] or invoice["collection_method"] == "send_invoice":
        return
    behavior = params.get("payment_behavior", "allow_incomplete")
    if behavior == "default_incomplete":
        return
    used = method or default_method(world, subscription["customer"], subscription)
    if used is None:
        raise ApiError(
            400,
            "This customer has no attached payment source or default payment method. Please consider adding a default payment method. "
            "For more information, visit https://stripe.com/docs/billing/subscriptions/payment-methods-setting.",
            code="resource_missing",
        )
    if behavior == "error_if_incomplete":
        came = outcome(used, off_session=True)
        if came != "succeeded":
            from tollkeeper.sandbox.cards import card_error

            raise card_error("authentication_required" if came == "requires_action" else came)


def _begin(
    world: World, subscription: Object, invoice: Object | None, method: Object | None, params: dict[str, Any]
) -> Object:
    from tollkeeper.sandbox.subscription_life import plan_next, set_status

    customer = world.store.get("customer", subscription["customer"])
    assert customer is not None
    if not customer.get("currency"):
        customer["currency"] = subscription["currency"]
        world.store.save(customer)
    settled = "trialing" if subscription["trial_end"] else "active"
    asks = invoice is not None and invoice["amount_due"] > 0 and invoice["collection_method"] == "charge_automatically"
    subscription["status"] = "incomplete" if asks else settled
    if params.get("cancel_at_period_end") or params.get("cancel_at"):
        from tollkeeper.sandbox.subscription_change import set_cancel

        set_cancel(world, subscription, params)
    world.store.save(subscription)
    for item in items_of(subscription):
        world.store.save({"object": "_subscription_item", "id": item["id"], "subscription": subscription["id"]})
    plan_next(world, subscription)
    if invoice is not None:
        keep(world, invoice)
        subscription["latest_invoice"] = invoice["id"]
        world.store.save(subscription)
    world.emit("customer.subscription.created", subscription)
    if invoice is None:
        return subscription
    if invoice["collection_method"] == "send_invoice":
        spend_discounts(world, subscription)
        return subscription
    finalize(world, invoice)
    spend_discounts(world, subscription)
    if invoice["status"] == "paid" or params.get("payment_behavior") == "default_incomplete":
        pass
    elif method is not None:
        pay(world, invoice, method)
    else:
        collect(world, invoice)
    if subscription["status"] == "incomplete":
        at = subscription["created"] + _INCOMPLETE_SECONDS
        world.at(at, "subscription.incomplete", {"subscription": subscription["id"]}, world.clock_of(subscription))
    if invoice["status"] == "paid" and subscription["status"] == "incomplete":
        set_status(world, subscription, settled)
    return subscription


def spend_discounts(world: World, subscription: Object) -> None:
    """Discounts for one invoice are gone with it."""
    from tollkeeper.sandbox.discounts import spent

    left = spent(world, subscription["discounts"])
    if left != subscription["discounts"]:
        subscription["discounts"] = left
        world.store.save(subscription)


def error_of_first(world: World, subscription: Object) -> ApiError | None:
    """The 402 of a first payment that failed, or None."""
    invoice = world.store.get("invoice", subscription["latest_invoice"] or "")
    intent = world.store.get("payment_intent", (invoice or {}).get("_intent") or "")
    return error_of(intent) if intent and intent["last_payment_error"] else None
