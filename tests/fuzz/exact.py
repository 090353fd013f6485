"""The slow and exact reading of a request's JSON, to compare the fast one with: the standard decoder, which shows every pair."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any


class Refused(Exception):
    """Why the text is not to be taken."""


MAX_DIGITS = 40
TEXT = ("id", "type", "source", "subject", "customer", "specversion", "datacontenttype", "dataschema")


def read(body: bytes) -> Any:
    """The value, or Refused: not UTF-8, not JSON, a key twice, a number beyond reason, a NUL or half a surrogate pair."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in found]
        if len(keys) != len(set(keys)):
            raise Refused(f"twice: {keys}")
        for key in keys:
            check_text(key)
        return dict(found)

    def number(text: str) -> Any:
        try:
            value = Decimal(text)
        except InvalidOperation:
            raise Refused("exponent") from None
        _, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int)
        written_out = len(digits) + exponent if exponent >= 0 else max(len(digits), -exponent)
        if written_out > MAX_DIGITS:
            raise Refused("number")
        return int(text) if text.lstrip("-").isdigit() else value

    def constant(text: str) -> Any:
        raise Refused(text)

    try:
        text = body.decode("utf-8")
        value = json.loads(text, object_pairs_hook=pairs, parse_int=number, parse_float=number, parse_constant=constant)
    except ValueError as fault:
        raise Refused(str(fault)) from None
    check(value)
    return value


def check(value: Any) -> None:
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, list):
        for item in value:
            check(item)
    elif isinstance(value, dict):
        for item in value.values():
            check(item)


def check_text(text: str) -> None:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Refused("text")


def read_event(body: bytes) -> dict[str, Any]:
    """One event's attributes without those that are null; Refused when it is none. A time must be left out."""
    event = read(body)
    if not isinstance(event, dict):
        raise Refused("no object")
    if not (isinstance(event.get("id"), str) and isinstance(event.get("type"), str)):
        raise Refused("id and type")
    if "source" in event and event["source"] is None:
        raise Refused("source")
    cloud = "specversion" in event
    for name, value in event.items():
        if name in TEXT:
            if not isinstance(value, str | None):
                raise Refused(name)
        elif name == "data":
            if not isinstance(value, dict | None):
                raise Refused(name)
        elif not cloud:
            raise Refused(f"unknown: {name}")
    if event.get("specversion") not in (None, "1.0"):
        raise Refused("specversion")
    return {name: event[name] for name in (*TEXT, "data") if event.get(name) is not None}
