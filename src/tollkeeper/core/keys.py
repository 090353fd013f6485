"""API keys: `tk_live_` + 30 random base-62 characters + 6 characters of CRC-32, checked before anything is looked up.

Stored as a SHA-256 digest (the secret has 178 bits; a password hash would cost 100 ms a call and add nothing).
Format after https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Literal

from tollkeeper.core.customers import Environment

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BRAND = "tk"
RANDOM_LENGTH = 30
CHECKSUM_LENGTH = 6
KEY_LENGTH = len("tk_live_") + RANDOM_LENGTH + CHECKSUM_LENGTH

NATIVE_PREFIXES = ("tk_live_", "tk_test_")
"""What keys made here begin with; an imported key of another format begins otherwise, or shows no prefix."""

KeyKind = Literal["customer", "server"]
SERVER_SCOPES = ("check", "events:write", "usage:read", "metrics:read")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as stored; the secret itself is nowhere. Instants are microseconds since 1970."""

    id: str
    kind: KeyKind
    customer: str | None
    environment: Environment
    name: str
    digest: bytes
    prefix: str
    last4: str
    scopes: tuple[str, ...]
    ips: tuple[str, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    replaced_by: str | None = None


def base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(BASE62[digit])
    return "".join(reversed(digits))


def checksum(body: str) -> str:
    return base62(zlib.crc32(body.encode()), CHECKSUM_LENGTH)


def make_secret(environment: Environment, random_int: int) -> str:
    """A new secret. `random_int` is uniform below 62³⁰."""
    body = f"{BRAND}_{environment}_{base62(random_int, RANDOM_LENGTH)}"
    return body + checksum(body)


def looks_like_key(raw: str) -> Environment | None:
    """The environment named by a well-formed key with a right checksum; None is junk, refused with no I/O."""
    if len(raw) != KEY_LENGTH or not raw.isascii():
        return None
    environment: Environment
    if raw.startswith("tk_live_"):
        environment = "live"
    elif raw.startswith("tk_test_"):
        environment = "test"
    else:
        return None
    return environment if checksum(raw[:-CHECKSUM_LENGTH]) == raw[-CHECKSUM_LENGTH:] else None


def digest(raw: str) -> bytes:
    return hashlib.sha256(raw.encode()).digest()
