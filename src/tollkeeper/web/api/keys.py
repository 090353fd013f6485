"""`/v1/keys`: made, listed, rotated with an overlap, revoked. The secret is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict, Field

from tollkeeper.core.customers import Environment
from tollkeeper.core.keys import ApiKey
from tollkeeper.services.keys import NewKey
from tollkeeper.services.keys_import import MAX_KEYS, Imported, KeyToImport
from tollkeeper.web.api.shapes import (
    EnvironmentName,
    Instant,
    Listed,
    PageQuery,
    Sent,
    SentInstant,
    Shown,
    parse_instant,
)
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, KeysDep

router = APIRouter(prefix="/v1/keys", tags=["Keys"], route_class=AdminRoute)
imports = APIRouter(prefix="/v1/imports", tags=["Keys"], route_class=AdminRoute)

KeyId = Annotated[str, Path(description="The key's id, not the key.", examples=["key_01JD3V5E6QN8Z4V9W1T7B2X3YD"])]


class KeyShown(Shown):
    """A key as it is kept: never the secret. `prefix` and `last4` tell keys apart."""

    id: str = Field(examples=["key_01JD3V5E6QN8Z4V9W1T7B2X3YD"])
    kind: Literal["customer", "server"]
    customer: str | None = Field(examples=["cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    environment: EnvironmentName
    name: str = Field(examples=["production"])
    prefix: str = Field(examples=["tk_live_4fQz"])
    last4: str = Field(examples=["1bXk"])
    scopes: list[str] = Field(examples=[["reports:read"]])
    ips: list[str] = Field(examples=[["203.0.113.0/24"]])
    created_at: Instant
    expires_at: Instant | None = Field(examples=[None])
    revoked_at: Instant | None = Field(examples=[None])
    last_used_at: Instant | None = Field(examples=[None])
    replaced_by: str | None = Field(description="The key's successor, once rotated.", examples=[None])

    @classmethod
    def of(cls, key: ApiKey) -> KeyShown:
        return cls(
            id=key.id,
            kind=key.kind,
            customer=key.customer,
            environment=key.environment,
            name=key.name,
            prefix=key.prefix,
            last4=key.last4,
            scopes=list(key.scopes),
            ips=list(key.ips),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            last_used_at=key.last_used_at,
            replaced_by=key.replaced_by,
        )


class KeyMade(KeyShown):
    """A key just made. `key` is the secret: keep it now, it is not shown again."""

    key: str = Field(examples=["tk_live_4fQz0000000000000000000000000000001bXk"])

    @classmethod
    def made(cls, new: NewKey) -> KeyMade:
        return cls(key=new.key, **dict(KeyShown.of(new.record)))


class NewKeyTerms(Sent):
    """A customer's key, or (`kind` server, no customer) a key of your own servers for this API."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"customer": "cus_01JD3V5E6QN8Z4V9W1T7B2X3YA", "environment": "live", "name": "production"}]
        }
    )

    customer: str | None = Field(None, max_length=64, examples=["cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    kind: Literal["customer", "server"] = "customer"
    environment: EnvironmentName = "live"
    name: str = Field("", max_length=200, examples=["production"])
    scopes: list[str] = Field(
        default_factory=list,
        max_length=32,
        description="A customer's key: words of your own. A server key: `check`, `events:write`, `usage:read`, `metrics:read`.",
        examples=[["reports:read"]],
    )
    expires_at: SentInstant | None = Field(None, description="In the future; null never expires.", examples=[None])
    ips: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="Addresses and CIDR blocks it may be used from; none: from everywhere.",
        examples=[["203.0.113.0/24"]],
    )


class Rotation(Sent):
    """How long the old key goes on working beside the new one: 0, an hour, a day, a week, or any time up to 30 days."""

    overlap_seconds: int = Field(default=86_400, ge=0, le=2_592_000, examples=[86_400])


class ImportedKeyTerms(Sent):
    """A key that a customer holds already, made elsewhere. Its digest alone is sent, never the key."""

    customer: str = Field(max_length=64, examples=["acme"])
    digest: str = Field(
        max_length=64,
        description="SHA-256 of the key's bytes (UTF-8), as 64 hexadecimal digits.",
        examples=["2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"],
    )
    environment: str = Field("live", max_length=4, examples=["live"])
    name: str = Field("", max_length=200, examples=["production"])
    prefix: str = Field("", max_length=12, description="How the key begins, to tell keys apart.", examples=["sk_9f"])
    last4: str = Field("", max_length=4, examples=["1bXk"])
    scopes: list[str] = Field(default_factory=list, max_length=32, examples=[["reports:read"]])
    expires_at: str | None = Field(None, max_length=40, description="RFC 3339, in the future.", examples=[None])
    ips: list[str] = Field(default_factory=list, max_length=64, examples=[["203.0.113.0/24"]])


class KeysImport(Sent):
    """Keys to take over."""

    keys: list[ImportedKeyTerms] = Field(min_length=1, max_length=MAX_KEYS)


class KeyImported(Shown):
    """What became of one key. `duplicate`: it was here, and stays as it is. `conflict`: it is here as somebody else's."""

    index: int = Field(examples=[0])
    status: Literal["imported", "duplicate", "conflict", "rejected"]
    id: str | None = Field(examples=["key_01JD3V5E6QN8Z4V9W1T7B2X3YD"])
    field: str | None = Field(examples=[None])
    detail: str | None = Field(examples=[None])


class KeysImported(Shown):
    """One result for each key, in order."""

    results: list[KeyImported]
    imported: int = Field(examples=[1])
    duplicate: int = Field(examples=[0])
    conflict: int = Field(examples=[0])
    rejected: int = Field(examples=[0])


class KeysQuery(PageQuery):
    """Which keys."""

    customer: str | None = Field(None, min_length=1, max_length=64, description="Those of one customer.")
    environment: Environment | None = Field(None, description="Those of one environment.")
    kind: Literal["customer", "server"] | None = Field(None, description="Customers' keys, or server keys.")


@router.get("", summary="List keys")
def list_keys(query: Annotated[KeysQuery, Query()], keys: KeysDep) -> Listed[KeyShown]:
    """In the order they were made, revoked and expired ones too."""
    found = keys.list(query.customer, query.environment, query.kind, query.cursor, query.limit)
    return Listed(data=[KeyShown.of(key) for key in found.items], next_cursor=found.next)


@router.post("", status_code=201, summary="Create a key", responses=documented(404))
def create_key(sent: NewKeyTerms, keys: KeysDep) -> KeyMade:
    """The answer holds the secret, once."""
    return KeyMade.made(
        keys.create(sent.customer, sent.environment, sent.name, sent.scopes, sent.expires_at, sent.ips, sent.kind)
    )


@imports.post("/keys", summary="Import keys by their digests")
def import_keys(sent: KeysImport, keys: KeysDep) -> KeysImported:
    """Keys of any format: what arrives at the gate is compared by SHA-256. Safe to repeat; one faulty key spoils no other."""
    given: list[KeyToImport] = []
    results: dict[int, Imported] = {}
    for index, one in enumerate(sent.keys):
        try:
            expires_at = None if one.expires_at is None else parse_instant(one.expires_at)
        except ValueError as fault:
            results[index] = Imported(index, "rejected", None, "expires_at", f"expires_at: {fault}")
            continue
        given.append(KeyToImport(**{**dict(one), "expires_at": expires_at}))
    places = [index for index in range(len(sent.keys)) if index not in results]
    for place, result in zip(places, keys.import_(given), strict=True):
        results[place] = replace(result, index=place)
    shown = [KeyImported(**asdict(results[index])) for index in range(len(sent.keys))]
    counts = Counter(one.status for one in shown)
    return KeysImported(
        results=shown,
        imported=counts["imported"],
        duplicate=counts["duplicate"],
        conflict=counts["conflict"],
        rejected=counts["rejected"],
    )


@router.get("/{key}", summary="Get a key")
def get_key(key: KeyId, keys: KeysDep) -> KeyShown:
    return KeyShown.of(keys.get(key))


@router.post("/{key}/revoke", summary="Revoke a key")
def revoke_key(key: KeyId, keys: KeysDep) -> KeyShown:
    """Stops it at once, for good. Revoking it again changes nothing."""
    return KeyShown.of(keys.revoke(key))


@router.post("/{key}/rotate", summary="Rotate a key", responses=documented(409))
def rotate_key(key: KeyId, keys: KeysDep, sent: Rotation | None = None) -> KeyMade:
    """A new key with the same rights. The old one works for `overlap_seconds` more, a day when nothing is sent."""
    return KeyMade.made(keys.rotate(key, (sent or Rotation()).overlap_seconds))
