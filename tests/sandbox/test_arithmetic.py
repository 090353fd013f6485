"""Stripe's arithmetic, worked out by hand, and what must hold for every price."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.sandbox.arithmetic import Piece, discounted, due, half_up, rated, share, spread, tax

TIERS = [
    {"up_to": 1000, "unit_amount_decimal": "0", "flat_amount": None},
    {"up_to": 10_000, "unit_amount_decimal": "0.2", "flat_amount": 500},
    {"up_to": None, "unit_amount_decimal": "0.1", "flat_amount": None},
]
GRADUATED = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": TIERS}
VOLUME = {"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": TIERS}
PACKAGE = {"billing_scheme": "per_unit", "unit_amount": 50, "transform_quantity": {"divide_by": 1000, "round": "up"}}


def total(pieces: list[Piece]) -> int:
    return sum(piece.amount for piece in pieces)


def test_a_fraction_of_a_cent_is_rounded_half_up_once_per_line() -> None:
    price = {"billing_scheme": "per_unit", "unit_amount": None, "unit_amount_decimal": "0.2"}
    # 1,234.5 × 0.2 = 246.9 → 247
    assert rated(price, Decimal("1234.5")) == [Piece(Decimal("1234.5"), Decimal("0.2"), 247)]
    # 2 × 0.25 = 0.5 → 1
    assert total(rated({**price, "unit_amount_decimal": "0.25"}, Decimal(2))) == 1


def test_graduated_units_cost_what_their_own_tier_says() -> None:
    # 1,000 × 0 = 0; 9,000 × 0.2 = 1,800; flat 500; 2,345.5 × 0.1 = 234.55 → 235
    assert [p.amount for p in rated(GRADUATED, Decimal("12345.5"))] == [0, 1800, 500, 235]
    # the bound belongs to the tier below: 1,000 units reach no second tier
    assert [p.amount for p in rated(GRADUATED, Decimal(1000))] == [0]
    # half a unit more does: 0.5 × 0.2 = 0.1 → 0, and its flat 500
    assert [p.amount for p in rated(GRADUATED, Decimal("1000.5"))] == [0, 0, 500]


def test_volume_units_all_cost_what_the_tier_of_the_last_says() -> None:
    assert [p.amount for p in rated(VOLUME, Decimal(10_000))] == [2000, 500]  # 10,000 × 0.2, flat 500
    assert [p.amount for p in rated(VOLUME, Decimal(10_001))] == [1000]  # 10,001 × 0.1 = 1,000.1


def test_packages_are_rounded_before_they_are_priced() -> None:
    assert total(rated(PACKAGE, Decimal(2500))) == 150  # ⌈2.5⌉ = 3 × 50
    down = {**PACKAGE, "transform_quantity": {"divide_by": 1000, "round": "down"}}
    assert total(rated(down, Decimal(2500))) == 100  # ⌊2.5⌋ = 2 × 50


def test_a_flat_amount_of_the_first_tier_is_owed_without_usage_and_usage_below_zero_is_none() -> None:
    tiers = [{"up_to": None, "unit_amount": 5, "flat_amount": 200}]
    price = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers}
    assert total(rated(price, Decimal(0))) == 200
    assert total(rated(price, Decimal(-3))) == 200


@given(st.integers(0, 20_000), st.integers(0, 20_000))
def test_more_graduated_usage_never_costs_less(first: int, second: int) -> None:
    less, more = sorted((first, second))
    assert total(rated(GRADUATED, Decimal(less))) <= total(rated(GRADUATED, Decimal(more)))


def test_a_proration_is_exact_to_the_second() -> None:
    # 30 days = 2,592,000 s; 20 days left of 1,000: 1,000 × 1,728,000 ÷ 2,592,000 = 666.66… → 667
    assert share(1000, 1_728_000, 2_592_000) == 667
    assert share(-1000, 1_728_000, 2_592_000) == -667
    # one second later: 1,000 × 1,727,999 ÷ 2,592,000 = 666.666280… → 667
    assert share(1000, 1_727_999, 2_592_000) == 667
    assert half_up(Decimal("-0.5")) == -1


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_what_is_spread_adds_up_and_takes_no_more_than_the_weight(amount: int, weights: list[int]) -> None:
    amount = min(amount, sum(weights))
    parts = spread(amount, weights)
    assert sum(parts) == amount
    assert all(0 <= part <= weight for part, weight in zip(parts, weights, strict=True))


def test_a_percentage_is_rounded_once_for_the_invoice_and_spread_over_its_lines() -> None:
    # 15 % of 333 + 333 + 334 = 1,000 is 150: 49.95, 49.95, 50.1 → 50 + 50 + 50
    assert discounted([333, 333, 334], [({"percent_off": 15}, [True] * 3)]) == [[50, 50, 50]]


def test_coupons_take_one_after_the_other_and_never_below_nothing() -> None:
    # 10 % of 3,000 is 300; then 500 off 2,700
    assert discounted([3000], [({"percent_off": 10}, [True]), ({"amount_off": 500}, [True])]) == [[300], [500]]
    assert discounted([300, -100], [({"amount_off": 500}, [True, True])]) == [[300, 0]]
    assert discounted([300, 700], [({"percent_off": 50}, [False, True])]) == [[0, 350]]


@pytest.mark.parametrize(
    ("total_", "balance", "expected"),
    [
        (1000, 0, (1000, 0)),
        (1000, -300, (700, 0)),  # 300 of credit
        (1000, -1500, (0, -500)),  # credit left over
        (-400, 0, (0, -400)),  # an invoice below nothing becomes credit
        (49, 0, (0, 49)),  # below the smallest charge: owed with the next
        (49, 49, (98, 0)),  # and then both
        (50, 0, (50, 0)),
    ],
)
def test_what_is_due_after_the_balance(total_: int, balance: int, expected: tuple[int, int]) -> None:
    assert due(total_, balance, "usd") == expected


def test_tax_on_top_and_inside() -> None:
    assert tax(1000, 19, inclusive=False) == 190
    assert tax(1190, 19, inclusive=True) == 190  # 1,190 × 19 ÷ 119
    assert tax(99, "8.875", inclusive=False) == 9  # 8.78625
