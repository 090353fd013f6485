"""Keys that customers hold already: taken over by their digest, so that nobody has to change a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.ids import new_id
from tollkeeper.core.keys import NATIVE_PREFIXES, ApiKey
from tollkeeper.core.ports import Repositories
from tollkeeper.services import fields
from tollkeeper.services.fields import invalid

MAX_KEYS = 1000

Status = Literal["imported", "duplicate", "conflict", "rejected"]


@dataclass(frozen=True, slots=True)
class KeyToImport:
    """One key as sent. `digest`: SHA-256 of the key in UTF-8, 64 hexadecimal digits. `expires_at` in microseconds."""

    customer: str
    digest: str = field(repr=False)
    environment: str = "live"
    name: str = ""
    prefix: str = ""
    last4: str = ""
    scopes: Sequence[str] = ()
    expires_at: int | None = None
    ips: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one key. `id` is the key's, also of one that was there before."""

    index: int
    status: Status
    id: str | None = None
    field: str | None = None
    detail: str | None = None


def import_into(
    rows: Repositories,
    sent: Sequence[KeyToImport],
    now: int,
    random_bits: Callable[[int], int],
    before_commit: Callable[[list[bytes]], None],
) -> tuple[list[Imported], set[str]]:
    """Store what is new, within the caller's transaction. Answers in order, and the customers that got keys.

    A digest that is here is left as it is: a key changed or revoked since is not brought back.
    """
    results: list[Imported] = []
    added: list[ApiKey] = []
    known = dict(rows.keys.by_digests([found for one in sent if (found := _digest(one.digest)) is not None]))
    customers: dict[str, bool] = {}
    for index, one in enumerate(sent):
        try:
            key = _key(one, new_id("key", now // 1000, random_bits(80)), now)
            there = known.get(key.digest)
            if there is None:
                if key.expires_at is not None:
                    fields.instant("expires_at", key.expires_at, after=now)
                assert key.customer is not None
                if key.customer not in customers:
                    customers[key.customer] = rows.customers.get(key.customer) is not None
                if not customers[key.customer]:
                    raise invalid("customer", f"there is no customer {key.customer!r}; create it first")
        except InvalidRequest as error:
            results.append(Imported(index, "rejected", None, error.extra.get("field"), error.detail))
            continue
        if there is None:
            known[key.digest] = key
            added.append(key)
            results.append(Imported(index, "imported", key.id))
        elif (there.kind, there.customer, there.environment) == ("customer", key.customer, key.environment):
            results.append(Imported(index, "duplicate", there.id))
        else:
            detail = "This key is here already, as that of another customer or environment."
            results.append(Imported(index, "conflict", there.id, "digest", detail))
    before_commit([key.digest for key in added if not key.prefix.startswith(NATIVE_PREFIXES)])
    for key in added:
        rows.keys.add(key)
    return results, {key.customer for key in added if key.customer is not None}


def _digest(text: object) -> bytes | None:
    if not isinstance(text, str) or len(text) != 64 or not text.isascii() or not text.isalnum():
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _key(one: KeyToImport, id: str, now: int) -> ApiKey:
    """Raises InvalidRequest. Nothing of the key is repeated: a secret may stand in a wrong column."""
    digest = _digest(one.digest)
    if digest is None:
        raise invalid("digest", "the SHA-256 of the key as 64 hexadecimal digits is expected")
    environment = fields.environment_name("environment", one.environment)
    prefix = _hint("prefix", one.prefix, 12)
    if prefix.startswith(NATIVE_PREFIXES) and not prefix.startswith(f"tk_{environment}_"):
        raise invalid("prefix", f"a key that begins with {prefix[:8]} is not of the environment {environment}")
    return ApiKey(
        id=id,
        kind="customer",
        customer=fields.identifier("customer", one.customer),
        environment=environment,
        name=fields.line("name", one.name, empty=True),
        digest=digest,
        prefix=prefix,
        last4=_hint("last4", one.last4, 4),
        scopes=fields.scope_names("scopes", one.scopes),
        ips=fields.networks("ips", one.ips),
        created_at=now,
        expires_at=one.expires_at,
    )


def _hint(name: str, text: object, most: int) -> str:
    if not isinstance(text, str) or len(text) > most or not text.isascii() or not (text.isprintable() or not text):
        raise invalid(name, f"at most {most} printable ASCII characters are expected")
    return text
