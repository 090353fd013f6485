from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.catalog import check_catalog, example_catalog
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.money import EXPONENTS
from tollkeeper.core.plans import Catalog

from .catalogs import decimals, names


def clean(text: str) -> Catalog:
    catalog, faults, warnings = check_catalog(text)
    assert faults == ()
    assert warnings == ()
    assert catalog is not None
    return catalog


def test_the_first_catalog_has_a_free_plan_that_stops_and_a_paid_one_that_goes_on() -> None:
    catalog = clean(example_catalog())
    free, pro = catalog.plans["free"], catalog.plans["pro"]
    assert [(q.meter, q.limit, q.kind) for q in free.quotas] == [("api_calls", 1000, "hard")]
    assert [(limit.limit, limit.window_seconds) for limit in free.limits] == [(10, 1)]
    assert free.prices == ()
    assert pro.quotas == ()
    assert [price.model for price in pro.prices] == ["graduated"]
    assert [(t.up_to, t.unit_amount) for t in pro.prices[0].tiers] == [(1000, 0), (None, Decimal("0.001"))]


@given(decimals(9), decimals(12), st.sampled_from(sorted(EXPONENTS)), names)
def test_whatever_is_asked_for_parses_without_fault_or_warning(
    free: Decimal, price: Decimal, currency: str, name: str
) -> None:
    if not free and not price:
        return
    text = example_catalog(free=format_quantity(free), price=format_quantity(price), currency=currency, name=name)
    catalog = clean(text)
    assert catalog.name == name
    assert catalog.currency == currency
    assert list(catalog.plans) == ["free"] * bool(free) + ["pro"] * bool(price)
    if free:
        assert catalog.plans["free"].quotas[0].limit == free
    if price:
        offered = catalog.plans["pro"].prices[0]
        assert (offered.tiers[1].unit_amount if free else offered.unit_amount) == price


@pytest.mark.parametrize(
    ("free", "price", "currency", "name"),
    [
        ("-1", "0.001", "usd", "API"),
        ("1e3", "0.001", "usd", "API"),
        ("1000", "cheap", "usd", "API"),
        ("1000", "0.0000000000001", "usd", "API"),
        ("1000", "0.001", "USD", "API"),
        ("1000", "0.001", "usd", ""),
        ("1000", "0.001", "usd", 'a"\n[x'),
        ("0", "0", "usd", "API"),
    ],
)
def test_what_cannot_be_a_catalog_is_refused(free: str, price: str, currency: str, name: str) -> None:
    with pytest.raises(InvalidRequest):
        example_catalog(free=free, price=price, currency=currency, name=name)


def test_the_meter_may_have_another_name_everywhere() -> None:
    catalog = clean(example_catalog(meter="pages"))
    assert list(catalog.meters) == ["pages"]
    assert {plan.meters for plan in catalog.plans.values()} == {frozenset({"pages"})}


@pytest.mark.parametrize("meter", ["", "Api", "1st", "a-b", "x" * 64, "a]\n[b"])
def test_a_meter_that_cannot_be_a_key_is_refused(meter: str) -> None:
    with pytest.raises(InvalidRequest, match="meter: expected a key of"):
        example_catalog(meter=meter)
