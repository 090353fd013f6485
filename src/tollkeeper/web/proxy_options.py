"""What a proxy is told: where the upstream is, where keys stand, which paths cost what. Read from text, checked before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import unquote_to_bytes, urlsplit

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.metering import format_quantity, join_quantity, split_quantity
from tollkeeper.web.proxy_head import KeyPlaces

CountOn = Literal["attempt", "success"]
FREE: Final = "free"
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_METER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a call costs: `cost` of `meter`. `meter` None: passes without a key."""

    meter: str | None
    cost: int | str = 1


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules by path. The longest prefix decides; `/docs` stands for itself and all below it, `/` for itself only."""

    default: Rule
    by_prefix: tuple[tuple[str, Rule], ...] = ()

    def find(self, raw_path: bytes) -> Rule:
        """Raises InvalidRequest where calls have several prices and the path can be read in several ways."""
        if not self.by_prefix:
            return self.default
        path = plain_path(raw_path)
        if path is None:
            if all(rule.meter is None for _, rule in self.by_prefix):
                return self.default
            raise InvalidRequest(
                "The path can be read in more than one way: send it without dot segments, empty segments and encoded slashes."
            )
        for prefix, rule in self.by_prefix:  # the longest first
            if path == prefix or (prefix != "/" and path.startswith(prefix) and path[len(prefix)] == "/"):
                return rule
        return self.default


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """`upstream`: scheme, authority and perhaps a path, without a slash at the end. `timeout`: seconds until the answer's head.

    `count_on` None: as the meter says. `trusted`: proxies in front of this one that are believed. `keep_host`: send the client's Host.
    """

    upstream: str
    rules: Rules
    places: KeyPlaces = field(default_factory=KeyPlaces)
    count_on: CountOn | None = None
    trusted: int = 0
    timeout: float = 60.0
    keep_host: bool = False

    @property
    def origin(self) -> str:
        """Scheme and authority of the upstream."""
        parts = urlsplit(self.upstream)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def meters(self) -> set[str]:
        rules = [self.rules.default, *(rule for _, rule in self.rules.by_prefix)]
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


def read_upstream(text: str) -> str:
    """Raises InvalidRequest."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises ValueError when it is no number
    except ValueError:
        parts = urlsplit("")
    fit = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment or parts.username)
    if not fit or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise InvalidRequest(f"upstream: an address such as http://127.0.0.1:8000 is expected, found {text[:80]!r}.")
    return text.rstrip("/")


def read_places(headers: Iterable[str], query: Iterable[str]) -> KeyPlaces:
    """Names of headers (Authorization stands for its Bearer token) and of query parameters. Raises InvalidRequest."""
    headers, query = [name.lower() for name in headers], list(query)
    for name in headers:
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"key header: letters, digits and hyphens are expected, found {name[:80]!r}.")
    for name in query:
        if not re.fullmatch(r"[A-Za-z0-9_.~-]{1,64}", name):
            raise InvalidRequest(f"key parameter: letters, digits and - _ . ~ are expected, found {name[:80]!r}.")
    if not headers and not query:
        raise InvalidRequest("A key must stand somewhere: name a header or a parameter.")
    return KeyPlaces(
        "authorization" in headers,
        frozenset(name.encode() for name in headers if name != "authorization"),
        frozenset(name.encode() for name in query),
    )


def read_cost(text: str) -> int | str:
    """A decimal ≥ 0; whole ones as int, which the gate takes fastest. Raises InvalidRequest."""
    units, nanos = split_quantity(text)
    if units < 0:
        raise InvalidRequest(f"cost: 0 or more is expected, found {text[:40]!r}.")
    return format_quantity(join_quantity(units, nanos)) if nanos else units


def read_rules(meter: str, cost: str, free: Iterable[str] = (), prices: Iterable[str] = ()) -> Rules:
    """`free`: prefixes that pass without a key. `prices`: `PREFIX=METER` or `PREFIX=METER:COST`. Raises InvalidRequest."""
    rules: dict[str, Rule] = {}
    for text in free:
        rules[_prefix(text)] = Rule(None)
    for text in prices:
        path, mark, told = text.rpartition("=")
        name, _, amount = told.partition(":")
        if not mark or not _METER.fullmatch(name):
            raise InvalidRequest(f"price of a path: /path=meter or /path=meter:cost is expected, found {text[:80]!r}.")
        prefix = _prefix(path)
        if prefix in rules:
            raise InvalidRequest(f"{prefix} is given twice, as free or with a price.")
        rules[prefix] = Rule(name, read_cost(amount or "1"))
    if not _METER.fullmatch(meter):
        raise InvalidRequest(f"meter: the key of a meter such as api_calls is expected, found {meter[:80]!r}.")
    longest_first = sorted(rules.items(), key=lambda item: -len(item[0]))
    return Rules(Rule(meter, read_cost(cost)), tuple(longest_first))


def _prefix(text: str) -> str:
    path = plain_path(text.encode()) if text.startswith("/") and "?" not in text and "#" not in text else None
    if path is None:
        raise InvalidRequest(f"path: a plain path that begins with / is expected, found {text[:80]!r}.")
    return path.rstrip("/") or "/"
