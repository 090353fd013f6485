"""Meters, events and exact quantities.

A quantity is a decimal of at most 15 digits before the point and 9 after it. It is folded as two integers, whole units and
billionths (0 ≤ nanos < 10⁹), so that SQL adds it exactly and a sum never passes through a float.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from tollkeeper.core.errors import InvalidRequest

Aggregation = Literal["count", "sum", "max", "min", "avg", "latest", "unique"]

NANOS = 1_000_000_000
MAX_UNITS = 10**15
CELL_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Meter:
    """What is counted: events of `event_type`, or the sum of their `data[value_property]`, by `group_by` dimensions."""

    key: str
    event_type: str
    aggregation: Aggregation
    value_property: str | None = None
    group_by: tuple[str, ...] = ()
    count_on: Literal["attempt", "success"] = "success"
    unit: str = ""


class QuantityInvalid(InvalidRequest):
    """A quantity is a decimal number with at most 15 digits before the point and 9 after it."""

    code = "quantity_invalid"


def split_quantity(value: Any) -> tuple[int, int]:
    """`value` (int, Decimal, or a decimal string) as (units, nanos). Raises QuantityInvalid; floats, NaN and bools are refused."""
    if type(value) is int:
        units, nanos = value, 0
    elif type(value) is str or type(value) is Decimal:
        units, nanos = _split_decimal(value)
    else:
        raise QuantityInvalid
    if not -MAX_UNITS < units < MAX_UNITS:
        raise QuantityInvalid
    return units, nanos


def _split_decimal(value: str | Decimal) -> tuple[int, int]:
    if type(value) is str and (len(value) > 40 or "_" in value or not value.isascii()):
        raise QuantityInvalid
    try:
        sign, digits, exponent = Decimal(value).as_tuple()
    except InvalidOperation:
        raise QuantityInvalid from None
    if not isinstance(exponent, int) or len(digits) > 40 or not -40 <= exponent <= 15:
        raise QuantityInvalid
    number = int("".join(map(str, digits)))
    shift = exponent + 9
    if shift >= 0:
        billionths = number * int(10**shift)
    else:
        billionths, lost = divmod(number, int(10**-shift))
        if lost:
            raise QuantityInvalid
    return divmod(-billionths if sign else billionths, NANOS)


def join_quantity(units: int, nanos: int) -> Decimal:
    """The exact decimal of summed (units, nanos); nanos may have grown past 10⁹."""
    return Decimal(units * NANOS + nanos).scaleb(-9)


def format_quantity(value: Decimal) -> str:
    """A decimal as people write it: no exponent, no trailing zeros. `Decimal("1E+3")` is "1000"."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text
