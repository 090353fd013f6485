"""Cost to date: usage of the running period, rated, in the customer's currency."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from spine import DAY, Spine
from tollkeeper.core.errors import NotFound
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.plans import Price
from tollkeeper.core.rating import rate, total
from tollkeeper.core.usage import UsageRow
from tollkeeper.services.rating import Cost
from tollkeeper.services.usage import UsageAnswer

CATALOG = """
currency = "usd"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"

[meters.tokens]
event_type = "llm.completion"
aggregation = "sum"
value_property = "tokens"

[plans.free]

[plans.pro]
[[plans.pro.prices]]
key = "fee"
model = "flat"
flat_amount = "9"
[[plans.pro.prices]]
key = "setup"
model = "flat"
flat_amount = "50"
interval = "once"
[[plans.pro.prices]]
key = "seat"
model = "flat"
flat_amount = "120"
interval = "year"
[[plans.pro.prices]]
key = "calls"
meter = "api_calls"
model = "graduated"
tiers = [{up_to = 2, unit_amount = 0}, {up_to = "inf", unit_amount = "0.005"}]
[[plans.pro.prices]]
key = "tokens_year"
meter = "tokens"
model = "per_unit"
unit_amount = "0.001"
interval = "year"
[[plans.pro.prices]]
key = "calls_eur"
currency = "eur"
meter = "api_calls"
model = "per_unit"
unit_amount = "0.004"
"""


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    spine = Spine(tmp_path, CATALOG)
    yield spine
    spine.app.close()


def send(spine: Spine, customer: str, quantity: int, type: str = "api.call", **fields: Any) -> None:
    """One event for each unit of a count; one with `tokens` of a sum."""
    at = datetime.fromtimestamp(spine.time.now // 10**9, UTC)
    data = None if type == "api.call" else {"tokens": quantity}
    for n in range(quantity if data is None else 1):
        event = UsageEvent(
            id=f"{type}-{spine.time.now}-{customer}-{n}", type=type, source="t", customer=customer, time=at, data=data
        )
        [result] = spine.app.ingest.ingest_wait(fields.get("environment", "live"), [event])
        assert result.status == "accepted", result


def amounts(cost: Cost) -> dict[str, str | None]:
    return {one.price.key: None if one.rated is None else str(one.rated.amount) for one in cost.prices}


def totals(cost: Cost) -> list[tuple[str, int, str | None]]:
    return [
        (one.currency, (one.end - one.start) // 86_400_000_000, None if one.amount is None else str(one.amount))
        for one in cost.totals
    ]


def test_each_price_of_the_plan_is_rated_over_its_own_interval_in_the_customers_currency(spine: Spine) -> None:
    customer = spine.customer("pro")
    send(spine, customer, 5)
    send(spine, customer, 2000, "llm.completion")
    cost = spine.app.rating.cost(customer)
    assert amounts(cost) == {"fee": "9.00", "setup": "50.00", "seat": "120.00", "calls": "0.02", "tokens_year": "2.00"}
    assert [(one.price.key, one.quantity) for one in cost.prices if one.price.meter] == [
        ("calls", Decimal(5)),
        ("tokens_year", Decimal(2000)),
    ]
    assert totals(cost) == [("usd", 30, "59.02"), ("usd", 365, "122.00")]
    assert [price.key for price in cost.left_out] == ["calls_eur"]
    assert (cost.plan, cost.plan_version, cost.currency) == ("pro", 1, "usd")


def test_a_customer_pays_in_its_own_currency_alone(spine: Spine) -> None:
    customer = spine.customer("pro", currency="eur")
    send(spine, customer, 3)
    cost = spine.app.rating.cost(customer)
    assert amounts(cost) == {"calls_eur": "0.01"}
    assert totals(cost) == [("eur", 30, "0.01")]
    assert len(cost.left_out) == 5


def test_the_next_period_begins_at_nothing_and_a_price_charged_once_is_charged_once(spine: Spine) -> None:
    customer = spine.customer("pro")
    send(spine, customer, 5)
    send(spine, customer, 2000, "llm.completion")
    spine.time.move(31 * DAY)
    send(spine, customer, 4)
    send(spine, customer, 1000, "llm.completion")
    cost = spine.app.rating.cost(customer)
    assert amounts(cost) == {"fee": "9.00", "seat": "120.00", "calls": "0.01", "tokens_year": "3.00"}
    assert totals(cost) == [("usd", 31, "9.01"), ("usd", 365, "123.00")]


def test_a_period_ends_at_its_instant_also_in_the_middle_of_a_quarter_of_an_hour(spine: Spine) -> None:
    customer = spine.customer("pro", zone="Asia/Kathmandu")
    end = spine.app.rating.cost(customer).end
    assert end % 900_000_000 != 0
    spine.time.now = (end - 1_000_000) * 1000
    send(spine, customer, 3)
    assert amounts(spine.app.rating.cost(customer))["calls"] == "0.01"
    spine.time.now = end * 1000
    send(spine, customer, 5)
    cost = spine.app.rating.cost(customer)
    assert (cost.start, amounts(cost)["calls"]) == (end, "0.02")


def test_live_and_test_and_customers_are_rated_apart(spine: Spine) -> None:
    one, other = spine.customer("pro"), spine.customer("pro")
    send(spine, one, 4)
    send(spine, other, 6, environment="test")
    found = {
        (customer, environment): amounts(spine.app.rating.cost(customer, environment))["calls"]
        for customer in (one, other)
        for environment in ("live", "test")
    }
    assert list(found.values()) == ["0.01", "0.00", "0.00", "0.02"]


def test_without_a_plan_or_a_price_nothing_is_charged(spine: Spine) -> None:
    for plan in ("free", None):
        cost = spine.app.rating.cost(spine.customer(plan, currency="usd"))
        assert (cost.plan, cost.prices, cost.totals, cost.left_out) == (plan, (), (), ())
    with pytest.raises(NotFound):
        spine.app.rating.cost("nobody")


def test_a_moved_customer_pays_by_the_plan_version_it_is_on_and_keeps_its_period(spine: Spine) -> None:
    customer = spine.customer("free")
    send(spine, customer, 5)
    spine.time.move(DAY)
    start = spine.app.rating.cost(customer).start
    spine.app.customers.move(customer, "pro")
    cost = spine.app.rating.cost(customer)
    assert (amounts(cost)["calls"], cost.start) == ("0.02", start)
    spine.app.catalog.apply(CATALOG.replace('"0.005"', '"0.5"'))
    assert amounts(spine.app.rating.cost(customer))["calls"] == "0.02"
    spine.app.customers.move(customer, "pro")
    assert amounts(spine.app.rating.cost(customer))["calls"] == "1.50"


def test_an_unknown_usage_is_no_zero_and_makes_its_total_unknown(spine: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    customer = spine.customer("pro")
    spine.time.move(-100 * DAY)  # the usage file knows nothing of that time
    cost = spine.app.rating.cost(customer)
    assert amounts(cost)["calls"] is None
    assert {one.price.key: one.state for one in cost.prices}["calls"] == "unknown"
    assert totals(cost)[0][2] is None
    spine.time.move(100 * DAY)

    def no_meter(*_: Any, **__: Any) -> UsageAnswer:
        raise NotFound

    monkeypatch.setattr(spine.app.usage, "query", no_meter)
    assert amounts(spine.app.rating.cost(customer))["calls"] is None


def test_a_meter_that_had_nothing_to_take_a_value_of_counts_as_no_usage(
    spine: Spine, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = spine.customer("pro")
    row = UsageRow(0, 1, {}, None, 0, "known")  # a maximum or latest value without an event
    monkeypatch.setattr(spine.app.usage, "query", lambda meter, **_: UsageAnswer(meter, "0", [row]))
    cost = spine.app.rating.cost(customer)
    assert {one.price.key: one.quantity for one in cost.prices}["calls"] == 0
    assert {one.state for one in cost.prices} == {"known"}


def test_amounts_of_two_currencies_are_never_added_up() -> None:
    one, other = (rate(Price("k", "flat", currency, flat_amount=Decimal(1)), 0) for currency in ("usd", "eur"))
    assert total([one, one]) == (2, 2)
    for mixed in ([one, other], []):
        with pytest.raises(ValueError, match="within one currency"):
            total(mixed)
