"""Customers and subscriptions that the account has already."""

from __future__ import annotations

from typing import Any

import pytest

from desk import SECOND
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.services.clock import Clock
from tollkeeper.services.provider_import import ProviderImport
from tollkeeper.services.reports import Reports
from tollkeeper.services.subscriptions import Subscriptions

from .conftest import Shop


def params(values: Any) -> Any:
    return values


class NoUsage:
    """A usage log in which nothing stands."""

    def last_seq(self) -> int:
        return 0

    def touched(self, after_seq: int, most: int) -> tuple[list[Any], int]:
        return [], after_seq

    def period_total(self, *_: Any) -> None:
        return None


class Legacy:
    """An account that sold before: one product with one price of its own."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.v1 = shop.sandbox.client.v1
        product = self.v1.products.create({"name": "Old"})
        self.price = self.v1.prices.create(
            {"product": product.id, "currency": "usd", "unit_amount": 500, "recurring": {"interval": "month"}}
        ).id
        desk = shop.desk
        clock = Clock(now_ns=lambda: desk.now * 1000)
        subscriptions = Subscriptions(
            desk.database,
            clock,
            desk.changes.append,
            Reports(desk.database, NoUsage(), NoUsage(), NoUsage(), clock, None),
        )
        self.importer = ProviderImport(
            desk.database, shop.account, desk.customers, subscriptions, clock, desk.changes.append
        )

    def sell(self, price: str | None = None, **customer: Any) -> tuple[str, str]:
        """Ids of a customer and its subscription."""
        made = self.v1.customers.create(params(customer))
        contract = self.v1.subscriptions.create(
            {
                "customer": made.id,
                "items": [{"price": price or self.price}],
                "collection_method": "send_invoice",
                "days_until_due": 30,
            }
        )
        return made.id, contract.id


@pytest.fixture
def legacy(shop: Shop) -> Legacy:
    return Legacy(shop)


def test_a_customer_is_made_with_what_the_provider_knows_and_may_call_at_once(legacy: Legacy) -> None:
    theirs, contract = legacy.sell(name="Ada Ltd", email="ada@example.com", metadata={"user": "u-17"})
    (done,) = legacy.importer.apply({legacy.price: "pro"}, "metadata.user")
    assert (done.customer, done.plan, done.verdict) == ("u-17", "pro", "adopt")
    record = legacy.shop.desk.customers.get("u-17")
    ours = record.subscription("test")
    assert ours is not None
    assert (record.customer.name, record.customer.email, ours.plan, ours.status) == (
        "Ada Ltd",
        "ada@example.com",
        "pro",
        "active",
    )
    assert record.subscription("live") is None
    kept: Any = legacy.v1.subscriptions.retrieve(contract)
    assert ours.anchor == kept.billing_cycle_anchor * SECOND
    assert legacy.shop.id("customer", "u-17") == theirs


def test_once_more_changes_nothing(legacy: Legacy) -> None:
    legacy.sell(name="Ada")
    legacy.importer.apply({legacy.price: "pro"})
    before = [legacy.shop.desk.customers.get(r.customer.id) for r in legacy.shop.desk.customers.list().items]
    (again,) = legacy.importer.apply({legacy.price: "pro"})
    assert again.verdict == "known"
    after = [legacy.shop.desk.customers.get(r.customer.id) for r in legacy.shop.desk.customers.list().items]
    assert after == before


def test_a_dry_run_makes_nothing(legacy: Legacy) -> None:
    legacy.sell(name="Ada")
    (planned,) = legacy.importer.plan({legacy.price: "pro"})
    assert planned.verdict == "adopt"
    assert legacy.shop.desk.customers.list().items == []


def test_what_cannot_be_taken_over_says_why_and_the_rest_is(legacy: Legacy) -> None:
    legacy.sell(name="No id")
    legacy.sell(name="Bad", metadata={"user": "a b"})
    legacy.sell(name="First", metadata={"user": "u1"})
    legacy.sell(name="Second", metadata={"user": "u1"})
    other = legacy.v1.prices.create(
        {"product_data": {"name": "X"}, "currency": "usd", "unit_amount": 1, "recurring": {"interval": "month"}}
    ).id
    legacy.sell(other, name="Other", metadata={"user": "u2"})
    done = legacy.importer.apply({legacy.price: "pro"}, "metadata.user")
    found = {one.name: (one.verdict, one.why) for one in done}
    assert found["No id"] == ("skip", "metadata.user gives no id")
    assert found["Bad"] == ("skip", "'a b' cannot be an id")
    assert found["Other"] == ("skip", f"of which plan is {other}? Name it: --price PRICE=PLAN")
    assert sorted(found[name][0] for name in ("First", "Second")) == ["adopt", "skip"]
    assert [record.customer.id for record in legacy.shop.desk.customers.list().items] == ["u1"]


def test_a_cancelled_subscription_is_left_alone(legacy: Legacy) -> None:
    _, contract = legacy.sell(name="Ada")
    legacy.v1.subscriptions.cancel(contract)
    assert legacy.importer.plan({legacy.price: "pro"}) == []


def test_prices_taken_over_are_never_retired(legacy: Legacy) -> None:
    legacy.sell(name="Ada")
    legacy.importer.apply({legacy.price: "pro"})
    assert not [c for c in legacy.shop.catalog.plan().changes if c.action == "retire"]


@pytest.mark.parametrize("id_from", ["", "metadata.", "name"])
def test_an_unknown_place_of_the_id_is_refused(legacy: Legacy, id_from: str) -> None:
    with pytest.raises(InvalidRequest, match=r"metadata\.NAME"):
        legacy.importer.plan({}, id_from)


def test_a_plan_that_is_not_on_offer_is_refused(legacy: Legacy) -> None:
    with pytest.raises(InvalidRequest, match="gold"):
        legacy.importer.plan({legacy.price: "gold"})
