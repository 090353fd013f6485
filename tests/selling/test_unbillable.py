"""A plan that would be billed wrongly is not put at the provider: what is closed each month is no total of a year."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from spine import Spine
from tollkeeper.core.errors import CatalogInvalid
from tollkeeper.services.provider_catalog import ProviderCatalog, ShelfPlan

METERS = """
currency = "usd"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[meters.tokens]
event_type = "llm.completion"
aggregation = "sum"
value_property = "tokens"
[plans.pro]
product = "api"
"""
USAGE = '[[plans.pro.prices]]\nkey = "{}"\nmeter = "{}"\nmodel = "per_unit"\nunit_amount = "1"\ninterval = "{}"\n'
FEE = '[[plans.pro.prices]]\nkey = "fee"\nmodel = "flat"\nflat_amount = "300"\ninterval = "{}"\n'
LEAST = 'minimum = "1200"\n'


class NoShelf:
    """What is planned asks the provider nothing."""

    name = "stripe"
    environment = "test"


def planned(folder: Path, prices: str) -> ShelfPlan:
    app = Spine(folder, METERS + prices).app
    try:
        return ProviderCatalog(app.database, cast("Any", NoShelf()), app.database.pair_id, app.clock.now_us).plan()
    finally:
        app.close()


@pytest.mark.parametrize(
    ("prices", "key"),
    [
        # rated here at the end of each month: twelve minimums of a year
        (FEE.format("year") + USAGE.format("calls", "api_calls", "month") + USAGE.format("least", "tokens", "year") + LEAST, "least"),
        # the plan's only price is rated here, and what it holds on to at the provider is a month
        (USAGE.format("least", "tokens", "year") + LEAST, "least"),
        # a minimum of each month, closed with the year of the fee
        (FEE.format("year") + USAGE.format("least", "tokens", "month") + LEAST, "least"),
        # totals are closed with the month, and this one is of the year
        (USAGE.format("calls", "api_calls", "month") + USAGE.format("tokens", "tokens", "year"), "tokens"),
        # a thousandth of a dinar is not charged
        (FEE.format("month").replace('"300"', '"9.005"') + 'currency = "kwd"\n', "fee"),
    ],
)  # fmt: skip
def test_a_price_that_would_be_billed_wrongly_is_refused(tmp_path: Path, prices: str, key: str) -> None:
    with pytest.raises(CatalogInvalid, match=rf"plans\.pro\.prices\.{key}: ") as caught:
        planned(tmp_path, prices)
    assert caught.value.detail.count("plans.pro.prices.") == 1


@pytest.mark.parametrize(
    "prices",
    [
        FEE.format("year") + USAGE.format("calls", "api_calls", "month"),
        FEE.format("month") + USAGE.format("least", "tokens", "month") + LEAST,
        USAGE.format("least", "tokens", "month") + LEAST,
        FEE.format("year") + USAGE.format("least", "tokens", "year") + LEAST,
        FEE.format("month") + USAGE.format("tokens", "tokens", "year"),
        FEE.format("once"),
    ],
)
def test_a_price_whose_usage_is_closed_with_the_plans_period_is_not(tmp_path: Path, prices: str) -> None:
    assert planned(tmp_path, prices).changes
