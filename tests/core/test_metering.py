from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollkeeper.core.metering import MAX_UNITS, NANOS, QuantityInvalid, format_quantity, join_quantity, split_quantity

LIMIT = MAX_UNITS * NANOS
billionths = st.integers(-LIMIT + 1, LIMIT - 1) | st.integers(-3 * NANOS, 3 * NANOS)


def written(number: int) -> str:
    """`number` billionths as text, by integer arithmetic only."""
    whole, rest = divmod(abs(number), NANOS)
    return f"{'-' if number < 0 else ''}{whole}.{rest:09}"


@given(billionths)
@example(-LIMIT + 1)
@example(LIMIT - 1)
def test_every_quantity_in_range_is_taken_exactly_however_it_is_written(number: int) -> None:
    text = written(number)
    expected = divmod(number, NANOS)
    assert split_quantity(text) == expected
    assert split_quantity(Decimal(text)) == expected
    assert split_quantity(text.rstrip("0").rstrip(".")) == expected
    if len(str(number)) < 36:
        assert split_quantity(f"{number}e-9") == expected
    if number % NANOS == 0:
        assert split_quantity(number // NANOS) == expected


@given(st.lists(billionths, max_size=50))
def test_a_sum_of_quantities_is_exact_against_fractions(numbers: list[int]) -> None:
    pairs = [split_quantity(written(n)) for n in numbers]
    total = join_quantity(sum(units for units, _ in pairs), sum(nanos for _, nanos in pairs))
    assert Fraction(total) == sum((Fraction(n, NANOS) for n in numbers), Fraction(0))


@given(st.integers(-(10**40), 10**40), st.integers(0, 10**25))
def test_a_sum_is_exact_at_any_size_and_in_any_decimal_context(units: int, nanos: int) -> None:
    with localcontext() as context:
        context.prec = 3
        assert Fraction(join_quantity(units, nanos)) == units + Fraction(nanos, NANOS)


@given(billionths)
def test_a_quantity_written_out_is_plain_and_reads_back_the_same(number: int) -> None:
    text = format_quantity(join_quantity(0, number))
    assert Fraction(text) == Fraction(number, NANOS)
    assert split_quantity(text) == divmod(number, NANOS)
    assert "E" not in text.upper()
    assert not text.startswith("+")
    assert "." not in text or text[-1] != "0"
    assert text not in ("-0", "")


@given(
    st.text(max_size=45)
    | st.text("0123456789.eE+-_ \n", max_size=45)
    | st.from_regex(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
)
@example("1e999999999999999999999")
def test_any_text_is_exactly_a_number_or_refused(text: str) -> None:
    try:
        units, nanos = split_quantity(text)
    except QuantityInvalid:
        return
    assert 0 <= nanos < NANOS
    assert text == text.strip()
    assert Fraction(text) == units + Fraction(nanos, NANOS)


@given(st.decimals(allow_nan=True, allow_infinity=True) | st.integers())
def test_any_number_is_taken_exactly_or_refused(value: Decimal | int) -> None:
    try:
        units, nanos = split_quantity(value)
    except QuantityInvalid:
        return
    assert 0 <= nanos < NANOS
    assert Fraction(value) == units + Fraction(nanos, NANOS)


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        True,
        None,
        b"1",
        [1],
        "",
        " 1",
        "1\n",
        "1_000",
        "1,5",
        "٣",
        ".5",
        "5.",
        "NaN",
        "Infinity",
        "0x10",
        "1\0",
        "0.0000000001",
        "1e-10",
        "1" * 41,
        MAX_UNITS,
        -MAX_UNITS,
        str(MAX_UNITS),
        f"-{MAX_UNITS}",
        "1e15",
        f"-{MAX_UNITS}.5",
        Decimal("sNaN"),
        Decimal("1E+1000000"),
    ],
)
def test_what_is_no_quantity_is_refused(value: Any) -> None:
    with pytest.raises(QuantityInvalid):
        split_quantity(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1E+3", "1000"),
        ("-0.00", "0"),
        ("-0E+2", "0"),
        ("0E-20", "0"),
        ("-100", "-100"),
        ("10.500", "10.5"),
        ("1E-9", "0.000000001"),
    ],
)
def test_a_decimal_is_written_as_people_write_it(value: str, expected: str) -> None:
    assert format_quantity(Decimal(value)) == expected
