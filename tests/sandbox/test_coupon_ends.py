"""A coupon counts for what is billed while it lasts, on invoices, in previews and in what is given back."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.billing import Desk
from sandbox.conftest import Running


@pytest.fixture
def desk(running: Running) -> Desk:
    return Desk(running)


def half(desk: Desk) -> str:
    """Half of everything for one month."""
    return desk.v1.coupons.create({"percent_off": 50, "duration": "repeating", "duration_in_months": 1}).id


def test_a_preview_of_an_invoice_that_is_made_when_a_coupon_ends_is_without_it(desk: Desk) -> None:
    bought = desk.subscribe(desk.customer(), desk.price(1000), discounts=[{"coupon": half(desk)}])
    assert desk.v1.invoices.create_preview({"subscription": bought.id}).total == 1000
    desk.move("2027-02-28T18:00:00")
    assert [one.total for one in desk.invoices(bought.id)] == [500, 1000]


@pytest.mark.parametrize(
    ("day", "back"),
    [
        ("2027-02-14T15:37:12", -250),  # 500 × 14 ÷ 28 days
        ("2027-03-10T15:37:12", -677),  # 1,000 × 21 ÷ 31 days = 677.4
    ],
)
def test_what_is_given_back_is_what_was_paid_with_the_coupon_or_after_it(desk: Desk, day: str, back: int) -> None:
    bought = desk.subscribe(desk.customer(), desk.price(1000), discounts=[{"coupon": half(desk)}])
    desk.move(day)
    items: Any = [{"id": bought["items"].data[0].id, "price": desk.price(3000)}]
    desk.v1.subscriptions.update(bought.id, {"items": items, "proration_behavior": "always_invoice"})
    assert [line.amount for line in desk.invoices(bought.id)[-1].lines.data if line.amount < 0] == [back]


def test_a_preview_by_a_schedule_has_the_plan_of_its_next_phase(desk: Desk) -> None:
    bought = desk.subscribe(desk.customer(), desk.price(1000))
    made = desk.v1.subscription_schedules.create({"from_subscription": bought.id})
    (item,) = bought["items"].data
    desk.v1.subscription_schedules.update(
        made.id,
        {
            "phases": [
                {
                    "items": [{"price": item.price.id, "quantity": 1}],
                    "start_date": item.current_period_start,
                    "end_date": item.current_period_end,
                },
                {"items": [{"price": desk.price(400), "quantity": 1}]},
            ]
        },
    )
    assert desk.v1.invoices.create_preview({"schedule": made.id}).total == 400
    desk.move("2027-02-28T18:00:00")
    assert [one.total for one in desk.invoices(bought.id)] == [1000, 400]
