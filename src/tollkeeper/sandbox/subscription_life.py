"""What happens to a subscription by itself: periods end, trials end, payments fail, cancellation falls due.

Everything runs as a task of the clock the customer stands on, at its exact instant: moving the clock does what waiting would
have done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.arithmetic import share
from tollkeeper.sandbox.cards import default_method
from tollkeeper.sandbox.invoice_items import make_item as make_invoice_item
from tollkeeper.sandbox.invoice_items import pending
from tollkeeper.sandbox.invoices import (
    collect,
    dunning,
    finalize,
    keep,
    mark_uncollectible,
    on_invoice,
    set_advance,
    subscription_of,
    void,
)
from tollkeeper.sandbox.render import render
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.subscription_items import (
    advance_amount,
    full_period,
    items_of,
    licensed_source,
    metered,
    place,
    tax_ids_of,
    usage_source,
)
from tollkeeper.sandbox.subscriptions import DAY, ENDED, invoice_for, spend_discounts
from tollkeeper.sandbox.texts import day, product_name
from tollkeeper.sandbox.world import due as task

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

UPCOMING_DAYS = 7
_TRIAL_WARNING = 3 * DAY
Source = dict[str, Any]


def snapshot(world: World, subscription: Object) -> Object:
    """How it is shown now, to tell later what has changed."""
    shown: Object = render(world, subscription)
    return shown


def tell(world: World, subscription: Object, before: Object) -> None:
    """Keep it and emit `customer.subscription.updated` with what was different before."""
    world.store.save(subscription)
    after = snapshot(world, subscription)
    previous = {name: value for name, value in before.items() if value != after.get(name)}
    if previous:
        world.emit("customer.subscription.updated", subscription, previous)


def set_status(world: World, subscription: Object, status: str) -> None:
    before = snapshot(world, subscription)
    subscription["status"] = status
    tell(world, subscription, before)


def _set_task(world: World, subscription: Object, name: str, at: int | None) -> None:
    held = subscription["_tasks"].pop(name, None)
    if held:
        world.tasks.cancel(held)
    if at is not None:
        data = {"subscription": subscription["id"]}
        subscription["_tasks"][name] = world.at(at, f"subscription.{name}", data, world.clock_of(subscription))


def plan_next(world: World, subscription: Object) -> None:
    """Have it called when the next thing falls due."""
    now = world.now(subscription)
    if subscription["status"] in (*ENDED, "paused"):
        for name in ("due", "trial", "upcoming", "resume"):
            _set_task(world, subscription, name, None)
        world.store.save(subscription)
        return
    end = min(item["current_period_end"] for item in items_of(subscription))
    cancel_at = subscription["cancel_at"]
    _set_task(world, subscription, "due", end if cancel_at is None else min(end, cancel_at))
    trial = subscription["trial_end"] if subscription["status"] in ("trialing", "incomplete") else None
    if trial and subscription.get("_trial_told") != trial:
        _set_task(world, subscription, "trial", max(now, trial - _TRIAL_WARNING))
    days = world.store.setting("upcoming_days") or UPCOMING_DAYS
    ahead = end - days * DAY
    wanted = ahead > now and (cancel_at is None or cancel_at > end)
    _set_task(world, subscription, "upcoming", ahead if wanted else None)
    pause = subscription["pause_collection"]
    _set_task(world, subscription, "resume", pause["resumes_at"] if pause and pause.get("resumes_at") else None)
    world.store.save(subscription)


def _of(world: World, data: dict[str, Any], name: str) -> Object | None:
    """The subscription of a task, unless it has ended meanwhile."""
    found = world.store.get("subscription", data["subscription"])
    if found is not None:
        found["_tasks"].pop(name, None)
    return None if found is None or found["status"] in ENDED else found


@task("subscription.due")
def _due(world: World, data: dict[str, Any]) -> None:
    subscription = _of(world, data, "due")
    if subscription is None or subscription["status"] in ("incomplete", "paused"):
        return
    now = world.now(subscription)
    cancel_at = subscription["cancel_at"]
    if cancel_at is not None and cancel_at <= now:
        end(world, subscription, now, final=True, reason="cancellation_requested")
    elif any(item["current_period_end"] <= now for item in items_of(subscription)):
        roll(world, subscription, now)


@task("subscription.trial")
def _trial_will_end(world: World, data: dict[str, Any]) -> None:
    subscription = _of(world, data, "trial")
    if subscription is not None and subscription["status"] == "trialing":
        subscription["_trial_told"] = subscription["trial_end"]
        world.store.save(subscription)
        world.emit("customer.subscription.trial_will_end", subscription)


@task("subscription.upcoming")
def _upcoming(world: World, data: dict[str, Any]) -> None:
    from tollkeeper.sandbox.invoice_preview import upcoming

    subscription = _of(world, data, "upcoming")
    running = subscription is not None and subscription["status"] in ("active", "trialing", "past_due")
    if subscription is not None and running and not subscription["pause_collection"]:
        world.emit("invoice.upcoming", upcoming(world, subscription))


@task("subscription.resume")
def _resume_collection(world: World, data: dict[str, Any]) -> None:
    subscription = _of(world, data, "resume")
    if subscription is not None and subscription["pause_collection"]:
        before = snapshot(world, subscription)
        subscription["pause_collection"] = None
        tell(world, subscription, before)


@task("subscription.incomplete")
def _expire(world: World, data: dict[str, Any]) -> None:
    subscription = world.store.get("subscription", data["subscription"])
    if subscription is None or subscription["status"] != "incomplete":
        return
    before = snapshot(world, subscription)
    subscription.update(status="incomplete_expired", ended_at=world.now(subscription))
    plan_next(world, subscription)
    tell(world, subscription, before)
    invoice = world.store.get("invoice", subscription["latest_invoice"] or "")
    if invoice is not None and invoice["status"] == "open":
        void(world, invoice)


def unbilled(world: World, subscription: Object, items: list[Object], until: int | None) -> list[Source]:
    """Usage that stands on no invoice yet: of items taken off meanwhile, and of these. `until` None: to each period's end."""
    found = list(subscription["_loose"])
    for item in items:
        instant = item["current_period_end"] if until is None else min(until, item["current_period_end"])
        if metered(item["price"]) and item["_usage_from"] < instant:
            found.append(usage_source(subscription, item, instant))
    return found


def waiting_items(world: World, subscription: Object) -> list[Source]:
    rows = pending(world, subscription["customer"], subscription["currency"], subscription["id"])
    return [{"kind": "item", "id": row["id"]} for row in rows]


def roll(world: World, subscription: Object, now: int) -> None:
    """One or more items' periods are over: bill what was used, and the next period ahead."""
    before = snapshot(world, subscription)
    trial_over = subscription["status"] == "trialing" and subscription["trial_end"] <= now
    if trial_over and not _trial_ends(world, subscription, now):
        return
    ended = [item for item in items_of(subscription) if item["current_period_end"] <= now]
    start = min(item["current_period_start"] for item in ended)
    usage = [] if trial_over else unbilled(world, subscription, ended, None)
    subscription["_loose"] = []
    for item in ended:
        item["_usage_from"] = item["current_period_end"]
    sources = waiting_items(world, subscription) + usage
    from tollkeeper.sandbox.schedules import next_phase

    next_phase(world, subscription, now)
    due = [item for item in items_of(subscription) if item["current_period_end"] <= now]
    if any(full_period(item, subscription["billing_cycle_anchor"], now)[0] != now for item in due):
        subscription["billing_cycle_anchor"] = now  # a phase of another interval begins
    for item in items_of(subscription):
        if item["current_period_end"] <= now:
            place(item, *full_period(item, subscription["billing_cycle_anchor"], now))
            if not metered(item["price"]):
                amount = advance_amount(world, subscription, item)
                item["_debits"] = [{"amount": amount, "start": now, "end": item["current_period_end"]}]
                sources.append(licensed_source(subscription, item))
    if trial_over:
        subscription["status"] = "active"
    invoice = None
    if sources:
        invoice = make_invoice(world, subscription, "subscription_cycle", sources, start, now)
    plan_next(world, subscription)
    tell(world, subscription, before)
    if invoice is not None:
        hold_back(world, subscription, invoice)


def _trial_ends(world: World, subscription: Object, now: int) -> bool:
    """Whether the subscription goes on after its trial."""
    charged = subscription["collection_method"] == "charge_automatically"
    if not charged or default_method(world, subscription["customer"], subscription) is not None:
        return True
    wanted = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if wanted == "cancel":
        end(world, subscription, now, final=False, reason=None)
        return False
    if wanted == "pause":
        before = snapshot(world, subscription)
        subscription["status"] = "paused"
        subscription["status_details"] = {
            "paused": {
                "subscription": {"type": "trial_end_without_payment_method"},
                "transitioned_at": now,
                "type": "subscription",
            }
        }
        plan_next(world, subscription)
        tell(world, subscription, before)
        world.emit("customer.subscription.paused", subscription)
        return False
    return True


def make_invoice(
    world: World,
    subscription: Object,
    reason: str,
    sources: list[Source],
    start: int,
    until: int,
    *,
    advance: bool = True,
) -> Object:
    """A kept draft of a subscription, which is its latest invoice from now on."""
    from tollkeeper.sandbox.discounts import in_force

    subscription["discounts"] = in_force(world, subscription["discounts"], world.now(subscription))
    invoice = invoice_for(world, subscription, reason, sources, start, until)
    paused = subscription["pause_collection"]
    invoice["auto_advance"] = advance and subscription["status"] != "unpaid" and not paused
    invoice["default_payment_method"] = None
    subscription["latest_invoice"] = keep(world, invoice)["id"]
    spend_discounts(world, subscription)
    return invoice


def hold_back(world: World, subscription: Object, invoice: Object) -> None:
    """What `pause_collection` makes of an invoice: kept as a draft, or at once void or uncollectible, and no balance is used for it
    (https://docs.stripe.com/billing/subscriptions/pause-payment)."""
    paused = subscription["pause_collection"]
    if not paused or paused["behavior"] == "keep_as_draft":
        return
    finalize(world, invoice, held_back=True)
    if paused["behavior"] == "void":
        void(world, invoice)
    else:
        mark_uncollectible(world, invoice, "subscription_paused")


def credit(world: World, subscription: Object, item: Object, at: int, *, kept: bool = True) -> list[Object]:
    """What was paid ahead for the time after `at`, given back as invoice items: one for each amount that was billed."""
    found = []
    for debit in item["_debits"]:
        begin = max(at, debit["start"])
        amount = share(debit["amount"], debit["end"] - begin, debit["end"] - debit["start"])
        if amount <= 0:
            continue
        quantity = item["quantity"]
        many = f"{quantity} × " if quantity != 1 else ""
        found.append(
            make_invoice_item(
                world, subscription["customer"], subscription["currency"], -amount,
                description=f"Unused time on {many}{product_name(world, item['price'])} after {day(at)}", start=at, end=debit["end"],
                subscription=subscription["id"], subscription_item=item["id"], price=item["price"], proration=True,
                tax_rates=tax_ids_of(item), metadata=subscription["metadata"], kept=kept,
            )
        )  # fmt: skip
    item["_debits"] = []
    return found


def end(
    world: World, subscription: Object, now: int, *, final: bool, reason: str | None, prorate: bool = False, at_once: bool = False,
    details: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Cancel it now, for ever.

    Args:
        final: bill usage that stands on no invoice, and waiting items.
        prorate: give back what was paid ahead.
        at_once: the final invoice is finalised and charged now; otherwise it is a draft first, as at the end of a period.
    """
    _set_task(world, subscription, "due", None)
    items = items_of(subscription)
    trialing = subscription["status"] == "trialing"
    if prorate:
        for item in items:
            if not metered(item["price"]):
                credit(world, subscription, item, now)
    usage = [] if trialing else unbilled(world, subscription, items, now)
    sources = waiting_items(world, subscription) + usage if final else []
    open_before = [
        row
        for row in world.store.table("invoice").of("customer", subscription["customer"])
        if row["status"] == "open" and subscription_of(world, row) is subscription
    ]
    subscription["_loose"] = []
    invoice = None
    if sources:
        start = min(item["current_period_start"] for item in items)
        reason_of_invoice = "subscription_cycle" if not at_once else "subscription_update"
        invoice = make_invoice(world, subscription, reason_of_invoice, sources, start, now)
    subscription.update(
        status="canceled",
        canceled_at=subscription["canceled_at"] or now,
        ended_at=now,
        cancellation_details={**subscription["cancellation_details"], **(details or {}), "reason": reason},
    )
    for item in items:
        item["_usage_from"] = now
    _release(world, subscription)
    plan_next(world, subscription)
    for row in open_before:
        set_advance(world, row, False)
    world.emit("customer.subscription.deleted", subscription)
    if invoice is not None and subscription["pause_collection"]:
        hold_back(world, subscription, invoice)
    elif invoice is not None and at_once:
        finalize(world, invoice)
        collect(world, invoice)


def _release(world: World, subscription: Object) -> None:
    from tollkeeper.sandbox.schedules import release

    if subscription["schedule"]:
        release(world, subscription, "canceled")


@on_invoice("paid")
def _paid(world: World, invoice: Object) -> None:
    subscription = subscription_of(world, invoice)
    _delinquent(world, invoice["customer"], False)
    if subscription is None or subscription["status"] not in ("incomplete", "past_due", "unpaid"):
        return
    if subscription["status"] != "incomplete" and _owes(world, subscription):
        return
    method = world.store.get("payment_intent", invoice["_intent"] or "")
    before = snapshot(world, subscription)
    if subscription["payment_settings"]["save_default_payment_method"] == "on_subscription" and method:
        subscription["default_payment_method"] = method["payment_method"]
    subscription["status"] = "trialing" if (subscription["trial_end"] or 0) > world.now(subscription) else "active"
    tell(world, subscription, before)


def _owes(world: World, subscription: Object) -> bool:
    return any(
        row["status"] == "open" and row["attempted"] and subscription_of(world, row) is subscription
        for row in world.store.table("invoice").of("customer", subscription["customer"])
    )


@on_invoice("failed")
def _failed(world: World, invoice: Object) -> None:
    _delinquent(world, invoice["customer"], True)
    subscription = subscription_of(world, invoice)
    if (
        subscription is not None
        and subscription["status"] in ("active", "trialing")
        and invoice["billing_reason"] != "subscription_create"
    ):
        set_status(world, subscription, "past_due")


on_invoice("overdue")(_failed)


@on_invoice("exhausted")
def _exhausted(world: World, invoice: Object) -> None:
    subscription = subscription_of(world, invoice)
    if subscription is None or subscription["status"] in ENDED:
        return
    after = dunning(world)["after"]
    if after == "cancel":
        end(world, subscription, world.now(subscription), final=False, reason="payment_failed")
    elif after == "unpaid":
        set_status(world, subscription, "unpaid")
    else:
        set_status(world, subscription, "past_due")


@on_invoice("voided")
def _voided(world: World, invoice: Object) -> None:
    subscription = subscription_of(world, invoice)
    if subscription is None:
        return
    if subscription["status"] == "incomplete" and invoice["billing_reason"] == "subscription_create":
        subscription.update(status="incomplete_expired", ended_at=world.now(subscription))
        plan_next(world, subscription)
        world.emit("customer.subscription.updated", subscription, {"status": "incomplete"})
    elif subscription["status"] in ("past_due", "unpaid") and not _owes(world, subscription):
        set_status(world, subscription, "active")


def _delinquent(world: World, customer: str, value: bool) -> None:
    held = world.store.get("customer", customer)
    if held is not None:
        world.update(held, {"delinquent": value}, "customer.updated")
