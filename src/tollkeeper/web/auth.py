"""Who calls the API: `Authorization: Bearer …`, an admin token or a key. A token is never logged, stored or repeated."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final, Literal

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

    def environment_of(self, wanted: Environment | None) -> Environment:
        """The environment to read: a key's own, and `wanted` (None: live) for an admin. Raises Forbidden."""
        if self.environment is None:
            return wanted or "live"
        if wanted is not None and wanted != self.environment:
            raise Forbidden(f"This is a {self.environment} key; it does not see {wanted} usage.")
        return self.environment

    def customer_of(self, wanted: str | None) -> str | None:
        """The customer to read: a customer's key has its own, and `wanted` (None: all) holds for every other. Raises Forbidden."""
        if self.customer is not None and wanted is not None and wanted != self.customer:
            raise Forbidden("A customer's key sees only its own usage.")
        return self.customer or wanted


ADMIN: Final = Caller("admin")


class _Known:
    """A key that was read, and whom it speaks for."""

    __slots__ = ("caller", "key")

    def __init__(self, key: ApiKey) -> None:
        self.key = key
        scopes = frozenset(key.scopes) if key.kind == "server" else OWN_USAGE
        self.caller = Caller(key.kind, scopes, key.customer, key.environment, key.id)


class _Unread:
    """Not in the cache; None there means: read, and no such key."""


_UNREAD: Final = _Unread()


class Authenticator:
    """`key_by_digest` reads a stored key by the SHA-256 of its secret; what `may_be_key` denies is junk, and not read.

    Call `drop` after every commit that changes a key.
    """

    def __init__(
        self,
        admin_token: str,
        key_by_digest: Callable[[bytes], ApiKey | None],
        now_us: Callable[[], int],
        may_be_key: Callable[[str], object] = looks_like_key,
    ) -> None:
        self.admin_token = admin_token
        self._admin_digest = sha256(admin_token.encode()).digest()
        self._key_by_digest = key_by_digest
        self._now_us = now_us
        self._may_be_key = may_be_key
        self._keys: dict[bytes, _Known | None] = {}
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
        caller = self.from_memory(authorization, peer)
        if caller is not None:
            return caller
        digest = sha256(_bearer(authorization).encode()).digest()
        generation = self._generation
        key = self._key_by_digest(digest)
        known = None if key is None else _Known(key)
        with self._lock:
            if generation == self._generation:  # a change that came meanwhile wins
                if len(self._keys) >= CACHED:
                    self._keys.clear()
                self._keys[digest] = known
        return self._judge(known, peer)

    def from_memory(self, authorization: str | None, peer: str | None = None) -> Caller | None:
        """`authenticate` without a read; None when storage must be asked."""
        token = _bearer(authorization)
        digest = sha256(token.encode()).digest()
        if hmac.compare_digest(digest, self._admin_digest):
            return ADMIN
        known = self._keys.get(digest, _UNREAD)
        if isinstance(known, _Unread):
            if self._may_be_key(token):
                return None
            known = None
        return self._judge(known, peer)

    def _judge(self, known: _Known | None, peer: str | None) -> Caller:
        if known is None:
            raise Unauthorized("This token is not known here.")
        key = known.key
        if key.revoked_at is not None:
            raise Unauthorized("This token is revoked.")
        now = self._now_us()
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthorized("This token has expired.")
        if key.ips and not _within(peer, key.ips):
            raise Forbidden("This token may not be used from this address.")
        self._used[key.id] = now
        return known.caller


def authorization_of(scope: Mapping[str, Any]) -> str | None:
    """The first Authorization header of an ASGI scope."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            text: str = value.decode("latin-1")
            return text
    return None


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
