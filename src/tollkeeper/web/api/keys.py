"""`/v1/keys`: made, listed, rotated with an overlap, revoked. The secret is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict, Field

from tollkeeper.core.customers import Environment
from tollkeeper.core.keys import ApiKey
from tollkeeper.services.keys import NewKey
from tollkeeper.web.api.shapes import EnvironmentName, Instant, Listed, PageQuery, Sent, SentInstant, Shown
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, KeysDep

router = APIRouter(prefix="/v1/keys", tags=["Keys"], route_class=AdminRoute)

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
