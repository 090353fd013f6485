from __future__ import annotations

from decimal import ROUND_UP, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.money import EXPONENTS, CurrencyInvalid, exponent_of, round_money

amounts = st.decimals(min_value=Decimal(-(10**15)), max_value=Decimal(10**15), places=12)


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("0.125", "usd", "0.13"),
        ("0.135", "usd", "0.14"),
        ("-0.125", "usd", "-0.13"),
        ("0.124999999999", "usd", "0.12"),
        ("0.5", "jpy", "1"),
        ("1.0005", "kwd", "1.001"),
        ("7", "usd", "7.00"),
        ("-0.001", "usd", "0.00"),
        ("999999999999999.999999999999", "usd", "1000000000000000.00"),
    ],
)
def test_money_is_rounded_half_away_from_zero_to_the_smallest_unit(amount: str, currency: str, expected: str) -> None:
    assert str(round_money(Decimal(amount), currency)) == expected


@given(amounts, st.sampled_from(sorted(EXPONENTS)))
def test_rounding_is_off_by_at_most_half_a_smallest_unit(amount: Decimal, currency: str) -> None:
    rounded = round_money(amount, currency)
    scaled = Fraction(rounded) * 10 ** exponent_of(currency)
    assert scaled.denominator == 1
    off = scaled - Fraction(amount) * 10 ** exponent_of(currency)
    assert abs(off) <= Fraction(1, 2)
    if abs(off) == Fraction(1, 2):
        assert abs(rounded) > abs(amount)


@given(amounts, st.sampled_from(sorted(EXPONENTS)))
def test_rounding_does_not_depend_on_the_callers_decimal_context(amount: Decimal, currency: str) -> None:
    expected = round_money(amount, currency)
    with localcontext() as context:
        context.prec = 3
        context.rounding = ROUND_UP
        assert round_money(amount, currency) == expected


@pytest.mark.parametrize("currency", ["USD", "", "us", "xau", "xxx", "usdd", "btc"])
def test_a_currency_that_is_not_a_lower_case_iso_code_is_refused(currency: str) -> None:
    with pytest.raises(CurrencyInvalid):
        exponent_of(currency)
