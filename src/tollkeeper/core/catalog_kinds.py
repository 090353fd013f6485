"""What a key of the catalog takes. A Kind turns a TOML value into the value of a dataclass field, or raises Unfit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final

from tollkeeper.core.catalog_faults import Float
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.money import EXPONENTS

MAX_GROUP_BY: Final = 3
KEPT_ALWAYS: Final = ("customer", "environment", "key", "meter", "subject")


class Unfit(Exception):
    """The value is not of its kind."""

    def __init__(self, hint: str = "") -> None:
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Kind:
    """`expected` completes "expected …" in a fault and stands in the docs."""

    expected: str
    read: Callable[[Any], Any]


def pattern(expected: str, expression: str) -> Kind:
    compiled = re.compile(expression)

    def read(value: Any) -> str:
        if isinstance(value, str) and compiled.fullmatch(value):
            return value
        raise Unfit

    return Kind(expected, read)


def text(longest: int, shortest: int = 1) -> Kind:
    def read(value: Any) -> str:
        if (
            isinstance(value, str)
            and shortest <= len(value) <= longest
            and value.isprintable()
            and value == value.strip()
        ):
            return value
        raise Unfit

    return Kind(f"text of {shortest} to {longest} characters on one line, no space at the ends", read)


def whole(what: str, least: int, most: int) -> Kind:
    def read(value: Any) -> int:
        if type(value) is int and least <= value <= most:
            return value
        raise Unfit(
            "write it without quotes" if isinstance(value, str) and value.isascii() and value.isdecimal() else ""
        )

    return Kind(f"{what} from {least} to {most}", read)


def one_of(*choices: str) -> Kind:
    def read(value: Any) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise Unfit(did_you_mean(value, choices) if isinstance(value, str) else "")

    return Kind("one of " + ", ".join(f'"{choice}"' for choice in choices), read)


def decimal(what: str, places: int, *, least: str = "0") -> Kind:
    grammar = re.compile(rf"[0-9]{{1,15}}(?:\.[0-9]{{1,{places}}})?")
    lowest = Decimal(least)

    def read(value: Any) -> Decimal:
        if isinstance(value, Float):
            raise Unfit(f'write it in quotes: "{value.text}"' if grammar.fullmatch(value.text) else "")
        written = str(value) if type(value) is int and abs(value) < 10**16 else value
        if not isinstance(written, str) or not grammar.fullmatch(written):
            raise Unfit
        number = Decimal(format_quantity(Decimal(written)))
        if number < lowest:
            raise Unfit
        return number

    bound = "" if least == "0" else f" and at least {least}"
    return Kind(
        f'{what} such as "0.002", in quotes, with at most 15 digits before the point and {places} after it{bound}', read
    )


def percentage() -> Kind:
    number = decimal("", 4, least="0.0001")

    def read(value: Any) -> Decimal:
        found: Decimal = number.read(value)
        if found > 100:
            raise Unfit
        return found

    return Kind(
        'a percentage from 0.0001 to 100 such as "12.5", in quotes, with at most 4 digits after the point', read
    )


def flag() -> Kind:
    def read(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise Unfit("write it without quotes" if value in ("true", "false") else "")

    return Kind("true or false", read)


def currency() -> Kind:
    def read(value: Any) -> str:
        if isinstance(value, str) and value in EXPONENTS:
            return value
        if isinstance(value, str):
            raise Unfit(f'write it in lower case: "{value.lower()}"' if value.lower() in EXPONENTS else "")
        raise Unfit

    return Kind('a lower-case ISO 4217 code such as "usd"', read)


def dimensions() -> Kind:
    name = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")

    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > MAX_GROUP_BY:
            raise Unfit
        if not all(isinstance(item, str) and name.fullmatch(item) for item in value):
            raise Unfit
        if len(set(value)) < len(value):
            raise Unfit("each once")
        if always := sorted(set(value).intersection(KEPT_ALWAYS)):
            raise Unfit(f"{', '.join(always)}: always kept, and no property of `data`")
        return tuple(value)

    return Kind(f"an array of at most {MAX_GROUP_BY} property names of `data`", read)


def plan_keys() -> Kind:
    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > 100 or not all(isinstance(item, str) for item in value):
            raise Unfit
        if len(set(value)) < len(value):
            raise Unfit("each once")
        return tuple(value)

    return Kind('an array of plan keys, or ["*"]', read)


def values(most: int, kind: Kind) -> Kind:
    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            raise Unfit
        found = tuple(kind.read(item) for item in value)
        if len(set(found)) < len(found):
            raise Unfit("each once")
        return found

    return Kind(f"an array of 1 to {most} items, each {kind.expected}", read)


def up_to() -> Kind:
    quantity = decimal("a quantity", 9, least="0.000000001")

    def read(value: Any) -> Decimal | None:
        if isinstance(value, Float) and value.text in ("inf", "+inf"):
            raise Unfit('write it in quotes: "inf"')
        return None if value == "inf" else quantity.read(value)

    return Kind(f'"inf" or {quantity.expected}', read)


def static() -> Kind:
    words, number = text(200), whole("", -(10**15), 10**15)

    def read(value: Any) -> int | str:
        found: int | str = words.read(value) if isinstance(value, str) else number.read(value)
        return found

    return Kind("text of 1 to 200 characters on one line, or a whole number", read)


def nested() -> Kind:
    """A table or array of tables, read by the section of that name."""
    return Kind("", lambda value: value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint naming the nearest of `known`, or ""."""
    near = get_close_matches(word[:64], list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""
