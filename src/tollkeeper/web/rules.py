"""Which call costs what: rules by method and path, read from text, checked before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.metering import format_quantity, join_quantity, split_quantity

CountOn = Literal["attempt", "success"]
_METER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_METHOD: Final = re.compile(r"[A-Z]{1,20}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a call costs: `cost` of `meter`. `meter` None: passes without a key."""

    meter: str | None
    cost: int | str = 1


@dataclass(frozen=True, slots=True)
class PathRule:
    """A rule for `prefix` and all below it. `method` None: every method; a rule for GET holds for HEAD, too."""

    prefix: str
    method: str | None
    rule: Rule


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules by path and method. The longest prefix decides; `/docs` stands for itself and all below it, `/` for itself only."""

    default: Rule
    by_path: tuple[PathRule, ...] = ()

    def find(self, raw_path: bytes, method: str = "GET") -> Rule:
        """Raises InvalidRequest where calls have several prices and the path can be read in several ways."""
        if not self.by_path:
            return self.default
        path = plain_path(raw_path)
        if path is None:
            if all(found.rule.meter is None for found in self.by_path):
                return self.default
            raise InvalidRequest(
                "The path can be read in more than one way: send it without dot segments, empty segments and encoded slashes."
            )
        if method == "HEAD":
            method = "GET"
        for found in self.by_path:  # the longest first
            if found.method is not None and found.method != method:
                continue
            prefix = found.prefix
            if path == prefix or (prefix != "/" and path.startswith(prefix) and path[len(prefix)] == "/"):
                return found.rule
        return self.default

    @property
    def meters(self) -> set[str]:
        rules = [self.default, *(found.rule for found in self.by_path)]
        return {rule.meter for rule in rules if rule.meter is not None}


def plain_path(raw: bytes) -> str | None:
    """The path decoded, or None when servers differ in how they read it (dot or empty segments, encoded slashes, double encoding)."""
    decoded = unquote_to_bytes(raw)
    if b"%" in decoded or b"\\" in decoded or b"//" in decoded or decoded.count(b"/") != raw.count(b"/"):
        return None
    if any(segment.partition(b";")[0] in (b".", b"..") for segment in decoded.split(b"/")):
        return None
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def read_cost(text: str) -> int | str:
    """A decimal ≥ 0; whole ones as int, which the gate takes fastest. Raises InvalidRequest."""
    units, nanos = split_quantity(text)
    if units < 0:
        raise InvalidRequest(f"cost: 0 or more is expected, found {text[:40]!r}.")
    return format_quantity(join_quantity(units, nanos)) if nanos else units


def read_rules(meter: str | None, cost: str = "1", free: Iterable[str] = (), prices: Iterable[str] = ()) -> Rules:
    """`free`: `PREFIX` or `METHOD PREFIX`, which pass without a key. `prices`: `[METHOD ]PREFIX=METER[:COST]`.

    `meter` None: what has no price of its own is free. Raises InvalidRequest.
    """
    rules: dict[tuple[str, str | None], Rule] = {}
    for text in free:
        rules[_where(text)] = Rule(None)
    for text in prices:
        path, mark, told = text.rpartition("=")
        name, _, amount = told.partition(":")
        if not mark or not _METER.fullmatch(name):
            raise InvalidRequest(f"price of a path: /path=meter or /path=meter:cost is expected, found {text[:80]!r}.")
        where = _where(path)
        if where in rules:
            raise InvalidRequest(f"{path} is given twice, as free or with a price.")
        rules[where] = Rule(name, read_cost(amount or "1"))
    if meter is not None and not _METER.fullmatch(meter):
        raise InvalidRequest(f"meter: the key of a meter such as api_calls is expected, found {meter[:80]!r}.")
    by_path = [PathRule(prefix, method, rule) for (prefix, method), rule in rules.items()]
    by_path.sort(key=lambda found: (-len(found.prefix), found.method is None))
    return Rules(Rule(meter, read_cost(cost)), tuple(by_path))


def _where(text: str) -> tuple[str, str | None]:
    """The prefix, and the method where one stands before it."""
    method, space, prefix = text.partition(" ")
    if not space:
        return _prefix(text), None
    if not _METHOD.fullmatch(method) or method == "HEAD":
        raise InvalidRequest(
            f"method: one such as GET is expected before the path, found {text[:80]!r}; GET holds for HEAD."
        )
    return _prefix(prefix), method


def _prefix(text: str) -> str:
    path = plain_path(text.encode()) if text.startswith("/") and "?" not in text and "#" not in text else None
    if path is None:
        raise InvalidRequest(f"path: a plain path that begins with / is expected, found {text[:80]!r}.")
    return path.rstrip("/") or "/"
