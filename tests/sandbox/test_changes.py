"""Changes of a subscription: proration to the second, credits, coupons, balances, schedules. Every sum is written out.

The clock stands at 31 January 2027, 15:37:12; the period ends on 28 February, 15:37:12, after 28 days = 2,419,200 seconds.
"""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.billing import DAY, Desk, at, lines
from sandbox.conftest import Running


@pytest.fixture
def desk(running: Running) -> Desk:
    return Desk(running)


def item_of(subscription: stripe.Subscription, place: int = 0) -> str:
    return str(subscription["items"]["data"][place]["id"])


def test_an_upgrade_in_the_middle_gives_back_and_bills_to_the_second(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1000))
    desk.move("2027-02-10T03:00:01")  # 818,569 s gone, 1,600,631 s left
    dear = desk.price(2500)
    change: Any = {"items": [{"id": item_of(subscription), "price": dear}], "proration_behavior": "always_invoice"}
    preview = desk.v1.invoices.create_preview({"subscription": subscription.id, "subscription_details": {**change}})
    desk.v1.subscriptions.update(subscription.id, change)
    invoice = desk.invoices(subscription.id)[1]
    # 1,000 × 1,600,631 ÷ 2,419,200 = 661.636… → −662;   2,500 × 1,600,631 ÷ 2,419,200 = 1,654.09… → 1,654
    assert lines(invoice) == [
        ("Unused time on Pro after 10 Feb 2027", -662),
        ("Remaining time on Pro after 10 Feb 2027", 1654),
    ]
    assert lines(preview) == lines(invoice)
    assert (invoice.total, invoice.status, invoice.billing_reason) == (992, "paid", "subscription_update")
    assert all(line.parent.subscription_item_details.proration for line in invoice.lines.data)
    item = desk.v1.subscriptions.retrieve(subscription.id)["items"]["data"][0]
    assert item["current_period_end"] == at("2027-02-28T15:37:12")


def test_prorations_wait_for_the_next_invoice_and_a_credit_is_of_what_was_billed(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(3000))
    item = item_of(subscription)
    desk.wait(14 * DAY)
    desk.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "price": desk.price(1000)}]})
    desk.wait(7 * DAY)
    desk.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "quantity": 3}]})
    assert len(desk.invoices(subscription.id)) == 1
    desk.move("2027-02-28T16:37:12")
    invoice = desk.invoices(subscription.id)[1]
    # after 14 of 28 days: −3,000 × 14 ÷ 28 = −1,500 and 1,000 × 14 ÷ 28 = 500;
    # after 21 days: −500 × 7 ÷ 14 = −250 and 3 × 1,000 × 7 ÷ 28 = 750; then 3 × 1,000 ahead
    assert sorted(amount for _, amount in lines(invoice)) == [-1500, -250, 500, 750, 3000]
    assert (invoice.total, invoice.status) == (2500, "paid")


def test_a_credit_larger_than_the_invoice_becomes_balance_and_is_used(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(9000))
    desk.wait(14 * DAY)
    desk.v1.subscriptions.update(
        subscription.id,
        {"items": [{"id": item_of(subscription), "price": desk.price(1000)}], "proration_behavior": "always_invoice"},
    )
    credit = desk.invoices(subscription.id)[1]
    # −9,000 ÷ 2 + 1,000 ÷ 2 = −4,000
    assert (credit.total, credit.amount_due, credit.ending_balance, credit.status) == (-4000, 0, -4000, "paid")
    assert desk.v1.customers.retrieve(customer).balance == -4000
    desk.move("2027-02-28T16:37:12")
    following = desk.invoices(subscription.id)[2]
    assert (following.total, following.starting_balance, following.amount_due, following.ending_balance) == (
        1000,
        -4000,
        0,
        -3000,
    )
    kinds = [row.type for row in desk.v1.customers.balance_transactions.list(customer).data]
    assert kinds == ["applied_to_invoice", "applied_to_invoice"]


def test_a_change_that_begins_a_new_period_bills_what_was_used_before_it_at_the_old_price(desk: Desk) -> None:
    customer = desk.customer()
    cheap, dear = desk.metered(unit_amount_decimal="0.2"), desk.metered(unit_amount_decimal="0.5")
    subscription = desk.subscribe(customer, cheap)
    desk.wait(DAY)
    desk.use(customer, 1000)
    desk.wait(DAY)
    change: Any = {
        "items": [{"id": item_of(subscription), "deleted": True}, {"price": dear}],
        "billing_cycle_anchor": {"type": "now"},
        "proration_behavior": "always_invoice",
    }
    changed = desk.v1.subscriptions.update(subscription.id, change)
    desk.use(customer, 100)
    (first,) = desk.invoices(subscription.id)
    assert (first.total, first.status) == (200, "paid")  # 1,000 × 0.2
    assert first.lines.data[0].pricing.price_details.price == cheap
    item = changed["items"]["data"][0]
    assert (item["current_period_start"], changed.billing_cycle_anchor) == (at("2027-02-02T15:37:12"),) * 2
    desk.move("2027-03-02T16:37:12")
    assert desk.invoices(subscription.id)[1].total == 50  # 100 × 0.5


def test_usage_before_and_after_a_change_of_price_stands_on_two_lines_of_the_next_invoice(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.metered(unit_amount_decimal="1"))
    desk.wait(DAY)
    desk.use(customer, 300)
    desk.wait(1)
    desk.v1.subscriptions.update(
        subscription.id, {"items": [{"id": item_of(subscription), "price": desk.metered(unit_amount_decimal="2")}]}
    )
    desk.use(customer, 50)
    desk.move("2027-02-28T16:37:12")
    (invoice,) = desk.invoices(subscription.id)
    assert [amount for _, amount in lines(invoice)] == [300, 100]  # 300 × 1, 50 × 2


def test_graduated_tiers_stand_on_a_line_each_with_their_flat_amounts(desk: Desk) -> None:
    customer = desk.customer()
    price = desk.metered(
        billing_scheme="tiered",
        tiers_mode="graduated",
        tiers=[
            {"up_to": 1000, "unit_amount_decimal": "0"},
            {"up_to": 10_000, "unit_amount_decimal": "0.2", "flat_amount": 500},
            {"up_to": "inf", "unit_amount_decimal": "0.1"},
        ],
    )
    subscription = desk.subscribe(customer, price)
    desk.use(customer, "12345.5")
    desk.move("2027-02-28T16:37:12")
    (invoice,) = desk.invoices(subscription.id)
    # 1,000 × 0; 9,000 × 0.2 = 1,800; 500; 2,345.5 × 0.1 = 234.55 → 235
    assert lines(invoice) == [
        ("1000 × Pro (Tier 1 at $0.00 / month)", 0),
        ("9000 × Pro (Tier 2 at $0.002 / month)", 1800),
        ("Pro (Tier 2 at $5.00 / month)", 500),
        ("2345.5 × Pro (Tier 3 at $0.001 / month)", 235),
    ]
    assert invoice.total == 2535


def test_month_ends_come_back_and_leap_days_too(desk: Desk) -> None:
    customer = desk.customer()
    desk.move("2028-01-31T15:37:12")
    subscription = desk.subscribe(customer, desk.price(1000))
    ends = []
    for _ in range(4):
        end = desk.v1.subscriptions.retrieve(subscription.id)["items"]["data"][0]["current_period_end"]
        ends.append(end)
        desk.wait(end - desk.now)
    assert ends == [at(f"2028-{day}T15:37:12") for day in ("02-29", "03-31", "04-30", "05-31")]


def test_an_anchor_in_the_future_makes_a_first_period_that_is_cut(desk: Desk) -> None:
    customer = desk.customer()
    anchor = at("2027-02-14T15:37:12")
    subscription = desk.subscribe(customer, desk.price(1000), billing_cycle_anchor=anchor)
    (first,) = desk.invoices(subscription.id)
    # the whole period is 14 January to 14 February, 31 days, of which 14 are left: 1,000 × 14 ÷ 31 = 451.6… → 452
    assert first.total == 452
    desk.move("2027-02-14T16:37:12")
    assert desk.invoices(subscription.id)[1].total == 1000


def test_items_of_several_intervals_have_periods_of_their_own(desk: Desk) -> None:
    customer = desk.customer()
    yearly = desk.price(12_000, recurring={"interval": "year"})
    subscription = desk.subscribe(customer, yearly, desk.metered())
    assert "current_period_end" not in subscription
    ends = [item["current_period_end"] for item in subscription["items"]["data"]]
    assert ends == [at("2028-01-31T15:37:12"), at("2027-02-28T15:37:12")]
    desk.use(customer, 1000)
    desk.move("2027-02-28T16:37:12")
    assert [row.total for row in desk.invoices(subscription.id)] == [12_000, 200]
    desk.move("2028-01-31T16:37:12")
    assert desk.invoices(subscription.id)[-1].total == 12_000


def test_cancelled_with_proration_the_rest_is_given_back(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(2800), desk.metered())
    desk.wait(7 * DAY)
    desk.use(customer, 1000)
    desk.wait(1)
    desk.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    final = desk.invoices(subscription.id)[1]
    # 21 days less a second of 28: −2,800 × 1,814,399 ÷ 2,419,200 = −2,099.99… → −2,100;  1,000 × 0.2 = 200
    assert sorted(amount for _, amount in lines(final)) == [-2100, 200]
    assert (final.total, desk.v1.customers.retrieve(customer).balance) == (-1900, -1900)


def test_an_amount_off_once_is_off_the_first_invoice_only(desk: Desk) -> None:
    customer = desk.customer()
    coupon = desk.v1.coupons.create({"amount_off": 300, "currency": "usd", "duration": "once"})
    subscription = desk.subscribe(customer, desk.price(1000), discounts=[{"coupon": coupon.id}])
    desk.move("2027-02-28T16:37:12")
    first, second = desk.invoices(subscription.id)
    assert (first.subtotal, first.total, first.total_discount_amounts[0].amount) == (1000, 700, 300)
    assert (second.total, second.total_discount_amounts) == (1000, [])


def test_a_tax_rate_comes_on_top_of_what_the_discount_left(desk: Desk) -> None:
    customer = desk.customer()
    rate = desk.v1.tax_rates.create({"display_name": "VAT", "percentage": 19, "inclusive": False}).id
    coupon = desk.v1.coupons.create({"percent_off": 10, "duration": "forever"})
    subscription = desk.subscribe(
        customer, desk.price(1999), default_tax_rates=[rate], discounts=[{"coupon": coupon.id}]
    )
    (invoice,) = desk.invoices(subscription.id)
    # 1,999 × 10 % = 199.9 → 200 off; (1,999 − 200) × 19 % = 341.81 → 342; 1,799 + 342 = 2,141
    assert (invoice.total_excluding_tax, invoice.total_taxes[0].amount, invoice.total) == (1799, 342, 2141)


def test_a_schedule_changes_the_plan_at_the_end_of_the_period(desk: Desk) -> None:
    customer = desk.customer()
    cheap, dear = desk.price(1000), desk.price(2500)
    subscription = desk.subscribe(customer, cheap)
    schedule = desk.v1.subscription_schedules.create({"from_subscription": subscription.id})
    item = subscription["items"]["data"][0]
    end = item["current_period_end"]
    phases: Any = [
        {"items": [{"price": cheap, "quantity": 1}], "start_date": item["current_period_start"], "end_date": end},
        {"items": [{"price": dear, "quantity": 2}], "start_date": end},
    ]
    desk.v1.subscription_schedules.update(
        schedule.id, {"phases": phases, "end_behavior": "release", "proration_behavior": "none"}
    )
    desk.move("2027-02-28T16:37:12")
    assert [row.total for row in desk.invoices(subscription.id)] == [1000, 5000]
    desk.move("2027-03-31T16:37:12")
    assert desk.invoices(subscription.id)[2].total == 5000
    assert desk.v1.subscriptions.retrieve(subscription.id).schedule is None


def test_a_phase_lasts_as_long_as_it_says(desk: Desk) -> None:
    customer = desk.customer()
    cheap, dear = desk.price(1000), desk.price(2500)
    subscription = desk.subscribe(customer, cheap)
    schedule = desk.v1.subscription_schedules.create({"from_subscription": subscription.id})
    item = subscription["items"]["data"][0]
    start, end = item["current_period_start"], item["current_period_end"]
    first: Any = {"items": [{"price": cheap}], "start_date": start, "end_date": end}
    second: Any = {"items": [{"price": dear}], "duration": {"interval": "month", "interval_count": 2}}
    changed = desk.v1.subscription_schedules.update(schedule.id, {"phases": [first, second]})
    assert [(phase.start_date, phase.end_date) for phase in changed.phases] == [
        (start, end),
        (end, at("2027-04-28T15:37:12")),
    ]
    with pytest.raises(stripe.InvalidRequestError, match="only specify one"):
        desk.v1.subscription_schedules.update(schedule.id, {"phases": [first, {**second, "end_date": end + DAY}]})


def test_a_change_is_previewed_for_any_second_of_the_period(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1000))
    dear, item = desk.price(2500), item_of(subscription)

    def preview(date: str) -> list[tuple[str, int]]:
        details: Any = {
            "items": [{"id": item, "price": dear}],
            "proration_behavior": "always_invoice",
            "proration_date": at(date),
        }
        return lines(
            desk.v1.invoices.create_preview({"subscription": subscription.id, "subscription_details": details})
        )

    # as in the change of 10 February above, though nothing of the period has passed yet
    assert [amount for _, amount in preview("2027-02-10T03:00:01")] == [-662, 1654]
    # 2,232 s left: −1,000 × 2,232 ÷ 2,419,200 = −0.92… → −1; 2,500 × 2,232 ÷ 2,419,200 = 2.30… → 2
    assert [amount for _, amount in preview("2027-02-28T15:00:00")] == [-1, 2]
    for outside in ("2027-01-31T15:37:11", "2027-02-28T15:37:12"):
        with pytest.raises(stripe.InvalidRequestError, match="outside of the current billing period"):
            preview(outside)


def test_the_preview_of_the_next_invoice_is_what_comes(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1000), desk.metered())
    desk.v1.invoice_items.create({"customer": customer, "amount": -150, "currency": "usd", "description": "Sorry"})
    desk.use(customer, 4000)
    preview = desk.v1.invoices.create_preview({"subscription": subscription.id})
    desk.move("2027-02-28T16:37:12")
    invoice = desk.invoices(subscription.id)[1]
    assert lines(preview) == lines(invoice) == [
        ("Sorry", -150),
        ("4000 × Pro (at $0.002 / month)", 800),
        ("1 × Pro (at $10.00 / month)", 1000),
    ]  # fmt: skip
    assert preview.total == invoice.total == 1650
    assert (preview.period_start, preview.period_end) == (invoice.period_start, invoice.period_end)


@pytest.mark.parametrize(
    ("behavior", "status"), [("void", "void"), ("mark_uncollectible", "uncollectible"), ("keep_as_draft", "draft")]
)
def test_while_collection_is_paused_invoices_are_not_paid(desk: Desk, behavior: str, status: str) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1000))
    pause: Any = {"pause_collection": {"behavior": behavior}}
    desk.v1.subscriptions.update(subscription.id, pause)
    desk.move("2027-03-01T00:00:00")
    assert desk.invoices(subscription.id)[1].status == status
    desk.v1.subscriptions.update(subscription.id, {"pause_collection": ""})
    desk.move("2027-03-31T16:37:12")
    assert desk.invoices(subscription.id)[2].status == "paid"


@pytest.mark.parametrize(("behavior", "status"), [("void", "void"), ("mark_uncollectible", "uncollectible")])
def test_invoices_of_a_pause_are_settled_at_once_without_the_customers_balance_and_not_announced(
    desk: Desk, behavior: str, status: str
) -> None:
    customer = desk.customer()
    desk.v1.customers.balance_transactions.create(customer, {"amount": -5000, "currency": "usd"})
    price = desk.price(1000)
    subscription = desk.subscribe(customer, price)
    before = desk.v1.customers.retrieve(customer).balance
    pause: Any = {"pause_collection": {"behavior": behavior}}
    desk.v1.subscriptions.update(subscription.id, pause)
    desk.move("2027-02-28T15:37:12")
    invoice = desk.invoices(subscription.id)[1]
    assert (invoice.status, invoice.total, invoice.amount_due) == (status, 1000, 1000)
    assert invoice.status_transitions.finalized_at == desk.now
    assert desk.v1.customers.retrieve(customer).balance == before
    assert desk.v1.events.list({"type": "invoice.upcoming"}).data == []


@pytest.mark.parametrize("now", [True, False])
def test_the_final_invoice_of_a_paused_subscription_is_void(desk: Desk, now: bool) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1000))
    pause: Any = {"pause_collection": {"behavior": "void"}}
    desk.v1.subscriptions.update(subscription.id, pause)
    desk.v1.invoice_items.create({"customer": customer, "amount": 700, "currency": "usd"})
    if now:
        desk.v1.subscriptions.cancel(subscription.id, {"invoice_now": True})
    else:
        desk.v1.subscriptions.update(subscription.id, {"cancel_at": "max_period_end"})
        desk.move("2027-03-01T00:00:00")
    assert [(one.status, one.total) for one in desk.invoices(subscription.id)[1:]] == [("void", 700)]


def test_an_update_tells_what_was_there_before(desk: Desk) -> None:
    customer = desk.customer()
    subscription = desk.subscribe(customer, desk.price(1000), metadata={"a": "1"})
    desk.v1.subscriptions.update(subscription.id, {"metadata": {"a": "2"}, "cancel_at": "max_period_end"})
    event = desk.v1.events.list({"type": "customer.subscription.updated", "limit": 1}).data[0]
    previous = event.data.previous_attributes
    assert previous is not None
    assert previous["metadata"].to_dict() == {"a": "1"}
    assert previous["cancel_at"] is None
    assert event.data.object["cancel_at"] == at("2027-02-28T15:37:12")
