"""What is rated here is on every invoice that it belongs on: the one that is shown ahead, and the last one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from reports.lived import Lived
from sandbox.conftest import Running

CATALOG = """
currency = "usd"
fallback = "free"
[meters.calls]
event_type = "api.call"
aggregation = "count"
[plans.free]
product = "api"
[plans.least]
product = "api"
prices = [{key = "calls", meter = "calls", model = "per_unit", unit_amount = "1", minimum = "5"}]
[plans.pro]
product = "api"
prices = [
  {key = "fee", model = "flat", flat_amount = "30"},
  {key = "calls", meter = "calls", model = "per_unit", unit_amount = "0.10", maximum = "2"},
]
[plans.calls]
product = "api"
prices = [{key = "calls", meter = "calls", model = "per_unit", unit_amount = "0.10"}]
[plans.small]
product = "api"
prices = [
  {key = "fee", model = "flat", flat_amount = "7"},
  {key = "calls", meter = "calls", model = "per_unit", unit_amount = "0.10"},
]
"""
END = datetime(2027, 2, 28, 15, 37, 12, tzinfo=UTC)


@pytest.fixture
def house(tmp_path: Path, running: Running) -> Iterator[Lived]:
    made = Lived(tmp_path, running, CATALOG)
    yield made
    made.browser.close()
    made.money.close()
    made.toll.close()


def previewed(house: Lived) -> Decimal:
    assert house.money.checkouts is not None
    return house.money.checkouts.preview("acme").total


def close_ends(house: Lived) -> None:
    assert house.money.subscriptions is not None
    house.money.subscriptions.close_ends()
    house.settle()


@pytest.mark.parametrize(("used", "owed"), [(0, "5.00"), (2, "5.00"), (7, "7.00")])
@pytest.mark.parametrize("when", ["now", "period_end"])
def test_what_is_rated_here_is_owed_though_the_provider_had_nothing_to_invoice_at_the_end(
    house: Lived, when: str, used: int, owed: str
) -> None:
    house.buy("least")
    house.move(86_400)
    house.use(used)
    house.settle()
    house.move(60)
    assert house.money.checkouts is not None
    house.money.checkouts.cancel("acme", when)  # type: ignore[arg-type]
    house.settle()
    if when == "period_end":
        house.until(END + timedelta(seconds=8))
    assert house.contract() == ("free", "active")
    assert house.collected() == 0
    close_ends(house)
    assert [period.state for period in house.periods()] == ["open"]  # one may still come
    house.move(3601)
    close_ends(house)
    close_ends(house)
    house.invoice_now()
    assert [period.state for period in house.periods()] == ["invoiced"]
    assert [one for one in house.invoices() if one[1] != "0.00"] == [("paid", owed)]
    house.use(3)  # after the end: nobody's
    house.settle()
    close_ends(house)
    assert house.collected() == Decimal(owed)


def test_late_usage_of_a_contract_that_ended_without_an_invoice_is_owed_too(house: Lived) -> None:
    house.buy("least")
    house.move(86_400)
    during = house.now
    house.move(60)
    assert house.money.checkouts is not None
    house.money.checkouts.cancel("acme", "now")
    house.move(3700)
    close_ends(house)
    house.use(9, during)
    house.settle()
    house.invoice_now()
    assert house.collected() == house.rated() == 9


def test_a_preview_is_the_invoice_with_what_is_rated_here_and_the_plan_that_follows(house: Lived) -> None:
    house.buy("pro")
    house.move(86_400)
    house.use(25)
    house.settle()
    assert previewed(house) == Decimal("32.00")  # 25 × 0.10 = 2.50, of which 2 at most
    assert house.money.checkouts is not None
    house.money.checkouts.change("acme", "small")
    assert previewed(house) == Decimal("9.00")
    house.until(END + timedelta(seconds=8))
    house.invoice_now()
    assert house.invoices() == [("paid", "30.00"), ("paid", "9.00")]
    house.use(4)
    house.settle()
    assert previewed(house) == Decimal("7.40")


def test_a_month_for_which_the_provider_had_nothing_to_invoice_is_on_the_next_invoice_and_in_its_preview(
    house: Lived,
) -> None:
    house.buy("pro")
    assert house.money.checkouts is not None
    house.money.checkouts.change("acme", "calls", "period_end")  # nothing is paid ahead there
    house.move(86_400)
    house.use(25)
    house.until(END + timedelta(seconds=8))
    house.invoice_now()
    assert house.invoices() == [("paid", "30.00")]
    assert previewed(house) == Decimal("2.00")
    house.use(4)
    house.settle()
    assert previewed(house) == Decimal("2.40")
    house.until(datetime(2027, 3, 31, 15, 37, 20, tzinfo=UTC))
    house.invoice_now()
    assert house.invoices() == [("paid", "30.00"), ("paid", "2.40")]


def test_a_coupon_is_taken_off_what_is_rated_here_in_the_preview_as_on_the_invoice(house: Lived) -> None:
    coupon = house.running.client.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    assert house.money.checkouts is not None
    house.coupon = coupon.id
    house.buy("pro")
    house.move(86_400)
    house.use(10)
    house.settle()
    assert previewed(house) == Decimal("15.50")
    house.until(END + timedelta(seconds=8))
    house.invoice_now()
    assert house.invoices() == [("paid", "15.00"), ("paid", "15.50")]
