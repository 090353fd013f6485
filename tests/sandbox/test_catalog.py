"""Products, prices, coupons, tax ids and rates: what Stripe makes of them, and what it holds immutable."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import stripe

from sandbox.conftest import Running


def price(client: stripe.StripeClient, **params: Any) -> stripe.Price:
    given: Any = {"currency": "usd", "product_data": {"name": "API"}, **params}
    return client.v1.prices.create(given)


def meter(client: stripe.StripeClient, name: str = "calls", formula: Any = "sum") -> str:
    return client.v1.billing.meters.create(
        {"display_name": name, "event_name": name, "default_aggregation": {"formula": formula}}
    ).id


def test_an_amount_is_shown_as_integer_and_as_decimal_where_it_is_one(client: stripe.StripeClient) -> None:
    whole = price(client, unit_amount=1_050)
    assert (whole.unit_amount, whole.unit_amount_decimal) == (1_050, Decimal(1_050))
    part = price(client, unit_amount_decimal=Decimal("0.2"))
    assert (part.unit_amount, part.unit_amount_decimal) == (None, Decimal("0.2"))
    with pytest.raises(stripe.InvalidRequestError) as both:
        price(client, unit_amount=1, unit_amount_decimal="1")
    assert both.value.code == "parameters_exclusive"
    with pytest.raises(stripe.InvalidRequestError, match="12 decimal places"):
        price(client, unit_amount_decimal="0.0000000000001")


def test_tiers_are_kept_and_shown_only_when_expanded(client: stripe.StripeClient) -> None:
    made = price(
        client,
        billing_scheme="tiered",
        tiers_mode="graduated",
        recurring={"interval": "month", "usage_type": "metered", "meter": meter(client)},
        tiers=[{"up_to": 1_000, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.2", "flat_amount": 5}],
    )
    assert "tiers" not in made.to_dict()
    shown = client.v1.prices.retrieve(made.id, {"expand": ["tiers"]})
    assert shown.tiers is not None
    assert [
        (tier.up_to, tier.unit_amount, tier.unit_amount_decimal, tier.flat_amount, tier.flat_amount_decimal)
        for tier in shown.tiers
    ] == [(1_000, 0, Decimal(0), None, None), (None, None, Decimal("0.2"), 5, Decimal(5))]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        (
            {"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": [{"up_to": 5, "unit_amount": 1}]},
            "tiers[0][up_to]",
        ),
        (
            {
                "billing_scheme": "tiered",
                "tiers_mode": "volume",
                "tiers": [
                    {"up_to": 5, "unit_amount": 1},
                    {"up_to": 5, "unit_amount": 1},
                    {"up_to": "inf", "unit_amount": 1},
                ],
            },
            "tiers[1][up_to]",
        ),
        ({"billing_scheme": "tiered", "tiers": [{"up_to": "inf", "unit_amount": 1}]}, "tiers_mode"),
        ({"unit_amount": 1, "tiers_mode": "volume"}, "tiers_mode"),
        (
            {
                "billing_scheme": "tiered",
                "tiers_mode": "volume",
                "tiers": [{"up_to": "inf", "unit_amount": 1}],
                "transform_quantity": {"divide_by": 10, "round": "up"},
            },
            "transform_quantity",
        ),
        ({"unit_amount": -1}, "unit_amount"),
        ({"unit_amount": 1, "recurring": {"interval": "month", "usage_type": "metered"}}, "recurring[meter]"),
        ({"unit_amount": 1, "recurring": {"interval": "year", "interval_count": 4}}, "recurring[interval_count]"),
        ({"unit_amount": 1, "currency": "moo"}, "currency"),
    ],
)
def test_a_price_that_stripe_would_not_make_is_refused(
    client: stripe.StripeClient, params: dict[str, Any], param: str
) -> None:
    params = dict(params)
    if "tiers" in params:
        params["recurring"] = {"interval": "month"}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        price(client, **params)
    assert refused.value.param == param


def test_what_a_price_costs_cannot_be_changed(client: stripe.StripeClient) -> None:
    made = price(client, unit_amount=100, lookup_key="basic", tax_behavior="exclusive")
    for name, value in (
        ("unit_amount", 200),
        ("currency", "eur"),
        ("recurring", {"interval": "month"}),
        ("product", "x"),
    ):
        change: Any = {name: value}
        with pytest.raises(stripe.InvalidRequestError, match="Received unknown parameter"):
            client.v1.prices.update(made.id, change)
    with pytest.raises(stripe.InvalidRequestError, match="tax_behavior"):
        client.v1.prices.update(made.id, {"tax_behavior": "inclusive"})
    changed = client.v1.prices.update(made.id, {"active": False, "nickname": "old", "metadata": {"a": "b"}})
    assert (changed.active, changed.nickname, changed.unit_amount) == (False, "old", 100)


def test_a_lookup_key_names_one_price_until_it_is_transferred(client: stripe.StripeClient) -> None:
    first = price(client, unit_amount=100, lookup_key="basic")
    with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key"):
        price(client, unit_amount=200, lookup_key="basic")
    second = price(client, unit_amount=200, lookup_key="basic", transfer_lookup_key=True)
    assert [row.id for row in client.v1.prices.list({"lookup_keys": ["basic"]}).data] == [second.id]
    assert client.v1.prices.retrieve(first.id).lookup_key is None


def test_a_product_is_deleted_only_without_prices(client: stripe.StripeClient) -> None:
    used = price(client, unit_amount=1).product
    with pytest.raises(stripe.InvalidRequestError, match="cannot be deleted"):
        client.v1.products.delete(str(used))
    free = client.v1.products.create({"id": "toll_free", "name": "Free"})
    with pytest.raises(stripe.InvalidRequestError) as twice:
        client.v1.products.create({"id": "toll_free", "name": "Free"})
    assert twice.value.code == "resource_already_exists"
    assert client.v1.products.delete(free.id).deleted


def test_an_update_that_changes_nothing_makes_no_event(client: stripe.StripeClient) -> None:
    made = client.v1.products.create({"name": "API"})
    client.v1.products.update(made.id, {"name": "API"})
    client.v1.products.update(made.id, {"name": "APIs"})
    (event,) = client.v1.events.list({"type": "product.updated"}).data
    assert event.data.previous_attributes is not None
    assert event.data.previous_attributes.to_dict()["name"] == "API"
    assert event.data.object["name"] == "APIs"


def test_a_meter_keeps_its_event_name_to_itself_while_it_is_active(client: stripe.StripeClient) -> None:
    first = meter(client)
    with pytest.raises(stripe.InvalidRequestError) as taken:
        meter(client)
    assert taken.value.param == "event_name"
    change: Any = {"event_name": "other"}
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        client.v1.billing.meters.update(first, change)
    assert client.v1.billing.meters.update(first, {"display_name": "All calls"}).display_name == "All calls"
    assert client.v1.billing.meters.deactivate(first).status == "inactive"
    second = meter(client)
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        client.v1.billing.meters.reactivate(first)
    assert [row.id for row in client.v1.billing.meters.list({"status": "active"}).data] == [second]


def test_a_coupon_is_a_percentage_or_an_amount(client: stripe.StripeClient, running: Running) -> None:
    coupon = client.v1.coupons.create(
        {"percent_off": 25, "duration": "repeating", "duration_in_months": 3, "id": "SAVE"}
    )
    assert (coupon.id, coupon.percent_off, coupon.valid) == ("SAVE", 25.0, True)
    wrong: list[tuple[Any, str]] = [
        ({"percent_off": 10, "amount_off": 5, "currency": "usd"}, "percent_off"),
        ({"amount_off": 5}, "currency"),
        ({"percent_off": 101}, "percent_off"),
        ({"percent_off": 5, "duration": "repeating"}, "duration_in_months"),
        ({}, "percent_off"),
    ]
    for params, param in wrong:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.coupons.create(params)
        assert refused.value.param == param
    until = int(running.control("/clock")["seconds"]) + 100
    ending = client.v1.coupons.create({"amount_off": 5, "currency": "usd", "redeem_by": until})
    running.control("/clock", {"advance": 200})
    assert not client.v1.coupons.retrieve(ending.id).valid
    assert client.v1.coupons.delete(ending.id).deleted


def test_tax_ids_belong_to_their_customer(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"tax_id_data": [{"type": "eu_vat", "value": "DE123456789"}]})
    other = client.v1.customers.create({})
    shown = client.v1.customers.retrieve(customer.id, {"expand": ["tax_ids"]})
    assert shown.tax_ids is not None
    (tax_id,) = shown.tax_ids.data
    assert (tax_id.country, tax_id.value) == ("DE", "DE123456789")
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.tax_ids.retrieve(other.id, tax_id.id)
    with pytest.raises(stripe.InvalidRequestError) as invalid:
        client.v1.customers.tax_ids.create(customer.id, {"type": "eu_vat", "value": "1"})
    assert invalid.value.code == "tax_id_invalid"
    client.v1.customers.tax_ids.delete(customer.id, tax_id.id)
    assert client.v1.customers.tax_ids.list(customer.id).data == []


def test_a_tax_rate_keeps_its_percentage(client: stripe.StripeClient) -> None:
    rate = client.v1.tax_rates.create({"display_name": "VAT", "percentage": 19.0, "inclusive": False, "country": "DE"})
    change: Any = {"percentage": 20.0}
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        client.v1.tax_rates.update(rate.id, change)
    assert not client.v1.tax_rates.update(rate.id, {"active": False}).active
    assert client.v1.tax_rates.list({"active": True}).data == []


def test_a_deleted_customer_is_a_stub_and_in_no_list(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"name": "Ada"})
    assert client.v1.customers.delete(customer.id).deleted
    assert client.v1.customers.retrieve(customer.id).deleted
    assert client.v1.customers.list().data == []
    with pytest.raises(stripe.InvalidRequestError) as gone:
        client.v1.customers.update(customer.id, {"name": "Bob"})
    assert gone.value.http_status == 404


def test_the_account_is_told(client: stripe.StripeClient) -> None:
    assert client.v1.accounts.retrieve_current().id.startswith("acct_1")
