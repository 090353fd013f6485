"""Identifiers: a prefix and a ULID, so that they sort by the time they were made.

Format: https://github.com/ulid/spec (48 bits of milliseconds, 80 random bits, Crockford base 32, 26 characters).
"""

from __future__ import annotations

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in CROCKFORD for b in CROCKFORD]
_VALUE = {c: i for i, c in enumerate(CROCKFORD)}


def ulid(ms: int, random80: int) -> str:
    """26 characters from milliseconds since 1970 (48 bits) and 80 random bits."""
    n = (ms << 80) | random80
    p = _PAIRS
    return (
        p[n >> 120]
        + p[(n >> 110) & 1023]
        + p[(n >> 100) & 1023]
        + p[(n >> 90) & 1023]
        + p[(n >> 80) & 1023]
        + p[(n >> 70) & 1023]
        + p[(n >> 60) & 1023]
        + p[(n >> 50) & 1023]
        + p[(n >> 40) & 1023]
        + p[(n >> 30) & 1023]
        + p[(n >> 20) & 1023]
        + p[(n >> 10) & 1023]
        + p[n & 1023]
    )


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
