"""A subscription's life: bought, billed in arrears for what was used, paid, cancelled. The sums are written out."""

from __future__ import annotations

import pytest
import stripe

from sandbox.billing import DAY, HOUR, Desk, at, lines
from sandbox.conftest import Running


@pytest.fixture
def desk(running: Running) -> Desk:
    return Desk(running)


def test_a_metered_subscription_begins_without_an_invoice_and_is_billed_in_arrears(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.metered())
    assert subscription.status == "active"
    assert subscription.latest_invoice is None
    item = subscription["items"]["data"][0]
    assert item["current_period_start"] == at("2027-01-31T15:37:12")
    assert item["current_period_end"] == at("2027-02-28T15:37:12")
    assert "quantity" not in item
    desk.move("2027-02-28T15:37:11")
    desk.use(customer, 1000, "2027-02-10T00:00:00")
    desk.use(customer, "234.5", "2027-02-28T15:37:11")  # the last second of the period
    desk.move("2027-02-28T15:37:12")
    desk.use(customer, 7, "2027-02-28T15:37:12")  # the first of the next
    (draft,) = desk.invoices(subscription.id)
    assert draft.status == "draft"
    assert draft.billing_reason == "subscription_cycle"
    # 1,234.5 × 0.2 = 246.9 → 247
    assert lines(draft) == [("1234.5 × Pro (at $0.002 / month)", 247)]
    line = draft.lines.data[0]
    assert (line.period.start, line.period.end) == (at("2027-01-31T15:37:12"), at("2027-02-28T15:37:12"))
    assert (line.quantity, str(line.quantity_decimal)) == (1234, "1234.5")
    assert line.parent.subscription_item_details.subscription_item == item["id"]
    assert draft.parent.subscription_details.subscription == subscription.id
    # a late event of the old period, while the invoice is a draft: 1,334.5 × 0.2 = 266.9 → 267
    desk.use(customer, 100, "2027-02-28T10:00:00")
    assert desk.v1.invoices.retrieve(draft.id).total == 267
    desk.wait(HOUR)
    (paid,) = desk.invoices(subscription.id)
    assert (paid.status, paid.amount_due, paid.amount_paid, paid.amount_remaining) == ("paid", 267, 267, 0)
    # after finalisation nothing moves
    desk.use(customer, 100, "2027-02-28T10:00:00")
    assert desk.v1.invoices.retrieve(draft.id).total == 267
    desk.move("2027-03-31T16:37:12")
    second = desk.invoices(subscription.id)[1]
    # 7 × 0.2 = 1.4 → 1: below the smallest charge of 50, so it is owed with the next invoice
    assert (second.total, second.amount_due, second.status, second.ending_balance) == (1, 0, "paid", 1)


def test_a_licensed_price_is_paid_ahead_and_the_first_invoice_at_once(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1900), desk.metered())
    assert subscription.status == "active"
    (first,) = desk.invoices(subscription.id)
    assert (first.status, first.billing_reason, first.total) == ("paid", "subscription_create", 1900)
    assert lines(first) == [("1 × Pro (at $19.00 / month)", 1900)]
    desk.use(customer, 5000)
    desk.move("2027-02-28T16:37:12")
    second = desk.invoices(subscription.id)[1]
    # 5,000 × 0.2 = 1,000 used, and 1,900 ahead
    assert lines(second) == [("5000 × Pro (at $0.002 / month)", 1000), ("1 × Pro (at $19.00 / month)", 1900)]
    assert (second.total, second.status) == (2900, "paid")
    assert [line.period.start for line in second.lines.data] == [at("2027-01-31T15:37:12"), at("2027-02-28T15:37:12")]


def test_cancelled_at_once_what_was_used_is_billed_at_once_and_it_never_comes_back(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.metered())
    desk.wait(DAY)
    desk.use(customer, 1000)
    desk.wait(1)
    gone = desk.v1.subscriptions.cancel(subscription.id, {"invoice_now": True})
    assert (gone.status, gone.ended_at, gone.canceled_at) == ("canceled", desk.now, desk.now)
    (final,) = desk.invoices(subscription.id)
    assert (final.total, final.status) == (200, "paid")  # 1,000 × 0.2
    desk.move("2027-06-01T00:00:00")
    assert len(desk.invoices(subscription.id)) == 1
    assert desk.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        desk.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": False})


def test_cancelled_at_the_end_of_the_period_bills_the_usage_and_nothing_ahead(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1900), desk.metered())
    desk.use(customer, 500)
    asked = desk.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert (asked.cancel_at, asked.status) == (at("2027-02-28T15:37:12"), "active")
    desk.move("2027-02-28T15:37:12")
    assert desk.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    final = desk.invoices(subscription.id)[1]
    assert (final.status, final.total) == ("draft", 100)  # 500 × 0.2
    desk.wait(HOUR)
    assert desk.v1.invoices.retrieve(final.id).status == "paid"


def test_the_events_of_a_month_come_in_their_order(desk: Desk) -> None:
    customer = desk.customer()
    desk.subscribe(customer, desk.price(1900))
    assert [name for name in desk.types() if name.startswith(("customer.subscription", "invoice.", "charge", "payment_intent"))] == [
        "invoice.created",
        "customer.subscription.created",
        "payment_intent.created",
        "invoice.finalized",
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.updated",
    ]  # fmt: skip
