"""API keys: made, listed, rotated with overlap, revoked. The secret leaves once, in the answer that made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import Conflict, NotFound
from tollkeeper.core.ids import new_id
from tollkeeper.core.keys import BRAND, RANDOM_LENGTH, SERVER_SCOPES, ApiKey, KeyKind, digest, make_secret
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.services import fields
from tollkeeper.services.fields import Page, invalid
from tollkeeper.services.foreign_keys import ForeignKeys
from tollkeeper.services.keys_import import MAX_KEYS, Imported, KeyToImport, import_into

OVERLAPS = (0, 3600, 86_400, 604_800)  # offered to people; any number of seconds up to MAX_OVERLAP is taken
MAX_OVERLAP = 2_592_000
_SHOWN = len(f"{BRAND}_live_") + 4
_SECRETS = 62**RANDOM_LENGTH


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `key` is the secret: this is the only time that it exists outside its owner's hands."""

    key: str = field(repr=False)
    record: ApiKey

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def prefix(self) -> str:
        return self.record.prefix

    @property
    def last4(self) -> str:
        return self.record.last4


class KeyService:
    """`on_change(customer)` runs after each commit that changes a key; None stands for a server key: drop everything.

    `foreign` learns of every imported key of another format, before it is stored.
    """

    def __init__(
        self,
        database: Database,
        now_us: Callable[[], int],
        random_bits: Callable[[int], int],
        on_change: Callable[[str | None], None] = lambda customer: None,
        foreign: ForeignKeys | None = None,
    ) -> None:
        self._database = database
        self._now_us = now_us
        self._random_bits = random_bits
        self._on_change = on_change
        self._foreign = foreign if foreign is not None else ForeignKeys()

    def create(
        self,
        customer: str | None = None,
        environment: Environment = "live",
        name: str = "",
        scopes: Sequence[str] = (),
        expires_at: int | None = None,
        ips: Sequence[str] = (),
        kind: KeyKind = "customer",
    ) -> NewKey:
        """A key of a customer, or a server key (no customer, at least one of SERVER_SCOPES).

        `expires_at` in microseconds, in the future; `ips` empty allows every address. Raises InvalidRequest, NotFound.
        """
        now = self._now_us()
        environment = fields.environment_name("environment", environment)
        name = fields.line("name", name, empty=True)
        scopes = fields.scope_names("scopes", scopes)
        ips = fields.networks("ips", ips)
        if expires_at is not None:
            expires_at = fields.instant("expires_at", expires_at, after=now)
        if kind == "server":
            if customer is not None:
                raise invalid("customer", "a server key belongs to no customer; leave it out")
            if not scopes or not set(scopes) <= set(SERVER_SCOPES):
                raise invalid("scopes", f"a server key needs one or more of {', '.join(SERVER_SCOPES)}")
        elif kind == "customer":
            customer = fields.identifier("customer", customer)
        else:
            raise invalid("kind", "customer or server is expected")
        new = self._make(kind, customer, environment, name, scopes, ips, now, expires_at)
        with self._database.write() as rows:
            if customer is not None and rows.customers.get(customer) is None:
                raise NotFound(f"There is no customer {customer!r}.", field="customer")
            rows.keys.add(new.record)
        self._on_change(customer)
        return new

    def import_(self, sent: Sequence[KeyToImport]) -> list[Imported]:
        """Take over keys made elsewhere, by their digests, in one transaction; each is answered for itself, in order.

        Safe to repeat. Raises InvalidRequest for more than 1,000.
        """
        if len(sent) > MAX_KEYS:
            raise invalid("keys", f"at most {MAX_KEYS} keys are expected")
        with self._database.write() as rows:
            results, customers = import_into(rows, sent, self._now_us(), self._random_bits, self._foreign.add)
        for customer in sorted(customers):
            self._on_change(customer)
        return results

    def list(
        self,
        customer: str | None = None,
        environment: Environment | None = None,
        kind: KeyKind | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[ApiKey]:
        """Keys in the order they were made, revoked and expired ones too."""
        after, limit = fields.page_bounds(cursor, limit)
        if customer is not None:
            customer = fields.identifier("customer", customer)
        if environment is not None:
            environment = fields.environment_name("environment", environment)
        if kind not in (None, "customer", "server"):
            raise invalid("kind", "customer or server is expected")
        with self._database.read() as rows:
            found = rows.keys.list(customer, environment, kind, after, limit + 1)
        return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)

    def get(self, key_id: str) -> ApiKey:
        """Raises NotFound."""
        with self._database.read() as rows:
            return _key(rows, key_id)

    def revoke(self, key_id: str) -> ApiKey:
        """Stop a key at once. Revoking it again changes nothing. Raises NotFound."""
        with self._database.write() as rows:
            key = _key(rows, key_id)
            if key.revoked_at is None:
                rows.keys.revoke(key_id, self._now_us())
                key = _key(rows, key_id)
        self._on_change(key.customer)
        return key

    def rotate(self, key_id: str, overlap_seconds: int = 86_400) -> NewKey:
        """A new key with the same rights; the old one expires `overlap_seconds` (0 to 30 days) from now, or earlier.

        Raises Conflict for a key that is revoked, expired or already rotated, NotFound, InvalidRequest.
        """
        if type(overlap_seconds) is not int or not 0 <= overlap_seconds <= MAX_OVERLAP:
            raise invalid("overlap_seconds", f"a whole number of seconds from 0 to {MAX_OVERLAP} is expected")
        with self._database.write() as rows:
            old = _key(rows, key_id)
            now = self._now_us()
            if old.revoked_at is not None:
                raise Conflict(f"Key {key_id} is revoked; create a new key instead.")
            if old.replaced_by is not None:
                raise Conflict(f"Key {key_id} was rotated already; its successor is {old.replaced_by}.")
            if old.expires_at is not None and old.expires_at <= now:
                raise Conflict(f"Key {key_id} has expired; create a new key instead.")
            new = self._make(
                old.kind, old.customer, old.environment, old.name, old.scopes, old.ips, now, old.expires_at
            )
            end = now + overlap_seconds * 1_000_000
            rows.keys.add(new.record)
            rows.keys.replace(key_id, new.id, end if old.expires_at is None else min(end, old.expires_at))
        self._on_change(old.customer)
        return new

    def touch(self, used: Mapping[str, int]) -> None:
        """Record when keys were last used (microseconds by key id), a batch in one transaction. Unknown ids are ignored."""
        if used:
            with self._database.write() as rows:
                rows.keys.touch(used)

    def _make(
        self,
        kind: KeyKind,
        customer: str | None,
        environment: Environment,
        name: str,
        scopes: Sequence[str],
        ips: Sequence[str],
        now: int,
        expires_at: int | None,
    ) -> NewKey:
        # 140 bits more than needed make the remainder uniform to within 2⁻¹⁴⁰.
        secret = make_secret(environment, self._random_bits(320) % _SECRETS)
        record = ApiKey(
            id=new_id("key", now // 1000, self._random_bits(80)),
            kind=kind,
            customer=customer,
            environment=environment,
            name=name,
            digest=digest(secret),
            prefix=secret[:_SHOWN],
            last4=secret[-4:],
            scopes=tuple(scopes),
            ips=tuple(ips),
            created_at=now,
            expires_at=expires_at,
        )
        return NewKey(secret, record)


def _key(rows: Repositories, key_id: str) -> ApiKey:
    found = rows.keys.get(key_id) if fields.is_identifier(key_id) else None
    if found is None:
        raise NotFound("There is no such key.")  # the text sent may be a secret by mistake, so it is not repeated
    return found
