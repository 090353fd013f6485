"""A subscription's life goes on after a restart of the sandbox, and two sandboxes on one seed live the same life."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import stripe

from sandbox.billing import DAY, HOUR, Desk
from sandbox.conftest import Running


def told(desk: Desk, subscription: str) -> list[tuple[Any, ...]]:
    return [
        (row.number, row.status, row.total, row.attempt_count, row.created, [line.id for line in row.lines.data])
        for row in desk.invoices(subscription)
    ]


def test_what_was_due_after_a_restart_is_done_after_it(tmp_path: Path) -> None:
    file = tmp_path / "sandbox.db"
    first = Running(file)
    desk = Desk(first)
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1000), desk.metered()).id
    desk.use(customer, 1000)
    method = desk.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer}).id
    desk.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method}})
    desk.wait(28 * DAY)
    before = desk.now
    first.stop()
    second = Running(file)
    try:
        v1 = second.client.v1
        assert second.control("/clock")["seconds"] == before
        second.control("/clock", {"advance": HOUR + 3 * DAY, "frozen": True})
        invoice = v1.invoices.list({"subscription": subscription}).data[0]
        assert (invoice.status, invoice.total, invoice.attempt_count) == ("open", 1200, 2)
        assert v1.subscriptions.retrieve(subscription).status == "past_due"
        v1.subscriptions.update(subscription, {"metadata": {"a": "b"}})
        item = v1.subscriptions.retrieve(subscription)["items"]["data"][0]["id"]
        v1.subscription_items.update(item, {"quantity": 2, "proration_behavior": "none"})
        v1.subscriptions.cancel(subscription)
        second.control("/clock", {"advance": 60 * DAY, "frozen": True})
        assert len(v1.invoices.list({"subscription": subscription}).data) == 2
    finally:
        second.stop()


def test_the_same_calls_at_the_same_instants_make_the_same_invoices() -> None:
    lives = []
    for steps in ([40 * DAY], [DAY] * 40):
        running = Running()
        try:
            desk = Desk(running)
            customer = desk.customer()
            subscription = desk.subscribe(customer, desk.price(1000), desk.metered()).id
            desk.use(customer, 4321)
            for step in steps:
                desk.wait(step)
            lives.append((told(desk, subscription), desk.types()))
        finally:
            running.stop()
    assert lives[0] == lives[1]


def test_a_customer_on_a_test_clock_lives_by_it_alone() -> None:
    running = Running()
    try:
        desk = Desk(running)
        clock = desk.v1.test_helpers.test_clocks.create({"frozen_time": desk.now, "name": "ahead"}).id
        ahead, still = desk.customer(test_clock=clock), desk.customer()
        price = desk.price(1000)
        mine, other = desk.subscribe(ahead, price).id, desk.subscribe(still, price).id
        desk.v1.test_helpers.test_clocks.advance(clock, {"frozen_time": desk.now + 29 * DAY})
        held: stripe.test_helpers.TestClock = desk.v1.test_helpers.test_clocks.retrieve(clock)
        assert held.status == "ready"
        assert [row.status for row in desk.invoices(mine)] == ["paid", "paid"]
        assert len(desk.invoices(other)) == 1
    finally:
        running.stop()
