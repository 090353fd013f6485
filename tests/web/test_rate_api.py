"""Rating over HTTP: a price and a quantity in, lines and an amount out."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import httpx
import pytest

from core.catalogs import FULL
from tollkeeper.core.catalog import catalog_to_dict, parse_catalog
from tollkeeper.core.catalog_keys import SECTIONS
from tollkeeper.core.plans import Discount, Price, Tier
from tollkeeper.web.api.rate import EXAMPLE, DiscountSent, LineShown, PriceSent, TierSent
from web.site import Site
from web.test_problems import assert_problem

PER_UNIT = {"model": "per_unit", "currency": "usd", "unit_amount": "0.002"}


async def test_the_example_of_the_document_is_answered_in_the_shape_of_the_design(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/rate", json=EXAMPLE)
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "currency": "usd",
            "amount": "22.69",
            "exact_amount": "22.69",
            "lines": [
                {"kind": "tier", "tier": 0, "quantity": "1000", "unit_amount": "0", "amount": "0.00"},
                {"kind": "tier", "tier": 1, "quantity": "11345", "unit_amount": "0.002", "amount": "22.69"},
            ],
        },
    )


async def test_every_price_of_a_catalog_is_taken_as_the_catalog_shows_it(api: httpx.AsyncClient) -> None:
    for price in catalog_to_dict(parse_catalog(FULL))["plans"]["pro"]["prices"]:
        answer = await api.post("/v1/rate", json={"price": price, "quantity": "20000"})
        assert answer.status_code == 200, answer.text


async def test_amounts_have_the_digits_of_their_currency(api: httpx.AsyncClient) -> None:
    for currency, amount in {"usd": "2.47", "jpy": "2", "kwd": "2.469"}.items():
        answer = await api.post("/v1/rate", json={"price": {**PER_UNIT, "currency": currency}, "quantity": "1234.5"})
        assert (answer.json()["amount"], answer.json()["exact_amount"]) == (amount, "2.469")


async def test_the_model_flat_needs_no_quantity(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/rate", json={"price": {"model": "flat", "currency": "usd", "flat_amount": "9"}})
    assert answer.json()["amount"] == "9.00"


@pytest.mark.parametrize(
    ("question", "fields"),
    [
        ({"price": PER_UNIT}, ["quantity"]),
        ({"price": PER_UNIT, "quantity": 5}, ["quantity"]),
        ({"price": PER_UNIT, "quantity": "1e3"}, ["quantity"]),
        ({"price": PER_UNIT, "quantity": "1" * 25}, ["quantity"]),
        ({"quantity": "5"}, ["price"]),
        ({"price": PER_UNIT, "quantity": "5", "colour": "red"}, ["colour"]),
        ({"price": {**PER_UNIT, "unit_amount": 0.002}, "quantity": "5"}, ["price.unit_amount"]),
        ({"price": {**PER_UNIT, "currency": "xxx"}, "quantity": "5"}, ["price.currency"]),
        ({"price": {**PER_UNIT, "model": "cheap"}, "quantity": "5"}, ["price.model"]),
        (
            {
                "price": {
                    **PER_UNIT,
                    "minimum": "0.001",
                    "maximum": "0",
                    "tiers": [{"up_to": "inf", "unit_amount": "1"}],
                }
            },
            ["price.tiers", "price.minimum", "price.maximum", "quantity"],
        ),
        (
            {
                "price": {
                    "model": "volume",
                    "currency": "usd",
                    "tiers": [{"up_to": "5", "unit_amount": "1"}, {"up_to": "5", "unit_amount": "1"}],
                    "discounts": [{}],
                },
                "quantity": "5",
            },
            ["price.discounts[0]", "price.tiers[1].up_to"],
        ),
    ],
)
async def test_each_fault_is_told_by_its_field(api: httpx.AsyncClient, question: Any, fields: list[str]) -> None:
    problem = assert_problem(await api.post("/v1/rate", json=question), 400, "invalid_request")
    assert [fault["field"] for fault in problem["errors"]] == fields


async def test_rating_takes_a_token_that_may_read_usage(site: Site, anyone: httpx.AsyncClient) -> None:
    assert_problem(await anyone.post("/v1/rate", json=EXAMPLE), 401, "unauthorized")
    for scope, status in {"usage:read": 200, "check": 403}.items():
        async with site.client(site.server_key(scope)) as client:
            assert (await client.post("/v1/rate", json=EXAMPLE)).status_code == status


def test_the_document_has_every_field_of_a_price_and_each_choice_of_the_catalog() -> None:
    for sent, known in ((PriceSent, Price), (TierSent, Tier), (DiscountSent, Discount)):
        assert set(sent.model_fields) == {field.name for field in fields(known)}
    for key in SECTIONS["plans.KEY.prices"]:
        if key.kind.expected.startswith("one of"):
            choices = [c for part in get_args(PriceSent.model_fields[key.name].annotation) for c in get_args(part)]
            choices = choices or list(get_args(PriceSent.model_fields[key.name].annotation))
            assert key.kind.expected == "one of " + ", ".join(f'"{choice}"' for choice in choices)
    assert len(LineShown.model_fields) == 5
