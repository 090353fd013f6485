"""JSON as Tollkeeper takes it: UTF-8, no key twice in an object, no NUL, bounded depth and numbers. Each refusal names the place.

A typed decoder alone lets some of this pass (of two equal keys the last one wins, in silence), and looking at every key again
in Python would cost more than the decoding. So a document is first judged by counts made in C: `":` occurs at least once for every
key that no white space parts from its colon. If it occurs as often as the decoded value has keys, no key came twice.
Only a document that fails such a test is read again, slowly and exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Generic, TypeVar

import msgspec

from tollkeeper.core.errors import InvalidRequest

T = TypeVar("T")

MAX_DEPTH: Final = 32
MAX_DIGITS: Final = 40
LONG_BITS: Final = 132  # a whole number that may have more digits than that

_SPACES_AND_DIGITS: Final = bytes(
    ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") if byte in b"\t\n\r" else byte for byte in range(256)
)
_TOO_LONG: Final = f"a number has more than {MAX_DIGITS} digits"
_LONG_NUMBER: Final = b"0" * (MAX_DIGITS + 1)


TOO_DEEP: Final = -(1 << 40)


def count_keys(value: Any, depth: int = 1) -> int:
    """Keys in all objects of a decoded value; below any count when it is nested deeper than MAX_DEPTH. `depth`: where it stands."""
    if type(value) is dict:
        total = len(value)
        items: Iterable[Any] = value.values()
    elif type(value) is list:
        total, items = 0, value
    else:
        return 0
    if depth > MAX_DEPTH:
        return TOO_DEEP
    for item in items:
        if type(item) is dict or type(item) is list:
            total += count_keys(item, depth + 1)
    return total


def surely_strict(raw: bytes, keys: int) -> bool:
    """True: the text, which was decoded and has `keys` keys, holds nothing that `inspect` refuses. False: look closer."""
    if raw.count(b'":') != keys:
        return False
    plain = raw.translate(_SPACES_AND_DIGITS)
    return b" :" not in plain and _LONG_NUMBER not in plain and not (b"\\" in raw and b"\\u0000" in raw)


def exact_number(text: str) -> Decimal:
    """A number with a point or an exponent, kept exact. Raises ValueError when it has more than 40 digits, written out."""
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal holds
        raise ValueError(_TOO_LONG) from None
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or max(len(digits) + exponent, -exponent, len(digits)) > MAX_DIGITS:
        raise ValueError(_TOO_LONG)
    return number


class StrictDecoder(Generic[T]):
    """Decodes one document into `type`, as msgspec does, and refuses what msgspec lets pass. Numbers with a point become Decimal.

    `keys(value)` says how many keys the value had in the text; it may say less (the document is then read twice), never more.
    It calls `count_keys` for parts of free form. The default suits a `type` of plain dicts and lists.
    """

    def __init__(self, type: Any = Any, keys: Callable[[T], int] = count_keys) -> None:
        self._decode: Callable[[bytes], T] = msgspec.json.Decoder(type, float_hook=exact_number).decode
        self._keys = keys

    def decode(self, raw: bytes) -> T:
        """Raises InvalidRequest naming the fault and its place."""
        try:
            value = self._decode(raw)
        except UNDECODED as error:
            raise refusal(raw, error) from None
        if not surely_strict(raw, self._keys(value)):
            inspect(raw)
        return value


UNDECODED: Final = (ValueError, RecursionError)
"""What a msgspec decoder with `exact_number` raises. Its own errors are ValueErrors."""

_OF_FIELD: Final = re.compile(r"Object (contains unknown field|missing required field) `([^`]*)`")


def refusal(raw: bytes, error: Exception) -> InvalidRequest:
    """Why a typed decoder did not take the text, by its place. msgspec says: Expected `int`, got `str` - at `$.data[0].cost`"""
    try:
        inspect(raw)
    except InvalidRequest as found:
        return found
    message, _, place = str(error).partition(" - at `$")
    field = place.rstrip("`").removeprefix(".")
    if found_field := _OF_FIELD.match(message):
        field = f"{field}.{_shown(found_field[2])}" if field else _shown(found_field[2])
        message = "there is no such field" if found_field[1].startswith("contains") else "this field is missing"
    else:
        message = message[:1].lower() + message[1:].replace("`", "")
    return InvalidRequest(f"{_at(field)}{message}.", field=field or None)


class _Fault:
    """Stands in the tree where the parser met something refused; the walk finds out where that is."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what


def inspect(raw: bytes) -> Any:
    """Read a document exactly, without a schema, and give its value. Raises InvalidRequest naming the fault and its place."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8: byte {error.start} cannot be read.") from None
    if text.startswith("\ufeff"):
        raise InvalidRequest("The body begins with a byte order mark; send JSON in UTF-8 without one.")
    try:
        value = _EXACT.decode(text)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise InvalidRequest("The body is empty; JSON is expected.") from None
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"The body is not JSON: {_lower(error.msg)} at {where}.") from None
    except RecursionError:
        raise InvalidRequest(f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    _walk(value, "", 1)
    return value


def _walk(value: Any, place: str, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, _Fault):
        raise InvalidRequest(f"{_at(place)}{value.what}.", field=place or None)
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"{_at(place)}nested deeper than {MAX_DEPTH} levels.", field=place)
        if isinstance(value, dict):
            for key, item in value.items():
                _check_text(key, place)
                _walk(item, f"{place}.{_shown(key)}" if place else _shown(key), depth + 1)
        else:
            for index, item in enumerate(value):
                _walk(item, f"{place}[{index}]", depth + 1)


def _check_text(text: str, place: str) -> None:
    if "\0" in text:
        raise InvalidRequest(f"{_at(place)}a NUL character is not allowed.", field=place or None)
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequest(f"{_at(place)}half of a surrogate pair is not a character.", field=place or None)


def _unique(pairs: list[tuple[str, Any]]) -> Any:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return _Fault(f"the key {_shown(key)!r} appears twice")
        seen.add(key)
    raise AssertionError("fewer keys than pairs, yet none twice")


def _whole(text: str) -> Any:
    if len(text) - text.startswith("-") > MAX_DIGITS:
        return _Fault(_TOO_LONG)
    return int(text)


def _decimal(text: str) -> Any:
    try:
        return exact_number(text)
    except ValueError as error:
        return _Fault(str(error))


def _constant(text: str) -> Any:
    return _Fault(f"{text} is not JSON")


def _at(place: str) -> str:
    return f"{place}: " if place else "The body: "


def _shown(key: str) -> str:
    """A key as a message repeats it: short, printable."""
    key = key.encode("ascii", "backslashreplace").decode() if not key.isprintable() else key
    return key if len(key) <= 60 else f"{key[:59]}…"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


_EXACT: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_whole, parse_float=_decimal, parse_constant=_constant, strict=True
)
