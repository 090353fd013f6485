"""Who calls the API: `Authorization: Bearer …`, an admin token or a key. A token is never logged, stored or repeated."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Literal

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import Forbidden, Unauthorized
from tollkeeper.core.keys import ApiKey, looks_like_key

CACHED: Final = 10_000
OWN_USAGE: Final = frozenset({"usage:read"})
"""What a customer's own key may do here. Its stored scopes mean something in the seller's API, nothing in this one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request. `environment` None: both (admin). `customer` is set for a customer's own key: it sees only its own."""

    kind: Literal["admin", "server", "customer"]
    scopes: frozenset[str] = frozenset()
    customer: str | None = None
    environment: Environment | None = None
    key_id: str | None = None

    def require(self, scope: str) -> None:
        """Raises Forbidden naming the scope. An admin may do everything; `admin` is no scope that a key can have."""
        if self.kind != "admin" and scope not in self.scopes:
            if scope == "admin":
                raise Forbidden("This needs the admin token; a key cannot do it.", scope=scope)
            raise Forbidden(f"This token lacks the scope {scope!r}.", scope=scope)


ADMIN: Final = Caller("admin")


class _Unread:
    """Not in the cache; None there means: read, and no such key."""


_UNREAD: Final = _Unread()


class Authenticator:
    """`key_by_digest` reads a stored key by the SHA-256 of its secret. Call `drop` after every commit that changes a key."""

    def __init__(
        self, admin_token: str, key_by_digest: Callable[[bytes], ApiKey | None], now_us: Callable[[], int]
    ) -> None:
        self.admin_token = admin_token
        self._admin_digest = sha256(admin_token.encode()).digest()
        self._key_by_digest = key_by_digest
        self._now_us = now_us
        self._keys: dict[bytes, ApiKey | None] = {}
        self._lock = threading.Lock()
        self._generation = 0
        self._used: dict[str, int] = {}

    def take_used(self) -> dict[str, int]:
        """When keys were last used here (µs by key id) since the last call; for `KeyService.touch`."""
        used, self._used = self._used, {}
        return used

    def drop(self, customer: str | None = None) -> None:
        """Forget every key that was read; one reading in progress is not kept either. `customer` as `on_change` gives it."""
        with self._lock:
            self._generation += 1
            self._keys.clear()

    def authenticate(self, authorization: str | None, peer: str | None = None) -> Caller:
        """Raises Unauthorized, or Forbidden for a key bound to other addresses than `peer`. Reads storage once per key."""
        token = _bearer(authorization)
        digest = sha256(token.encode()).digest()
        if hmac.compare_digest(digest, self._admin_digest):
            return ADMIN
        key = self._key(token, digest)
        if key is None:
            raise Unauthorized("This token is not known here.")
        if key.revoked_at is not None:
            raise Unauthorized("This token is revoked.")
        now = self._now_us()
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthorized("This token has expired.")
        if key.ips and not _within(peer, key.ips):
            raise Forbidden("This token may not be used from this address.")
        self._used[key.id] = now
        scopes = frozenset(key.scopes) if key.kind == "server" else OWN_USAGE
        return Caller(key.kind, scopes, key.customer, key.environment, key.id)

    def knows(self, authorization: str | None) -> bool:
        """Whether `authenticate` will answer from memory."""
        try:
            token = _bearer(authorization)
        except Unauthorized:
            return True
        return sha256(token.encode()).digest() in self._keys or looks_like_key(token) is None

    def _key(self, token: str, digest: bytes) -> ApiKey | None:
        known = self._keys.get(digest, _UNREAD)
        if not isinstance(known, _Unread):
            return known
        if looks_like_key(token) is None:
            return None
        generation = self._generation
        key = self._key_by_digest(digest)
        with self._lock:
            if generation == self._generation:  # a change that came meanwhile wins
                if len(self._keys) >= CACHED:
                    self._keys.clear()
                self._keys[digest] = key
        return key


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise Unauthorized
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("The Authorization header is not of the form `Bearer TOKEN`.")
    return token


def _within(peer: str | None, networks: tuple[str, ...]) -> bool:
    if peer is None:
        return False
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ip_network(network, strict=False) for network in networks)
