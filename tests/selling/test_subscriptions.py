"""One life of a subscription, delivered in any way, comes to the same."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selling.shop import MAX, PRO, Shop
from tollkeeper.core.periods import period_at
from tollkeeper.core.purchases import Purchase

DAY = 86_400_000_000


def test_a_paid_subscription_changes_plan_calendar_and_quota_at_the_gate(shop: Shop) -> None:
    cus = shop.customer()
    check = shop.checking()
    assert [check() for _ in range(6)] == ["VALID"] * 5 + ["QUOTA_EXCEEDED"]
    shop.move(days=3)
    sub = shop.account.begin(cus, PRO)
    assert check() == "QUOTA_EXCEEDED"  # nobody told us yet
    shop.deliver_all()
    assert [check() for _ in range(21)] == ["VALID"] * 20 + ["QUOTA_EXCEEDED"]
    bought = shop.account.contracts[sub]
    (contract,) = shop.state()["contract"]
    assert contract == ("pro", 1, "active", bought.anchor, "UTC", None, None)
    assert shop.state()["periods"] == [(bought.anchor, bought.items[0].period_end, "pro", sub, "open", None)]


def test_each_event_twice_activates_a_purchase_once(shop: Shop) -> None:
    cus = shop.customer()
    shop.account.begin(cus, PRO)
    events = list(shop.account.happened)
    shop.deliver_all(events + events)
    history = [s for s in shop.toll.customers.history("acme") if s.environment == "live"]
    assert [s.plan for s in history] == ["free", "pro"]


def test_a_failed_payment_is_graced_by_the_plan_then_refused_and_a_payment_restores(shop: Shop) -> None:
    cus = shop.customer()
    check = shop.checking()
    sub = shop.account.begin(cus, PRO)
    shop.deliver_all()
    shop.move(days=31)
    shop.account.renew(sub, paid=False)
    shop.deliver_all()
    assert shop.contract() == ("pro", "past_due")
    assert check() == "VALID"
    shop.move(days=2)
    shop.subscriptions.lapse()
    assert check() == "VALID"
    shop.move(days=1, seconds=1)
    shop.subscriptions.lapse()
    assert shop.contract() == ("pro", "unpaid")
    assert check() == "PAYMENT_REQUIRED"
    shop.account.settle(sub)
    shop.deliver_all()
    assert check() == "VALID"


def test_grace_counts_from_the_invoice_and_not_from_when_its_event_came(shop: Shop) -> None:
    cus = shop.customer()
    sub = shop.account.begin(cus, PRO)
    shop.move(days=31)
    invoice = shop.account.renew(sub, paid=False)
    due = shop.account.invoices[invoice].finalized_at
    assert due is not None
    shop.move(days=2)
    shop.deliver_all()
    assert shop.state()["contract"][0][5] == due + 3 * DAY
    shop.move(days=2)
    shop.deliver_all(shop.account.happened)
    shop.subscriptions.lapse()
    assert shop.contract() == ("pro", "unpaid")


def test_after_the_end_the_fallback_plan_holds_and_nothing_brings_the_subscription_back(shop: Shop) -> None:
    cus = shop.customer()
    check = shop.checking()
    sub = shop.account.begin(cus, PRO)
    stale = shop.account.happened[1]  # customer.subscription.created
    before = shop.effects[stale.type].fetch(shop.account, stale)
    shop.deliver_all()
    shop.move(days=10)
    shop.account.end(sub)
    late = list(shop.account.happened)
    shop.deliver_all()
    assert shop.contract() == ("free", "active")
    ended = shop.account.contracts[sub].ended_at
    state = shop.state()
    assert [(end, plan, period_state) for _, end, plan, _, period_state, _ in state["periods"]] == [
        (ended, "pro", "invoiced")
    ]
    shop.apply(stale, before)  # read before the end, written after it
    shop.deliver_all([*late, stale])
    assert shop.state() == state
    assert check() == "VALID"


@pytest.mark.parametrize("provider_has", ["nothing", "it as active", "it as ended"])
def test_an_end_that_was_told_holds_whatever_is_read_of_it_then(shop: Shop, provider_has: str) -> None:
    cus = shop.customer()
    sub = shop.account.begin(cus, PRO)
    shop.deliver_all()
    active = shop.account.contracts[sub]
    shop.move(days=10)
    ended = shop.now - shop.now % 1_000_000
    shop.account.end(sub)
    (event,) = [one for one in shop.account.happened if one.type == "customer.subscription.deleted"]
    object = {
        "id": sub,
        "object": "subscription",
        "status": "canceled",
        "ended_at": ended // 1_000_000,
        "customer": cus,
    }
    event = event._replace(payload=json.dumps({"id": event.id, "data": {"object": object}}).encode())
    canceled = shop.account.contracts.pop(sub)
    if provider_has != "nothing":
        shop.account.contracts[sub] = active if provider_has == "it as active" else canceled
    shop.deliver(event)
    assert shop.contract() == ("free", "active")
    assert [end for _, end, *_ in shop.state()["periods"]] == [ended]
    shop.account.contracts[sub] = active
    shop.move(seconds=1)
    shop.deliver(event._replace(id="evt_late", type="customer.subscription.updated"))
    assert shop.contract() == ("free", "active")


@pytest.mark.parametrize("gone", ["invoice", "checkout"])
def test_what_is_no_longer_there_takes_nothing_from_what_names_it(shop: Shop, gone: str) -> None:
    cus = shop.customer()
    sub = shop.account.begin(cus, PRO)
    (event,) = [one for one in shop.account.happened if one.type == "customer.subscription.created"]
    if gone == "invoice":
        shop.account.invoices.clear()
    else:
        object = {"id": "cs_1", "object": "checkout.session", "subscription": sub, "customer": cus}
        payload = json.dumps({"id": event.id, "data": {"object": object}}).encode()
        event = event._replace(type="checkout.session.completed", object="cs_1", payload=payload)
    shop.deliver(event)
    assert shop.contract() == ("pro", "active")


def test_the_final_invoice_after_a_cancellation_is_recorded_and_bills_the_last_period(shop: Shop) -> None:
    cus = shop.customer()
    sub = shop.account.begin(cus, PRO)
    shop.deliver_all()
    shop.move(days=10)
    shop.account.end(sub)
    shop.deliver_all()
    final = shop.account.contracts[sub].latest_invoice
    assert [p[5] for p in shop.state()["periods"]] == [final]
    assert (final, "paid") in [i[:2] for i in shop.state()["invoices"]]


def test_without_a_fallback_the_gate_asks_for_a_payment_after_the_end(tmp_path: Path) -> None:
    from selling.shop import CATALOG

    shop = Shop(tmp_path, catalog=CATALOG.replace('fallback = "free"\n', ""))
    cus = shop.customer()
    check = shop.checking()
    sub = shop.account.begin(cus, PRO)
    shop.deliver_all()
    shop.account.end(sub)
    shop.deliver_all()
    assert check() == "PAYMENT_REQUIRED"
    shop.toll.close()


def test_an_upgrade_cuts_the_period_and_leaves_the_new_limit_less_what_was_used(shop: Shop) -> None:
    cus = shop.customer()
    check = shop.checking()
    sub = shop.account.begin(cus, PRO)
    shop.deliver_all()
    start = shop.account.contracts[sub].anchor
    assert [check() for _ in range(20)] == ["VALID"] * 20
    shop.move(days=10, seconds=7)
    shop.account.upgrade(sub, MAX)
    shop.deliver_all()
    cut = shop.account.contracts[sub].anchor
    assert [(p[0], p[1], p[2]) for p in shop.state()["periods"]] == [
        (start, cut, "pro"),
        (cut, period_at(cut, "UTC", cut)[1], "max"),
    ]
    assert shop.state()["contract"] == [("max", 1, "active", cut, "UTC", None, start)]
    assert [check() for _ in range(21)] == ["VALID"] * 20 + ["QUOTA_EXCEEDED"]
    shop.spine.reopen()
    key = shop.spine.key("acme", environment="live")
    assert shop.spine.app.gate.check(key, "api_calls").code == "QUOTA_EXCEEDED"
    shop.toll = shop.spine.app
    shop.move(days=31)
    assert shop.spine.app.gate.check(key, "api_calls").code == "VALID"


def test_a_trial_counts_from_its_beginning_and_becomes_a_contract_on_its_anchor(shop: Shop) -> None:
    cus = shop.customer()
    sub = shop.account.begin(cus, MAX, trial_days=14)
    shop.deliver_all()
    began = shop.account.contracts[sub].created_at
    assert shop.state()["contract"] == [("max", 1, "trialing", began, "UTC", None, None)]
    shop.move(days=14)
    shop.account.renew(sub)
    shop.deliver_all()
    assert shop.state()["contract"] == [("max", 1, "active", began + 14 * DAY, "UTC", None, None)]


def test_a_dispute_stops_the_calls_until_it_is_won(shop: Shop) -> None:
    cus = shop.customer()
    check = shop.checking()
    sub = shop.account.begin(cus, PRO)
    charge = shop.account.charge_of(str(shop.account.contracts[sub].latest_invoice))
    dispute = shop.account.dispute_of(charge, "needs_response")
    shop.deliver_all()
    assert check() == "PAYMENT_REQUIRED"
    opened = shop.account.disputes[dispute]
    shop.account.dispute_of(charge, "won", dispute)
    shop.deliver_all()
    assert check() == "VALID"
    shop.account.disputes[dispute] = opened  # what an old read would say
    shop.account.tell("charge.dispute.created", dispute, None)
    shop.deliver_all()
    assert check() == "VALID"


def test_a_lost_dispute_stops_the_calls_until_something_is_paid_again(shop: Shop) -> None:
    cus = shop.customer()
    check = shop.checking()
    sub = shop.account.begin(cus, PRO)
    charge = shop.account.charge_of(str(shop.account.contracts[sub].latest_invoice))
    shop.account.dispute_of(charge, "lost")
    shop.deliver_all()
    assert check() == "PAYMENT_REQUIRED"
    shop.move(days=31)
    shop.account.renew(sub)
    shop.deliver_all()
    assert check() == "VALID"


def test_paused_stops_the_calls_and_resumed_lets_them_through(shop: Shop) -> None:
    cus = shop.customer()
    check = shop.checking()
    sub = shop.account.begin(cus, PRO)
    shop.account.pause(sub, True, "k")
    shop.deliver_all()
    assert check() == "PAYMENT_REQUIRED"
    shop.account.pause(sub, False, "k2")
    shop.deliver_all()
    assert check() == "VALID"


def test_a_purchase_that_is_not_paid_yet_takes_nothing_away(shop: Shop) -> None:
    cus = shop.customer()
    shop.account.begin(cus, PRO, status="incomplete")
    shop.deliver_all()
    assert shop.contract() == ("free", "active")


def test_a_status_that_nobody_foresaw_changes_nothing(shop: Shop) -> None:
    cus = shop.customer()
    sub = shop.account.begin(cus, PRO)
    shop.deliver_all()
    shop.account._put(replace(shop.account.contracts[sub], status="pondering"), "customer.subscription.updated")
    shop.deliver_all()
    assert shop.contract() == ("pro", "active")


def test_a_customer_that_is_not_ours_changes_nothing(shop: Shop) -> None:
    shop.customer()
    shop.account.begin("cus_somebody", PRO)
    shop.deliver_all()
    assert shop.contract() == ("free", "active")
    assert shop.state()["known"] == []


def test_live_events_never_touch_test_rows(shop: Shop) -> None:
    cus = shop.customer()
    shop.account.begin(cus, PRO)
    shop.deliver_all()
    plans = {s.environment: s.plan for s in shop.toll.customers.get("acme").subscriptions}
    assert plans == {"live": "pro", "test": "free"}


def test_what_is_left_of_a_period_is_owed_first_when_its_invoice_is_a_draft(shop: Shop) -> None:
    cus = shop.customer()
    check = shop.checking()
    sub = shop.account.begin(cus, PRO)
    shop.deliver_all()
    assert [check() for _ in range(3)] == ["VALID"] * 3
    start, end = shop.state()["periods"][0][:2]
    shop.move(days=31)
    shop.account.renew(sub)
    drafts = [e for e in shop.account.happened if e.type == "invoice.created"]
    invoice = str(shop.account.contracts[sub].latest_invoice)
    paid = shop.account.invoices[invoice]
    shop.account.invoices[invoice] = replace(paid, status="draft", finalized_at=None)
    shop.deliver_all(drafts)
    with shop.toll.database.read() as rows:
        (owed,) = rows.outbox.list(None, None, None, 10)
    assert (owed.customer, owed.meter, owed.period_start, str(owed.quantity)) == ("acme", "api_calls", start, "3")
    assert start < owed.payload["at"] < end
    assert shop.state()["periods"][0][4:] == ("closing", invoice)
    shop.account.invoices[invoice] = paid
    shop.deliver_all()
    assert shop.state()["periods"][0][4:] == ("invoiced", invoice)


STEPS = ("renew", "fail", "settle", "upgrade", "downgrade", "pause", "resume", "dispute", "win", "end", "again")


def live_a_life(shop: Shop, cus: str, steps: list[tuple[str, int]]) -> None:
    """What happens at the provider, step by step; each moves the clock by some days."""
    account = shop.account
    sub = account.begin(cus, PRO)
    charge = account.charge_of(str(account.contracts[sub].latest_invoice))
    dispute: str | None = None
    for step, days in steps:
        one = account.contracts[sub]
        over = one.status == "canceled"
        if step in ("renew", "fail"):
            if not over:
                shop.spine.time.now = max(shop.spine.time.now, one.items[0].period_end * 1000)
                account.renew(sub, paid=step == "renew")
            continue
        shop.move(days=days, seconds=days * 7)
        while not over and account.contracts[sub].items[0].period_end <= shop.now:  # time passed over a period's end
            account.renew(sub)
        if step == "settle" and not over:
            account.settle(sub)
        elif step in ("upgrade", "downgrade") and not over:
            account.upgrade(sub, MAX if step == "upgrade" else PRO)
        elif step in ("pause", "resume") and not over:
            account.pause(sub, step == "pause", step)
        elif step == "dispute" and dispute is None:
            dispute = account.dispute_of(charge, "needs_response")
        elif step == "win" and dispute is not None:
            account.dispute_of(charge, "won", dispute)
        elif step == "end" and not over:
            account.end(sub)
        elif step == "again" and over:
            sub = account.begin(cus, MAX)


lives = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 20)), max_size=8)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(lives, st.randoms(use_true_random=False))
def test_one_life_delivered_in_any_order_with_copies_and_overlaps_ends_in_the_same_state(
    steps: list[tuple[str, int]], chance: random.Random
) -> None:
    with TemporaryDirectory() as folder:
        ends: list[Any] = []
        for way in ("in order, at the end", "in any order"):
            path = Path(folder) / way
            path.mkdir()
            shop = Shop(path)
            cus = shop.customer()
            live_a_life(shop, cus, steps)
            events = list(shop.account.happened)
            if way == "in any order":
                events += chance.choices(events, k=len(events))
                chance.shuffle(events)
                waiting: list[tuple[Any, Any]] = []
                for event in events:  # reads and writes of different events overlap
                    waiting.append((event, shop.effects[event.type].fetch(shop.account, event)))
                    if chance.random() < 0.5:
                        shop.apply(*waiting.pop(chance.randrange(len(waiting))))
                while waiting:
                    shop.apply(*waiting.pop(chance.randrange(len(waiting))))
            else:
                shop.deliver_all(events)
            ends.append(shop.state())
            shop.toll.close()
        assert ends[0] == ends[1]


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(lives, st.randoms(use_true_random=False))
def test_a_life_followed_as_it_happens_ends_where_one_read_at_its_end_does(
    steps: list[tuple[str, int]], chance: random.Random
) -> None:
    """Some events come at once, others late, twice, or with a read from before and a write from after another one."""
    with TemporaryDirectory() as folder:
        ends: list[Any] = []
        for way in ("at the end", "as it happens"):
            path = Path(folder) / way
            path.mkdir()
            shop = Shop(path)
            cus = shop.customer()
            if way == "at the end":
                live_a_life(shop, cus, steps)
                shop.deliver_all()
            else:
                follow(shop, cus, steps, chance)
            ends.append(shop.state())
            shop.toll.close()
        assert ends[0] == ends[1]


def follow(shop: Shop, cus: str, steps: list[tuple[str, int]], chance: random.Random) -> None:
    late: list[Any] = []
    fetched: list[tuple[Any, Any]] = []
    tell = shop.account.tell

    def told(type: str, object: str, customer: str | None) -> None:
        tell(type, object, customer)
        late.append(shop.account.happened[-1])
        for _ in range(chance.randrange(3)):
            event = chance.choice(late)
            try:
                found = shop.effects[event.type].fetch(shop.account, event)
            except KeyError:  # the account's objects are not all there yet in the middle of a step
                continue
            shop.move(seconds=0.001)
            if chance.random() < 0.3:
                fetched.append((event, found))
            else:
                shop.apply(event, found)
            if fetched and chance.random() < 0.3:
                shop.apply(*fetched.pop(chance.randrange(len(fetched))))

    shop.account.tell = told  # type: ignore[method-assign]
    live_a_life(shop, cus, steps)
    shop.account.tell = tell  # type: ignore[method-assign]
    for event in late:
        shop.move(seconds=0.001)
        fetched.append((event, shop.effects[event.type].fetch(shop.account, event)))
    chance.shuffle(fetched)
    for pair in fetched:
        shop.apply(*pair)


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_an_end_is_for_good(shop: Shop, status: str) -> None:
    cus = shop.customer()
    sub = shop.account.begin(cus, PRO)
    one = shop.account.contracts[sub]
    shop.account.contracts[sub] = replace(one, status=status, ended_at=shop.now if status == "canceled" else None)
    shop.deliver_all(shop.account.happened)
    shop.move(days=1)
    shop.account.contracts[sub] = one
    shop.deliver_all()
    assert shop.contract() == ("free", "active")


def test_metadata_that_names_a_purchase_of_somebody_else_gives_neither_of_them_anything(shop: Shop) -> None:
    shop.customer(id="acme")
    theirs = shop.customer(id="other")
    for kind, plan in (("subscription", "pro"), ("payment", "forever")):
        purchase = Purchase(shop.environment, f"pur_{plan}", "stripe", None, "acme", kind, plan, 1, "open", shop.now)  # type: ignore[arg-type]
        with shop.toll.database.write() as rows:
            rows.purchases.put(purchase)
        shop.account.begin(theirs, PRO, {"tollkeeper_purchase": purchase.id})
        shop.account.begin("cus_by_hand", MAX, {"tollkeeper_purchase": purchase.id})
    shop.deliver_all()
    assert shop.state("acme")["purchases"] == [("pur_forever", "open"), ("pur_pro", "open")]
    assert shop.contract("acme") == ("free", "active")
    assert shop.contract("other") == ("pro", "active")
    assert shop.subscriptions.activated == 0
