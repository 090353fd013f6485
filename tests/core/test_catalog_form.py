from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from tollkeeper.core.catalog import (
    catalog_from_dict,
    catalog_to_dict,
    fingerprint,
    parse_catalog,
    plan_from_dict,
    plan_to_dict,
)
from tollkeeper.core.errors import CatalogInvalid
from tollkeeper.core.plans import Catalog

from .catalogs import FULL, catalogs


@given(catalogs())
def test_a_catalog_comes_back_from_json_as_it_was(catalog: Catalog) -> None:
    stored = json.dumps(catalog_to_dict(catalog))
    back = catalog_from_dict(json.loads(stored))
    assert back == catalog
    assert json.dumps(catalog_to_dict(back)) == stored
    assert fingerprint(back) == fingerprint(catalog)


@given(catalogs())
def test_a_plan_comes_back_from_json_with_its_version(catalog: Catalog) -> None:
    for plan in catalog.plans.values():
        versioned = replace(plan, version=7)
        assert plan_from_dict(json.loads(json.dumps(plan_to_dict(versioned)))) == versioned


def test_prices_are_stored_in_the_shape_of_the_rating_request() -> None:
    price = plan_to_dict(parse_catalog(FULL).plans["pro"])["prices"][1]
    assert price["tiers"] == [
        {"up_to": "1000", "unit_amount": "0", "flat_amount": "0"},
        {"up_to": "10000", "unit_amount": "0.002", "flat_amount": "5"},
        {"up_to": "inf", "unit_amount": "0.001", "flat_amount": "0"},
    ]
    assert (price["key"], price["included"], price["minimum"], price["zero_usage_flat_fee"]) == (
        "calls",
        "0",
        None,
        False,
    )


def test_the_fingerprint_is_of_what_the_catalog_says() -> None:
    catalog = parse_catalog(FULL)
    mark = fingerprint(catalog)
    assert fingerprint(parse_catalog("# a comment\n" + FULL.replace('"9.99"', '"9.990"'))) == mark
    applied = replace(catalog, plans={key: replace(plan, version=3) for key, plan in catalog.plans.items()})
    assert fingerprint(applied) == mark
    assert fingerprint(parse_catalog(FULL.replace('"9.99"', '"9.98"'))) != mark
    assert fingerprint(replace(catalog, plans=dict(reversed(catalog.plans.items())))) != mark
    assert fingerprint(replace(catalog, name="Other")) != mark


@pytest.mark.parametrize(
    "change",
    [
        {"limits": [{"name": "a", "limit": 1, "window_seconds": 1, "burst": 5}]},
        {"quotas": [{"meter": "m", "kind": "hard"}]},
        {"quotas": [{"meter": "m", "kind": "hard", "limit": "many"}]},
        {"prices": None},
        {"colour": "red"},
    ],
)
def test_a_stored_plan_that_this_version_does_not_know_is_refused_and_not_read_in_part(change: dict[str, Any]) -> None:
    stored = plan_to_dict(parse_catalog(FULL).plans["pro"])
    with pytest.raises(CatalogInvalid):
        plan_from_dict({**stored, **change})
    with pytest.raises(CatalogInvalid):
        catalog_from_dict({"plans": {"pro": {**stored, **change}}})


def test_decimals_are_stored_as_strings() -> None:
    def decimals(value: Any) -> list[Decimal | float]:
        if isinstance(value, dict):
            return [found for item in value.values() for found in decimals(item)]
        if isinstance(value, list):
            return [found for item in value for found in decimals(item)]
        return [value] if isinstance(value, Decimal | float) else []

    assert decimals(catalog_to_dict(parse_catalog(FULL))) == []
