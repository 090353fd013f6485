"""Late, voided and amended usage ends on the right line whenever it comes: all invoices together are what the ledger costs, to the cent.

The sums are worked out by hand and held against the rating engine too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from reports.lived import Lived
from sandbox.conftest import Running

D = Decimal
CATALOG = """
currency = "usd"
fallback = "free"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[meters.tokens]
event_type = "llm"
aggregation = "sum"
value_property = "tokens"
[plans.free]
product = "api"
[plans.pro]
product = "api"
prices = [
  {key = "fee", model = "flat", flat_amount = "30"},
  {key = "calls", meter = "api_calls", model = "graduated", tiers = [
    {up_to = "3", unit_amount = "1"}, {up_to = "inf", unit_amount = "0.25"}]},
  {key = "tokens", meter = "tokens", model = "per_unit", unit_amount = "0.01"},
]
[plans.solo]
product = "api"
prices = [{key = "calls", meter = "api_calls", model = "per_unit", unit_amount = "0.50"}]
[plans.duo]
product = "api"
prices = [{key = "calls", meter = "api_calls", model = "per_unit", unit_amount = "0.10"}]
"""
FEBRUARY = datetime(2027, 2, 28, 15, 37, 12, tzinfo=UTC)  # of a month bought on 31 January at 15:37:12
MARCH = datetime(2027, 3, 31, 15, 37, 12, tzinfo=UTC)


class Kathmandu(Lived):
    zone = "Asia/Kathmandu"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[[type[Lived]], Lived]]:
    running = Running()
    houses: list[Lived] = []

    def make(kind: type[Lived] = Lived) -> Lived:
        houses.append(kind(tmp_path, running, CATALOG))
        return houses[0]

    yield make
    for house in houses:
        house.browser.close()
        house.money.close()
        house.toll.close()
    running.stop()


def change(house: Lived, calls: list[str], tokens: list[str], during: datetime) -> None:
    """5 calls become 4 and 250 tokens 190: 3 at 1.00 and 1 at 0.25, and 1.90, instead of 3.50 and 2.50."""
    house.void(*calls[:2])
    house.use(1, during)
    house.amend(tokens[0], tokens=40)


@pytest.mark.parametrize("kind", [Lived, Kathmandu])
@pytest.mark.parametrize("when", ["before the report", "after the report", "while a draft", "after the invoice"])
def test_what_changes_is_billed_once_whenever_it_changes(
    live: Callable[[type[Lived]], Lived], when: str, kind: type[Lived]
) -> None:
    house = live(kind)
    house.buy("pro")
    during = datetime(2027, 2, 14, 18, 20, tzinfo=UTC)  # at 00:05 in Kathmandu
    house.at(during)
    calls = house.use(5)
    tokens = [*house.use(type="llm", tokens=100), *house.use(type="llm", tokens=150)]
    if when == "before the report":
        change(house, calls, tokens, during)
    house.settle()
    if when == "after the report":
        change(house, calls, tokens, during)
        house.settle()
    house.until(FEBRUARY + timedelta(seconds=8))
    if when == "while a draft":
        assert [period.state for period in house.periods()] == ["closing", "open"]
        change(house, calls, tokens, during)
        house.settle()
    house.invoice_now()
    if when == "after the invoice":
        change(house, calls, tokens, during)
        house.settle()
    house.until(MARCH + timedelta(seconds=8))
    house.invoice_now()
    late = when == "after the invoice"
    assert house.invoices() == [
        ("paid", "30.00"),
        ("paid", "36.00" if late else "35.15"),
        ("paid", "29.15" if late else "30.00"),
    ]
    assert house.collected() == house.rated() == D("95.15")
    assert house.money.drift is not None
    house.money.drift.check_all()
    assert house.money.drift.told() == []


def test_usage_on_both_sides_of_the_edge_of_a_month_is_on_two_invoices(live: Callable[[], Lived]) -> None:
    house = live()
    house.buy("solo")
    house.until(FEBRUARY - timedelta(seconds=1))
    house.use(3)  # in the last second
    house.use(4, FEBRUARY)  # the first instant of the next month, from a clock that is ahead
    house.until(FEBRUARY + timedelta(seconds=8))
    house.invoice_now()
    house.use(2, FEBRUARY - timedelta(microseconds=1))
    house.settle()
    house.until(MARCH + timedelta(seconds=8))
    house.invoice_now()
    assert [amount for _, amount in house.invoices()][-2:] == ["1.50", "3.00"]  # 3; then 4, and 2 that came late
    assert house.collected() == house.rated() == D("4.50")


def test_an_upgrade_in_the_middle_of_a_cell_bills_each_call_at_its_own_price(live: Callable[[], Lived]) -> None:
    house = live()
    house.buy("solo")
    house.move(455)  # 15:44:47, in the cell of 15:30 to 15:45
    before = house.use(3)
    house.move(3)
    assert house.money.checkouts is not None
    house.money.checkouts.change("acme", "duo")
    house.move(2)
    house.use(4)
    house.move(300)
    house.settle()
    house.invoice_now()
    house.void(before[0])
    house.use(1, house.now - timedelta(hours=2, minutes=4))
    house.settle()
    first, second = house.periods()
    assert (first.plan, second.plan) == ("solo", "duo")
    house.until(datetime.fromtimestamp(second.end / 1e6, UTC) + timedelta(seconds=8))
    house.invoice_now()
    assert house.collected() == house.rated() == D("1.50")  # 2 at 0.50, 5 at 0.10
