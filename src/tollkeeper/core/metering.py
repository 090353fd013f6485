"""Meters, events, exact quantities, and the values events are told apart by.

A quantity is a decimal of at most 15 digits before the point and 9 after it. It is folded as two integers, whole units and
billionths (0 ≤ nanos < 10⁹), so that SQL adds it exactly and a sum never passes through a float.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from tollkeeper.core.errors import InvalidRequest

Aggregation = Literal["count", "sum", "max", "min", "avg", "latest", "unique"]

NANOS = 1_000_000_000
MAX_UNITS = 10**15
CELL_SECONDS = 900
MAX_VALUE: Final = 128
"""Characters of a value of `data` that events are told apart by: a dimension, what a unique meter counts."""
SUMMED: Final = ("count", "sum", "avg")
"""Aggregations that need no more than how many events there were and their sum."""
_MAX_TEXT: Final = 40
_NUMBER: Final = re.compile(r"([+-]?)([0-9]+)(?:\.([0-9]+))?([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Filter:
    """Keeps the events whose `data[property]` is one of `values`; `negated`: the others, those without the property included."""

    property: str
    values: tuple[str, ...]
    negated: bool = False

    def passes(self, value: str | None) -> bool:
        """`value`: text of the property, None without it."""
        return (value in self.values) is not self.negated


@dataclass(frozen=True, slots=True)
class Meter:
    """What is counted: events of `event_type` that pass all `filters`, or what `aggregation` makes of their `data[value_property]`.

    Also kept apart by `group_by`: at most three properties of `data`.
    """

    key: str
    event_type: str
    aggregation: Aggregation
    value_property: str | None = None
    group_by: tuple[str, ...] = ()
    count_on: Literal["attempt", "success"] = "success"
    unit: str = ""
    filters: tuple[Filter, ...] = ()

    @property
    def checkable(self) -> bool:
        """Whether a check can be counted by it: a check brings a quantity and no other data."""
        return self.aggregation in ("count", "sum") and not self.filters


class ValueInvalid(InvalidRequest):
    """A value that events are told apart by is text without NUL, a number, true or false, of at most 128 characters."""

    code = "value_invalid"


class QuantityInvalid(InvalidRequest):
    """A quantity is a decimal number with at most 15 digits before the point and 9 after it."""

    code = "quantity_invalid"


def split_quantity(value: Any) -> tuple[int, int]:
    """`value` (int, Decimal, or a decimal string) as (units, nanos). Raises QuantityInvalid; floats, NaN and bools are refused."""
    if type(value) is int:
        units, nanos = value, 0
    elif type(value) is str:
        units, nanos = _split_text(value)
    elif type(value) is Decimal:
        units, nanos = _split_decimal(value)
    else:
        raise QuantityInvalid
    if not -MAX_UNITS < units < MAX_UNITS and (units != -MAX_UNITS or not nanos):
        raise QuantityInvalid
    return units, nanos


def _split_text(text: str) -> tuple[int, int]:
    if len(text) > _MAX_TEXT or (match := _NUMBER.fullmatch(text)) is None:
        raise QuantityInvalid
    sign, whole, fraction, exponent = match.groups()
    if exponent is not None:
        return _split_decimal(Decimal(text))
    units = int(whole)
    if fraction is None:
        return -units if sign == "-" else units, 0
    if fraction[9:].strip("0"):
        raise QuantityInvalid
    nanos = int(fraction[:9].ljust(9, "0"))
    return divmod(-units * NANOS - nanos, NANOS) if sign == "-" else (units, nanos)


def _split_decimal(value: Decimal) -> tuple[int, int]:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or len(digits) > _MAX_TEXT or not -_MAX_TEXT <= exponent <= 15:
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
    """The exact decimal of summed (units, nanos); nanos may have grown past 10⁹. Any number of digits, whatever the context."""
    billionths = units * NANOS + nanos
    return Decimal(f"{billionths}e-9")


def format_quantity(value: Decimal) -> str:
    """A decimal as people write it: no exponent, no trailing zeros. `Decimal("1E+3")` is "1000"."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


def value_text(value: Any) -> str | None:
    """The text by which a value of `data` is told apart from others; None without one (missing or null).

    A number is its decimal without exponent or trailing zeros, so 1, 1.0 and "1" are the same. Raises ValueInvalid.
    """
    if value is None:
        return None
    if type(value) is str:
        text = value
    elif type(value) is bool:
        text = "true" if value else "false"
    elif isinstance(value, int) and -(10**MAX_VALUE) < value < 10**MAX_VALUE:
        text = str(int(value))
    elif isinstance(value, Decimal | float):
        number = Decimal(repr(value)) if isinstance(value, float) else value
        if not number.is_finite() or abs(number.adjusted()) >= MAX_VALUE:
            raise ValueInvalid
        text = format_quantity(number)
    else:
        raise ValueInvalid
    if len(text) > MAX_VALUE or "\0" in text:
        raise ValueInvalid
    return text


def filter_text(value: Any) -> str | None:
    """`value_text` for a filter, for which what has no such text is merely another value: "" is none that a filter names."""
    try:
        return value_text(value)
    except ValueInvalid:
        return ""


def passes(filters: tuple[Filter, ...], data: Mapping[str, Any] | None) -> bool:
    """Whether an event with this `data` passes all of them."""
    return all(one.passes(None if data is None else filter_text(data.get(one.property))) for one in filters)
