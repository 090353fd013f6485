"""A price as it is sent: read by the catalog's own table, every fault told by its field."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from tollkeeper.core.catalog_form import price_to_dict
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.metering import QuantityInvalid
from tollkeeper.core.plans import Price
from tollkeeper.core.rating_read import read_price, read_question

from .catalogs import any_tables, as_written
from .ratings import any_price

PER_UNIT = {"model": "per_unit", "currency": "usd", "unit_amount": "0.002"}


@given(any_price)
def test_a_stored_price_reads_back_as_it_is(price: Price) -> None:
    assert read_price(price_to_dict(price)) == price


@given(any_price)
def test_what_is_null_or_left_out_is_at_its_default(price: Price) -> None:
    assert read_price(as_written(price_to_dict(price))) == price


def test_key_and_meter_are_not_needed() -> None:
    assert read_price(PER_UNIT) == Price("price", "per_unit", "usd", unit_amount=Decimal("0.002"))


@given(any_tables)
def test_no_structure_does_more_than_fault(data: dict[str, Any]) -> None:
    errors: list[dict[str, str]] = []
    try:
        read_price(data)
    except InvalidRequest as caught:
        errors = caught.extra["errors"]
    assert all(one["field"].startswith("price") and one["message"] for one in errors)


@pytest.mark.parametrize(
    ("price", "fault"),
    [
        ({"currency": None}, 'price.currency: expected a lower-case ISO 4217 code such as "usd", found nothing'),
        ({"unit_amount": None}, "price.unit_amount: expected an amount of money"),
        ({"unit_amount": Decimal("0.002")}, 'found the float 0.002; write it in quotes: "0.002"'),
        ({"unit_amount": 0.002}, 'found the float 0.002; write it in quotes: "0.002"'),
        ({"unit_amount": "1" * 16}, 'found "1111111111111111"'),
        (
            {"modle": "volume"},
            "price.modle: expected a key of plans.KEY.prices, found an unknown one; did you mean model?",
        ),
        ({"tiers": [{}]}, "price.tiers: expected no tiers with the model per_unit, found an array of 1"),
        ({"zero_usage_flat_fee": False}, "price.zero_usage_flat_fee: expected no zero_usage_flat_fee"),
        ({"zero_usage_flat_fee": 1}, "price.zero_usage_flat_fee: expected true or false, found 1"),
        ({"discounts": [{"percent_off": "10", "amount_off": "1"}]}, "price.discounts[0]: expected one of percent_off"),
    ],
)
def test_a_fault_names_its_field(price: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_price({**PER_UNIT, **price})
    assert fault in str(caught.value)


def test_faults_of_price_and_quantity_are_told_together() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_question({**PER_UNIT, "minimum": "0.001"}, "x")
    assert [one["field"] for one in caught.value.extra["errors"]] == ["price.minimum", "quantity"]
    with pytest.raises(QuantityInvalid):
        read_question(PER_UNIT, Decimal("1.5"))  # a number that is no text and no whole number may have been a float
