"""A price as Stripe gets it costs what our rating says: read back from the parameters alone, by the words of Stripe's documents."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.ratings import any_price, near, tiered, used
from tollkeeper.core.plans import Discount, Plan, Price, Tier
from tollkeeper.core.provider import ProviderRefused
from tollkeeper.core.provider_prices import charged, needs_carrier, rated_here, sold_prices, unbillable
from tollkeeper.core.rating import rate
from tollkeeper.core.rating_models import UnpricedUsage
from tollkeeper.integrations.stripe.amounts import exponent, major, minor, minor_decimal
from tollkeeper.integrations.stripe.prices import price_params
from tollkeeper.sandbox.arithmetic import rated

D = Decimal


def stripe_amount(params: dict[str, Any], quantity: Decimal) -> Decimal:
    """In the smallest unit, not rounded (https://docs.stripe.com/products-prices/pricing-models, /subscriptions/transform-quantities)."""
    if params.get("billing_scheme") != "tiered":
        if by := params.get("transform_quantity"):
            rounding = ROUND_CEILING if by["round"] == "up" else ROUND_FLOOR
            quantity = (quantity / by["divide_by"]).to_integral_value(rounding)
        return quantity * D(params["unit_amount_decimal"])
    tiers = params["tiers"]
    assert tiers[-1]["up_to"] == "inf"
    if params["tiers_mode"] == "volume":
        tier = next(t for t in tiers if t["up_to"] == "inf" or quantity <= t["up_to"])
        return quantity * D(tier["unit_amount_decimal"]) + D(tier.get("flat_amount_decimal", 0))
    total, below = D(0), D(0)
    for index, tier in enumerate(tiers):
        if index and quantity <= below:
            break
        end = quantity if tier["up_to"] == "inf" else min(quantity, D(tier["up_to"]))
        total += (end - below) * D(tier["unit_amount_decimal"]) + D(tier.get("flat_amount_decimal", 0))
        below = end if tier["up_to"] == "inf" else D(tier["up_to"])
    return total


@given(any_price | tiered() | tiered("graduated", included=D(10)), near | used)
def test_what_stripe_bills_is_what_our_rating_says(price: Price, quantity: Decimal) -> None:
    assume(rated_here(price) is None)
    assume(quantity < 10**9)
    try:
        ours = rate(price, quantity)
    except UnpricedUsage:
        assume(False)
        raise
    params = price_params(price, "mtr_1" if price.model != "flat" else None)
    amount = stripe_amount(params, D(1) if price.model == "flat" else quantity)
    assert amount.scaleb(-exponent(price.currency)) == ours.exact_amount


@given(any_price | tiered() | tiered("graduated", included=D(10)), near | used)
def test_the_sandbox_makes_the_same_lines_of_money(price: Price, quantity: Decimal) -> None:
    assume(rated_here(price) is None)
    assume(charged(price.flat_amount or D(0), price.currency) == (price.flat_amount or D(0)))  # else it is refused
    assume(quantity < 10**9)
    try:
        ours = rate(price, quantity)
    except UnpricedUsage:
        assume(False)
        raise
    params = {"billing_scheme": "per_unit", **price_params(price, "mtr_1" if price.model != "flat" else None)}
    lines = rated(params, D(1) if price.model == "flat" else quantity)
    assert sum(line.amount for line in lines) == minor(ours.amount, price.currency)


@given(any_price)
def test_whole_tiers_and_at_most_twelve_places_are_what_stripe_gets(price: Price) -> None:
    assume(rated_here(price) is None)
    params = price_params(price, "mtr_1")
    for tier in params.get("tiers", ()):
        assert tier["up_to"] == "inf" or (type(tier["up_to"]) is int and tier["up_to"] > 0)
    texts = [params.get("unit_amount_decimal"), *(t["unit_amount_decimal"] for t in params.get("tiers", ()))]
    for amount in texts:
        places: Any = D(amount or 0).as_tuple().exponent
        assert -places <= 12
    assert not ("transform_quantity" in params and "tiers" in params)


GRADUATED = Price("k", "graduated", "usd", "m", tiers=(Tier(D(100), D("0.05"), D(1)), Tier(None, D("0.02"))))


@pytest.mark.parametrize(
    ("price", "why"),
    [
        (Price("k", "per_unit", "usd", "m", unit_amount=D(1), minimum=D(5)), "minimum"),
        (Price("k", "per_unit", "usd", "m", unit_amount=D(1), maximum=D(5)), "maximum"),
        (Price("k", "flat", "usd", flat_amount=D(1), discounts=(Discount(amount_off=D(1)),)), "discounts"),
        (Price("k", "per_unit", "usd", "m", unit_amount=D(1), quantity_round="up"), "rounded"),
        (Price("k", "per_unit", "usd", "m", unit_amount=D(1), negative="allow"), "below zero"),
        (Price("k", "per_unit", "usd", "m", unit_amount=D(1), interval="once"), "once"),
        (Price("k", "per_unit", "usd", "m", unit_amount=D(1), included=D("0.5")), "within a unit"),
        (Price("k", "package", "usd", "m", package_size=D(10), package_amount=D(1), included=D(5)), "included"),
        (Price("k", "package", "usd", "m", package_size=D("0.5"), package_amount=D(1)), "whole number"),
        (Price("k", "volume", "usd", "m", tiers=(Tier(None, D(1)),), included=D(5)), "included"),
        (Price("k", "graduated", "usd", "m", tiers=GRADUATED.tiers, included=D(5)), "flat amount"),
        (Price("k", "graduated", "usd", "m", tiers=GRADUATED.tiers, zero_usage_flat_fee=False), "flat amount"),
        (Price("k", "graduated", "usd", "m", tiers=(Tier(D("1.5"), D(1)), Tier(None, D(2)))), "within a unit"),
    ],
)
def test_what_stripe_cannot_express_is_rated_here_and_says_why(price: Price, why: str) -> None:
    assert why in (rated_here(price) or "")


@pytest.mark.parametrize("price", [GRADUATED, Price("k", "flat", "usd", flat_amount=D(9))])
def test_what_stripe_can_express_is_left_to_it(price: Price) -> None:
    assert rated_here(price) is None


def test_a_plan_whose_usage_is_rated_here_gets_a_price_to_hold_on_to() -> None:
    here = Price("k", "per_unit", "usd", "m", unit_amount=D(1), minimum=D(5))
    setup = Price("setup", "flat", "usd", flat_amount=D(9), interval="once")
    base = Price("base", "flat", "usd", flat_amount=D(9))
    assert needs_carrier(Plan("p", "p", "p", prices=(here, setup)), "usd")
    assert not needs_carrier(Plan("p", "p", "p", prices=(here, base)), "usd")
    assert sold_prices(Plan("p", "p", "p", prices=(here, setup, base)), "usd") == (setup, base)


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("12.34", "usd", 1234),
        ("500", "jpy", 500),
        ("1.23", "kwd", 1230),
        ("500", "isk", 50000),
        ("7", "ugx", 700),
        ("7", "mga", 7),
    ],
)
def test_amounts_are_written_in_stripes_smallest_unit_and_read_back(amount: str, currency: str, expected: int) -> None:
    assert minor(D(amount), currency) == expected
    assert major(expected, currency) == D(amount)


def test_an_amount_that_is_no_whole_unit_or_too_fine_is_refused() -> None:
    for amount, currency in (("0.005", "usd"), ("1.234", "kwd"), ("0.5", "isk"), ("0.2", "mga")):
        with pytest.raises(ProviderRefused, match="does not charge"):
            minor(D(amount), currency)
    with pytest.raises(ValueError, match="12 decimal places"):
        minor_decimal(D("0.000000000000001"), "usd")


@given(st.integers(-(10**12), 10**12), st.sampled_from(["usd", "jpy", "kwd", "isk"]))
def test_an_amount_of_stripes_and_ours_are_one(units: int, currency: str) -> None:
    units *= {"isk": 100, "kwd": 10}.get(currency, 1)
    assert minor(major(units, currency), currency) == units


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [("5.124", "kwd", "5.120"), ("5.125", "kwd", "5.130"), ("-5.125", "tnd", "-5.130"), ("1.20", "mga", "1.00"),
     ("7", "isk", "7"), ("5.12", "usd", "5.12"), ("0.004", "bhd", "0.000"), ("-0.004", "bhd", "0.000")],
)  # fmt: skip
def test_amounts_are_rounded_to_what_is_charged_and_keep_their_digits(
    amount: str, currency: str, expected: str
) -> None:
    assert str(charged(D(amount), currency)) == expected


@pytest.mark.parametrize("currency", ["bhd", "jod", "kwd", "omr", "tnd", "isk", "mga", "ugx"])
def test_usage_is_rated_here_where_not_every_amount_can_be_charged(currency: str) -> None:
    usage = Price("k", "per_unit", currency, "m", unit_amount=D("0.0015"))
    assert (
        rated_here(usage)
        == f"{currency} is charged by {'0.01' if currency not in ('isk', 'mga', 'ugx') else '1'} alone"
    )
    fee = Price("fee", "flat", currency, flat_amount=D(9))
    assert rated_here(fee) is None
    assert unbillable(Plan("p", "p", "p", prices=(usage, fee)), currency) == []


@pytest.mark.parametrize(("amount", "currency"), [("9.005", "kwd"), ("9.20", "mga")])
def test_a_fee_that_cannot_be_charged_is_refused(amount: str, currency: str) -> None:
    fee = Price("fee", "flat", currency, flat_amount=D(amount))
    [fault] = unbillable(Plan("p", "p", "p", prices=(fee,)), currency)
    assert fault.startswith(f"fee: flat_amount = {amount} {currency}, which is charged by ")


@pytest.mark.parametrize("currency", ["huf", "twd", "jpy", "krw"])
def test_currencies_that_are_special_in_payouts_alone_are_billed_as_any(currency: str) -> None:
    assert rated_here(Price("k", "per_unit", currency, "m", unit_amount=D("0.5"))) is None
