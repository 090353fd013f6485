"""Strict JSON: no key twice, no NUL, no number beyond reason, bounded nesting.

A decoder keeps the last of two equal keys and says nothing, so a request could mean two things. Counting `":` in the text tells at the
speed of a memory scan: without a backslash every quote begins or ends a string, so each key is one `":`, and a key sent twice makes the
text hold more of them than the decoded value has. Whatever the scan cannot decide is read again, slowly and exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from tollkeeper.core.errors import InvalidRequest

MAX_DIGITS = 40
LONG_BITS = 120  # a whole number that may have more digits than that
TOO_DEEP = -(1 << 40)


def count_pairs(value: Any, depth: int = 32) -> int:
    """Keys in a decoded JSON value, at every depth; below any count when it is nested deeper than `depth` or holds a long number."""
    if depth == 0:
        return TOO_DEEP
    pairs = 0
    items: Iterable[Any] = ()
    if isinstance(value, dict):
        pairs = len(value)
        items = value.values()
    elif isinstance(value, list):
        items = value
    for item in items:
        if isinstance(item, int):
            if item.bit_length() > LONG_BITS:
                return TOO_DEEP
        elif isinstance(item, dict | list):
            pairs += count_pairs(item, depth - 1)
    return pairs


def decimal_of(text: str) -> Decimal:
    """A number with a fraction or an exponent, for a decoder that hands over its text. Raises InvalidRequest."""
    if len(text) > MAX_DIGITS:
        raise InvalidRequest(f"A number has {len(text)} characters; at most {MAX_DIGITS} are taken.")
    try:
        return Decimal(text)
    except ArithmeticError:
        raise InvalidRequest(f"The number {text} is beyond reason.") from None


def has_only(body: bytes, pairs: int) -> bool:
    """True: the text surely holds no key twice and nothing else `require_strict` refuses. False: look closer."""
    return (
        body.count(b'":') == pairs
        and b"\\" not in body
        and b" :" not in body
        and b"\n:" not in body
        and b"\t:" not in body
        and b"\r:" not in body
        and b"\0" not in body
    )


def require_strict(body: bytes, depth: int = 32) -> None:
    """Raises InvalidRequest for a key sent twice, a NUL, a number of more than 40 digits, NaN or Infinity, or nesting beyond `depth`."""
    try:
        value = json.loads(
            body, object_pairs_hook=_unique, parse_int=_int, parse_float=decimal_of, parse_constant=_constant
        )
    except InvalidRequest:
        raise
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}).") from None
    except RecursionError:
        raise InvalidRequest(f"The body is nested deeper than {depth}.") from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from None
    _walk(value, depth, depth)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidRequest(
                    f"The key {key[:60]!r} is sent twice in one object; which one is meant cannot be told."
                )
            seen.add(key)
    return found


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise InvalidRequest(f"A number has {len(text)} characters; at most {MAX_DIGITS} are taken.")
    return int(text)


def _constant(text: str) -> Any:
    raise InvalidRequest(f"{text} is not a JSON number.")


def _walk(value: Any, left: int, depth: int) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidRequest("A string holds a NUL character.")
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise InvalidRequest("A string holds half of a surrogate pair; it is no valid text.")
    elif isinstance(value, dict | list):
        if left == 0:
            raise InvalidRequest(f"The body is nested deeper than {depth}.")
        if isinstance(value, dict):
            for key, item in value.items():
                _walk(key, left - 1, depth)
                _walk(item, left - 1, depth)
        else:
            for item in value:
                _walk(item, left - 1, depth)
