"""What a quantity costs, and the lines that add up to it."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import ROUND_DOWN, Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tollkeeper.core.metering import QuantityInvalid, format_quantity
from tollkeeper.core.money import exponent_of, round_money
from tollkeeper.core.plans import Discount, Price, Tier
from tollkeeper.core.rating import AmountTooLarge, Rated, rate, read_quantity
from tollkeeper.core.rating_models import UnpricedUsage

from .ratings import any_price, integral, near, quantities, small_amounts, tiered, unit_price, used

D = Decimal


def shown(rated: Rated) -> list[tuple[Any, ...]]:
    return [tuple(line.values()) for line in rated.as_dict()["lines"]]


def usage_lines(rated: Rated) -> list[Any]:
    return [line for line in rated.lines if line.kind in ("included", "tier")]


GRADUATED = Price("k", "graduated", "usd", tiers=(Tier(D(100), D("0.05"), D(1)), Tier(None, D("0.02"), D(3))))
VOLUME = replace(GRADUATED, model="volume")
PER_UNIT = Price("k", "per_unit", "usd", unit_amount=D("0.03"))
PACKAGE = Price("k", "package", "usd", package_size=D(1000), package_amount=D("0.5"))


@given(any_price, quantities)
def test_the_lines_add_up_to_the_amount(price: Price, quantity: Decimal) -> None:
    rated = rate(price, quantity)
    assert sum(Fraction(line.amount) for line in rated.lines) == Fraction(rated.amount)
    assert rated.lines
    places = -exponent_of(price.currency)
    assert {line.amount.as_tuple().exponent for line in rated.lines} | {rated.amount.as_tuple().exponent} == {places}


@given(any_price, quantities)
def test_what_is_told_is_exact_in_plain_decimals(price: Price, quantity: Decimal) -> None:
    rated, told = rate(price, quantity), rate(price, quantity).as_dict()
    amounts = [told["amount"], told["exact_amount"]]
    assert [Fraction(text) for text in amounts] == [Fraction(rated.amount), Fraction(rated.exact_amount)]
    for line, shown in zip(rated.lines, told["lines"], strict=True):
        texts = [shown["quantity"], shown["unit_amount"], shown["amount"]]
        assert [Fraction(text) for text in texts] == [
            Fraction(number) for number in (line.quantity, line.unit_amount, line.amount)
        ]
        amounts += texts
    assert all(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text) for text in amounts)


@given(any_price, quantities)
def test_each_line_is_its_quantity_at_its_unit_amount_rounded_once(price: Price, quantity: Decimal) -> None:
    for line in rate(price, quantity).lines:
        exact = Fraction(line.quantity) * Fraction(line.unit_amount) * 10 ** exponent_of(price.currency)
        off = Fraction(line.amount) * 10 ** exponent_of(price.currency) - exact
        assert abs(off) < Fraction(1, 2) or (abs(off) == Fraction(1, 2) and abs(exact + off) > abs(exact))


@given(any_price, quantities)
def test_the_amount_is_off_the_exact_one_by_at_most_half_a_smallest_unit_a_rounded_line(
    price: Price, quantity: Decimal
) -> None:
    rated = rate(price, quantity)
    rounded = sum(line.kind in ("tier", "package", "discount") for line in rated.lines)
    off = abs(Fraction(rated.amount) - Fraction(rated.exact_amount)) * 10 ** exponent_of(price.currency)
    assert off <= Fraction(rounded, 2)


@given(any_price, quantities)
def test_nothing_depends_on_the_callers_decimal_context(price: Price, quantity: Decimal) -> None:
    expected = rate(price, quantity)
    with localcontext() as context:
        context.prec = 3
        context.rounding = ROUND_DOWN
        assert rate(price, quantity) == expected


@given(tiered(), quantities)
def test_every_unit_stands_on_one_line(price: Price, quantity: Decimal) -> None:
    price = replace(price, included=D("10.5"), negative="allow")
    assert sum(Fraction(line.quantity) for line in usage_lines(rate(price, quantity))) == Fraction(quantity)


@given(tiered("graduated"), near | used)
def test_graduated_is_the_integral_of_the_unit_price_and_the_flat_amounts_of_the_tiers_reached(
    price: Price, quantity: Decimal
) -> None:
    starts = [D(0), *(tier.up_to for tier in price.tiers[:-1])]
    flat = sum(
        Fraction(tier.flat_amount)
        for i, (start, tier) in enumerate(zip(starts, price.tiers, strict=True))
        if i == 0 or quantity > (start or 0)
    )
    assert Fraction(rate(price, quantity).exact_amount) == integral(price, Fraction(quantity)) + flat


@given(tiered("volume"), near | used)
def test_volume_is_every_unit_at_the_price_of_the_one_tier_the_last_unit_is_in(price: Price, quantity: Decimal) -> None:
    tier = next(t for t in price.tiers if t.up_to is None or quantity <= t.up_to)
    rated = rate(price, quantity)
    at = Fraction(quantity) * unit_price(price, Fraction(quantity))
    assert Fraction(rated.exact_amount) == at + Fraction(tier.flat_amount)
    assert len([line for line in rated.lines if line.kind == "tier"]) == 1


@given(tiered("graduated"), near, st.integers(0, 400).map(lambda n: D(n) / 4))
def test_splitting_a_graduated_tier_changes_nothing(price: Price, quantity: Decimal, at: Decimal) -> None:
    assume(at > 0 and at not in [tier.up_to for tier in price.tiers])
    index = next(i for i, tier in enumerate(price.tiers) if tier.up_to is None or at < tier.up_to)
    tier = price.tiers[index]
    halves = (replace(tier, up_to=at), replace(tier, flat_amount=D(0)))
    split = replace(price, tiers=(*price.tiers[:index], *halves, *price.tiers[index + 1 :]))
    assert rate(split, quantity).exact_amount == rate(price, quantity).exact_amount


@given(tiered("volume"), near, st.integers(0, 400).map(lambda n: D(n) / 4))
def test_splitting_a_volume_tier_changes_nothing(price: Price, quantity: Decimal, at: Decimal) -> None:
    assume(at > 0 and at not in [tier.up_to for tier in price.tiers])
    index = next(i for i, tier in enumerate(price.tiers) if tier.up_to is None or at < tier.up_to)
    halves = (replace(price.tiers[index], up_to=at), price.tiers[index])
    split = replace(price, tiers=(*price.tiers[:index], *halves, *price.tiers[index + 1 :]))
    assert rate(split, quantity).amount == rate(price, quantity).amount


@given(any_price, quantities, quantities)
def test_more_usage_never_costs_less_except_by_volume(price: Price, one: Decimal, other: Decimal) -> None:
    assume(price.model != "volume")
    less, more = rate(price, min(one, other)), rate(price, max(one, other))
    assert less.amount <= more.amount
    assert less.exact_amount <= more.exact_amount


@given(
    tiered("graduated"), near, near, st.lists(st.builds(Discount, percent_off=st.integers(1, 100).map(D)), max_size=3)
)
def test_more_usage_never_costs_less_where_tiers_and_bounds_lie_close(
    price: Price, one: Decimal, other: Decimal, discounts: list[Discount]
) -> None:
    price = replace(price, minimum=D(5), maximum=D(900), included=D(2), discounts=tuple(discounts))
    assert rate(price, min(one, other)).amount <= rate(price, max(one, other)).amount


@given(small_amounts, used)
def test_per_unit_is_one_tier_without_end(unit_amount: Decimal, quantity: Decimal) -> None:
    per_unit = rate(replace(PER_UNIT, unit_amount=unit_amount), quantity)
    for model in ("graduated", "volume"):
        assert rate(Price("k", model, "usd", tiers=(Tier(None, unit_amount),)), quantity) == per_unit  # type: ignore[arg-type]


@given(any_price, quantities)
def test_minimum_and_maximum_hold_where_discounts_do_not_come_after_them(price: Price, quantity: Decimal) -> None:
    assume(price.discount_order == "first" or not price.discounts)
    for amount in (rate(price, quantity).amount, rate(price, quantity).exact_amount):
        assert price.minimum is None or amount >= price.minimum
        assert price.maximum is None or amount <= price.maximum


@given(any_price, quantities)
def test_nothing_is_below_0_unless_negative_usage_is_credited(price: Price, quantity: Decimal) -> None:
    rated = rate(price, quantity)
    if quantity >= 0 or price.negative == "clamp":
        assert rated.amount >= 0
        assert rated.exact_amount >= 0
    else:
        assert rated.amount <= rate(price, D(0)).amount


@given(any_price, used)
def test_a_credit_is_what_as_much_usage_costs_flat_amounts_bounds_and_discounts_left_out(
    price: Price, quantity: Decimal
) -> None:
    assume(price.model != "flat")
    tiers = tuple(replace(tier, flat_amount=D(0)) for tier in price.tiers)
    bare = replace(price, negative="allow", minimum=None, maximum=None, discounts=(), tiers=tiers)
    charge, credit = rate(bare, quantity), rate(bare, quantity.copy_negate())
    assert Fraction(credit.amount) == -Fraction(charge.amount)
    assert Fraction(credit.exact_amount) == -Fraction(charge.exact_amount)


@pytest.mark.parametrize(
    ("price", "quantity", "lines"),
    [
        (Price("k", "flat", "usd", flat_amount=D(9)), "5", [("flat", None, "1", "9", "9.00")]),
        (PER_UNIT, "0.5", [("tier", 0, "0.5", "0.03", "0.02")]),
        (PER_UNIT, "0", [("tier", 0, "0", "0.03", "0.00")]),
        (replace(PER_UNIT, currency="jpy"), "50", [("tier", 0, "50", "0.03", "2")]),
        (GRADUATED, "100", [("tier", 0, "100", "0.05", "5.00"), ("flat", 0, "1", "1", "1.00")]),
        (
            GRADUATED,
            "100.5",
            [
                ("tier", 0, "100", "0.05", "5.00"),
                ("flat", 0, "1", "1", "1.00"),
                ("tier", 1, "0.5", "0.02", "0.01"),
                ("flat", 1, "1", "3", "3.00"),
            ],
        ),
        (VOLUME, "100", [("tier", 0, "100", "0.05", "5.00"), ("flat", 0, "1", "1", "1.00")]),
        (VOLUME, "100.5", [("tier", 1, "100.5", "0.02", "2.01"), ("flat", 1, "1", "3", "3.00")]),
        (PACKAGE, "2001", [("package", None, "3", "0.5", "1.50")]),
        (PACKAGE, "2000", [("package", None, "2", "0.5", "1.00")]),
        (PACKAGE, "0", [("package", None, "0", "0.5", "0.00")]),
        (replace(PACKAGE, package_round="down"), "2999.999999999", [("package", None, "2", "0.5", "1.00")]),
        (replace(PACKAGE, negative="allow"), "-2001", [("package", None, "-3", "0.5", "-1.50")]),
        (
            replace(PACKAGE, included=D(500)),
            "2001",
            [("included", None, "500", "0", "0.00"), ("package", None, "2", "0.5", "1.00")],
        ),
        (
            replace(PER_UNIT, minimum=D(5)),
            "100",
            [("tier", 0, "100", "0.03", "3.00"), ("minimum", None, "1", "2", "2.00")],
        ),
        (
            replace(PER_UNIT, maximum=D(2)),
            "100",
            [("tier", 0, "100", "0.03", "3.00"), ("maximum", None, "1", "-1", "-1.00")],
        ),
    ],
)
def test_a_model_gives_these_lines(price: Price, quantity: str, lines: list[tuple[Any, ...]]) -> None:
    assert shown(rate(price, read_quantity(quantity))) == lines


@pytest.mark.parametrize(("fee", "amount"), [(True, "1.00"), (False, "0.00")])
@pytest.mark.parametrize("price", [GRADUATED, VOLUME])
def test_without_usage_the_first_flat_amount_is_owed_or_not_as_the_price_says(
    price: Price, fee: bool, amount: str
) -> None:
    price = replace(price, zero_usage_flat_fee=fee)
    assert str(rate(price, D(0)).amount) == amount
    assert str(rate(replace(price, included=D(7)), D(7)).amount) == amount
    assert rate(price, D("0.000000001")).amount == 1
    assert [line.kind for line in rate(price, D(1)).lines] == ["tier", "flat"]


def test_usage_below_0_bills_what_no_usage_bills_or_is_credited() -> None:
    assert rate(GRADUATED, D(-50)) == rate(GRADUATED, D(0))
    credited = rate(replace(GRADUATED, negative="allow"), D(-150))
    assert shown(credited) == [
        ("tier", 0, "-100", "0.05", "-5.00"),
        ("flat", 0, "1", "1", "1.00"),
        ("tier", 1, "-50", "0.02", "-1.00"),
    ]
    assert str(credited.amount) == "-5.00"
    assert shown(rate(replace(VOLUME, negative="allow"), D(-150))) == [("tier", 1, "-150", "0.02", "-3.00")]
    assert shown(rate(PER_UNIT, D("-0"))) == shown(rate(PER_UNIT, D(0)))


@pytest.mark.parametrize(
    ("model", "past", "lines"),
    [
        ("graduated", "last", [("tier", 0, "15", "2", "30.00")]),
        ("graduated", "free", [("tier", 0, "10", "2", "20.00"), ("tier", None, "5", "0", "0.00")]),
        ("volume", "last", [("tier", 0, "15", "2", "30.00")]),
        ("volume", "free", [("tier", 0, "10", "2", "20.00"), ("tier", None, "5", "0", "0.00")]),
    ],
)
def test_usage_past_the_last_tier_costs_what_the_price_says(
    model: Any, past: Any, lines: list[tuple[Any, ...]]
) -> None:
    price = Price("k", model, "usd", tiers=(Tier(D(10), D(2)),), past_last_tier=past)
    assert shown(rate(price, D(15))) == lines
    assert rate(price, D(10)).amount == 20
    with pytest.raises(UnpricedUsage):
        rate(replace(price, past_last_tier="refuse"), D("10.000000001"))


@pytest.mark.parametrize(("model", "amount"), [("graduated", 20 + 50), ("volume", 150)])
def test_only_the_last_tier_goes_on_past_its_end(model: Any, amount: int) -> None:
    price = Price("k", model, "usd", tiers=(Tier(D(10), D(2)), Tier(D(20), D(10)), Tier(D(30), D(5))))
    for past in ("last", "free"):
        assert rate(replace(price, past_last_tier=past), D(15)).amount == amount  # type: ignore[arg-type]


@pytest.mark.parametrize(("way", "amount"), [("exact", "9.01"), ("up", "9.02"), ("down", "6.00")])
def test_a_fraction_of_a_unit_is_priced_or_rounded_first(way: Any, amount: str) -> None:
    assert str(rate(replace(GRADUATED, quantity_round=way), D("100.5")).amount) == amount


def test_a_fraction_between_whole_tiers_belongs_to_the_next_unless_units_are_rounded() -> None:
    ways: tuple[Any, ...] = ("exact", "up", "down")
    tiers = {way: [line.tier for line in rate(replace(VOLUME, quantity_round=way), D("100.5")).lines] for way in ways}
    assert tiers == {"exact": [1, 1], "up": [1, 1], "down": [0, 0]}


def test_discounts_are_taken_in_order_off_what_is_left_and_never_below_0() -> None:
    percent, amount = Discount(percent_off=D(50)), Discount(amount_off=D(2))
    price = replace(PER_UNIT, unit_amount=D(1))
    assert str(rate(replace(price, discounts=(percent, amount)), D(10)).amount) == "3.00"
    assert str(rate(replace(price, discounts=(amount, percent)), D(10)).amount) == "4.00"
    assert shown(rate(replace(price, discounts=(amount, amount)), D(3))) == [
        ("tier", 0, "3", "1", "3.00"),
        ("discount", None, "1", "-2", "-2.00"),
        ("discount", None, "1", "-1", "-1.00"),
    ]
    assert str(rate(replace(price, discounts=(amount,), negative="allow"), D(-3)).amount) == "-3.00"


@pytest.mark.parametrize(("order", "amount"), [("last", "4.50"), ("first", "5.00")])
def test_a_minimum_stands_before_the_discount_or_after_it(order: Any, amount: str) -> None:
    price = replace(PER_UNIT, minimum=D(5), discounts=(Discount(percent_off=D(10)),), discount_order=order)
    assert str(rate(price, D(10)).amount) == amount


def test_the_exact_amount_is_what_it_is_before_any_line_is_rounded() -> None:
    price = Price(
        "k", "graduated", "usd", tiers=(Tier(D(1), D("0.004")), Tier(D(2), D("0.004")), Tier(None, D("0.004")))
    )
    rated = rate(price, D(3))
    assert (str(rated.amount), str(rated.exact_amount.normalize())) == ("0.00", "0.012")
    assert rate(replace(price, minimum=D(1)), D(3)).exact_amount == 1


@pytest.mark.parametrize(
    ("unit_amount", "bound", "lines", "exact"),
    [
        ("0.004", {"minimum": D("0.01")}, ["0.00", "0.00", "0.00", "0.01"], "0.012"),
        ("0.004", {"maximum": D("0.01")}, ["0.00", "0.00", "0.00"], "0.01"),
        ("0.005", {"minimum": D("0.03")}, ["0.01", "0.01", "0.01"], "0.03"),
        ("0.005", {"maximum": D("0.02")}, ["0.01", "0.01", "0.01", "-0.01"], "0.015"),
    ],
)
def test_minimum_and_maximum_are_of_what_is_billed_not_of_what_it_is_before_rounding(
    unit_amount: str, bound: dict[str, Any], lines: list[str], exact: str
) -> None:
    tiers = tuple(Tier(end, D(unit_amount)) for end in (D(1), D(2), None))
    rated = rate(Price("k", "graduated", "usd", tiers=tiers, **bound), D(3))
    assert ([str(line.amount) for line in rated.lines], format_quantity(rated.exact_amount)) == (lines, exact)


@pytest.mark.parametrize(
    "value",
    [
        1.5, True, None, "", " 1", "1e3", "1_000", "+1", "1.", ".5", "٣", "NaN", "Infinity", "0.0000000001",
        "1" + "0" * 24, D("NaN"), D("sNaN"), D("Infinity"), D("1E+24"), D("1E-10"), D("1E+999999"), D("1E-999999"), 10**24,
        -(10**5000),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_exact_quantity_is_refused_by_name(value: Any) -> None:
    with pytest.raises(QuantityInvalid) as caught:
        read_quantity(value)
    assert caught.value.detail.startswith("quantity: expected a decimal with at most 24 digits")
    assert caught.value.extra["field"] == "quantity"


@given(quantities)
def test_a_quantity_is_read_as_it_is(quantity: Decimal) -> None:
    assert read_quantity(quantity) == quantity == read_quantity(format(quantity, "f"))


def test_the_longest_numbers_lose_no_digit() -> None:
    most = D("9" * 24 + "." + "9" * 9)
    price = Price(
        "k",
        "graduated",
        "kwd",
        tiers=(
            *(Tier(D(f"{n}.000000001"), D("9" * 15 + "." + "9" * 12)) for n in range(99)),
            Tier(None, D("999999999999999.999999999999"), D("999999999999999.999")),
        ),
        discounts=(Discount(percent_off=D("33.3333")),) * 10,
    )
    rated = rate(price, most)
    left = Fraction(most) * Fraction(D("999999999999999.999999999999")) + Fraction(D("999999999999999.999"))
    assert Fraction(rated.exact_amount) == left * Fraction(D("0.666667")) ** 10
    package = Price(
        "k", "package", "usd", package_size=D("0.000000001"), package_amount=D("999999999999999.999999999999")
    )
    count = Fraction(most) * 10**9
    assert Fraction(rate(package, most).exact_amount) == count * Fraction(D("999999999999999.999999999999"))
    assert rate(package, most).amount == round_money(rate(package, most).exact_amount, "usd")


def test_a_price_made_by_hand_that_is_too_large_to_be_exact_is_refused() -> None:
    for unit_amount in (D("1E+300"), D("1E+9990"), D("1." + "1" * 500)):
        with pytest.raises(AmountTooLarge):
            rate(replace(PER_UNIT, unit_amount=unit_amount), D("1.5"))
