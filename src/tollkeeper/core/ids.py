"""Identifiers: a prefix and a ULID, so that they sort by the time they were made.

Format: https://github.com/ulid/spec (48 bits of milliseconds, 80 random bits, Crockford base 32, 26 characters).
"""

from __future__ import annotations

from functools import lru_cache

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in CROCKFORD for b in CROCKFORD]
_VALUE = {c: i for i, c in enumerate(CROCKFORD)}


def ulid(ms: int, random80: int) -> str:
    """26 characters from milliseconds since 1970 (48 bits) and 80 random bits."""
    return ulid_of((ms << 80) | random80)


@lru_cache(maxsize=64)
def _ulid_head(head: int) -> str:
    """The first 18 characters: 48 bits of time and the upper 40 random bits."""
    p = _PAIRS
    return (
        p[head >> 80]
        + p[(head >> 70) & 1023]
        + p[(head >> 60) & 1023]
        + p[(head >> 50) & 1023]
        + p[(head >> 40) & 1023]
        + p[(head >> 30) & 1023]
        + p[(head >> 20) & 1023]
        + p[(head >> 10) & 1023]
        + p[head & 1023]
    )


def ulid_of(number: int) -> str:
    """The text of a 128-bit ULID. Fast where neighbours share their upper 88 bits, as those of one process and millisecond do."""
    p = _PAIRS
    low = number & 0xFFFFFFFFFF
    return _ulid_head(number >> 40) + p[low >> 30] + p[(low >> 20) & 1023] + p[(low >> 10) & 1023] + p[low & 1023]


def ulid_value(text: str) -> int | None:
    """The 128-bit number of a canonical ULID; None when `text` is not one."""
    if len(text) != 26 or text[0] > "7":
        return None
    n = 0
    for c in text:
        v = _VALUE.get(c)
        if v is None:
            return None
        n = n << 5 | v
    return n


def new_id(prefix: str, ms: int, random80: int) -> str:
    """For example `cus_01JD3V5E6QN8Z4V9W1T7B2X3YA`. Prefixes: cus, mem, key, sub, evt, req, imp."""
    return f"{prefix}_{ulid(ms, random80)}"
