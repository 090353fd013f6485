"""Checks of what callers send to the desk. Each raises InvalidRequest naming the field (`extra["field"]`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Generic, TypeVar
from unicodedata import category

from tollkeeper.core.catalog_keys import MAX_LIMIT, MAX_WINDOW_SECONDS
from tollkeeper.core.customers import ENVIRONMENTS, Environment
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.limits import MAX_LIMIT_PER_SECOND
from tollkeeper.core.metering import QuantityInvalid, split_quantity
from tollkeeper.core.money import CurrencyInvalid, exponent_of
from tollkeeper.core.periods import ZoneInvalid, find_zone
from tollkeeper.core.plans import Quota, RateLimit

T = TypeVar("T")

MAX_PAGE = 1000
LAST_INSTANT = 253_402_300_799_999_999  # the end of the year 9999

_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:@-]{1,64}")
_SCOPE = re.compile(r"[a-z0-9_:.*-]{1,64}")
_EMAIL = re.compile(r"[^@\s\"(),:;<>\[\\\]]{1,64}@[^@\s\"(),:;<>\[\\\]]{1,189}")
_REFUSED = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of surrogate pairs, line and paragraph separators


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next` is the cursor of the following page, None on the last."""

    items: Sequence[T]
    next: str | None


def invalid(field: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {expected}", field=field)


def is_identifier(value: object) -> bool:
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def is_version(value: object) -> bool:
    return type(value) is int and 0 < value < 2**31


def identifier(field: str, value: object) -> str:
    if not isinstance(value, str) or not is_identifier(value):
        raise invalid(field, "1 to 64 characters of A-Z a-z 0-9 _ . : @ -")
    return value


def line(field: str, value: object, most: int = 200, *, empty: bool = False) -> str:
    """One line of text, trimmed."""
    if not isinstance(value, str):
        raise invalid(field, "text is expected")
    value = value.strip()
    if len(value) > most or not (value or empty):
        raise invalid(field, f"{0 if empty else 1} to {most} characters are expected")
    if any(category(character) in _REFUSED for character in value):
        raise invalid(field, "control characters are not allowed")
    return value


def is_email_address(value: object) -> bool:
    return isinstance(value, str) and _EMAIL.fullmatch(value) is not None


def email_address(field: str, value: object) -> str:
    """A plausible address, trimmed; whether it exists only a mail can tell."""
    value = line(field, value, 254)
    if not _EMAIL.fullmatch(value):
        raise invalid(field, "an e-mail address such as ada@example.com is expected")
    return value


def environment_name(field: str, value: object) -> Environment:
    for environment in ENVIRONMENTS:
        if value == environment:
            return environment
    raise invalid(field, "live or test is expected")


def currency_code(field: str, value: object) -> str:
    try:
        exponent_of(value if isinstance(value, str) else "")
    except CurrencyInvalid as error:
        raise CurrencyInvalid(f"{field}: {error.detail}", field=field) from None
    return str(value)


def zone_name(field: str, value: object) -> str:
    try:
        return find_zone(value if isinstance(value, str) else "").key
    except ZoneInvalid as error:
        raise ZoneInvalid(f"{field}: {error.detail}", field=field) from None


def instant(field: str, value: object, after: int) -> int:
    """Microseconds since 1970, later than `after`."""
    if type(value) is not int or not 0 <= value <= LAST_INSTANT:
        raise invalid(field, "an instant before the year 10000 is expected")
    if value <= after:
        raise invalid(field, "an instant in the future is expected")
    return value


def scope_names(field: str, value: object, most: int = 32) -> tuple[str, ...]:
    scopes = _strings(field, value, most)
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise invalid(field, f"{scope[:80]!r} is not 1 to 64 characters of a-z 0-9 _ : . * -")
    return tuple(dict.fromkeys(scopes))


def networks(field: str, value: object, most: int = 64) -> tuple[str, ...]:
    """Addresses and CIDR blocks in canonical form; a lone address is a block of one.

    Callers are compared as IPv4 where they are, so `::ffff:10.0.0.1` is kept as 10.0.0.1: as IPv6 it would never match.
    """
    found = []
    for text in _strings(field, value, most):
        try:
            if "%" in text:
                raise ValueError("an address with a zone belongs to one machine only")
            found.append(str(_plain(ip_network(text))))
        except ValueError as error:
            raise invalid(field, f"{text[:80]!r} is not an address or a CIDR block ({str(error)[:120]})") from None
    return tuple(dict.fromkeys(found))


def _plain(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        inner = network.network_address.ipv4_mapped
        if inner is not None:
            return IPv4Network((inner, network.prefixlen - 96))
    return network


def rate_limit(limit: RateLimit) -> None:
    """The bounds that the catalog sets for a plan's limits."""
    identifier("limit.name", limit.name)
    if type(limit.window_seconds) is not int or not 1 <= limit.window_seconds <= MAX_WINDOW_SECONDS:
        raise invalid("limit.window_seconds", f"a number of seconds from 1 to {MAX_WINDOW_SECONDS} is expected")
    most = min(MAX_LIMIT, limit.window_seconds * MAX_LIMIT_PER_SECOND)
    if type(limit.limit) is not int or not 1 <= limit.limit <= most:
        raise invalid("limit.limit", f"a number of requests from 1 to {most} is expected")
    if limit.per not in ("key", "customer"):
        raise invalid("limit.per", "key or customer is expected")
    if limit.meter is not None:
        identifier("limit.meter", limit.meter)


def quota(value: Quota) -> None:
    identifier("quota.meter", value.meter)
    if value.kind not in ("hard", "soft"):
        raise invalid("quota.kind", "hard or soft is expected")
    try:
        units, _ = split_quantity(value.limit)
    except QuantityInvalid as error:
        raise invalid("quota.limit", error.detail) from None
    if units < 0:
        raise invalid("quota.limit", "zero or more is expected")


def page_bounds(cursor: Any, limit: Any) -> tuple[str | None, int]:
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
        raise invalid("limit", f"a number from 1 to {MAX_PAGE} is expected")
    return (None if cursor is None else identifier("cursor", cursor)), limit


def _strings(field: str, value: object, most: int) -> Iterable[str]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise invalid(field, "a list of strings is expected")
    if len(value) > most:
        raise invalid(field, f"at most {most} entries are allowed")
    return value
