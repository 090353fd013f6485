"""What the core needs from the outside, as protocols. Storage and integrations implement them; services take them.

Repositories work inside one transaction: `with database.write() as repositories:` commits at the end of the block and
rolls back when it raises. A write that the database refuses raises `StorageUnavailable`; a row that exists already, `Conflict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from tollkeeper.core.customers import Customer, Environment, Member, Subscription
from tollkeeper.core.grants import CustomerGrant, KeyGrant
from tollkeeper.core.keys import ApiKey, KeyKind
from tollkeeper.core.metering import Meter
from tollkeeper.core.plans import Catalog, Feature, Plan, Quota, RateLimit
from tollkeeper.core.ports_billing import (
    AdjustmentRepository,
    DriftRepository,
    OutboxRepository,
    PeriodRepository,
    ReportRepository,
)
from tollkeeper.core.ports_inbox import InboxRepository, LeaseRepository
from tollkeeper.core.ports_money import ProviderObjectRepository, WatermarkRepository
from tollkeeper.core.ports_selling import InvoiceRepository, KnownSubscriptionRepository, PurchaseRepository
from tollkeeper.core.shadow import ShadowRefusals


class CustomerRepository(Protocol):
    def add(self, customer: Customer) -> None: ...

    def get(self, customer: str) -> Customer | None: ...

    def change(self, customer: Customer) -> None:
        """Write its name, e-mail and zone; the rest is fixed for good."""
        ...

    def list(self, after: str | None, limit: int) -> Sequence[Customer]:
        """Ordered by id, ids greater than `after`."""
        ...


class MemberRepository(Protocol):
    def add(self, member: Member) -> None: ...

    def find(self, customer: str, email: str) -> Member | None: ...

    def list(self, customer: str) -> Sequence[Member]:
        """Ordered by id, so by the time of joining."""
        ...

    def remove(self, customer: str, member: str) -> bool:
        """False when that customer has no such member."""
        ...


class SubscriptionRepository(Protocol):
    def add(self, subscription: Subscription) -> None: ...

    def change(self, subscription: Subscription) -> None:
        """Write its status, calendar and grace; plan and start are fixed."""
        ...

    def current(self, customers: Sequence[str]) -> Mapping[str, Sequence[Subscription]]:
        """The un-ended subscriptions by customer, live before test."""
        ...

    def history(self, customer: str) -> Sequence[Subscription]:
        """All of a customer's, ended ones too, oldest first."""
        ...

    def plans_in_use(self) -> Sequence[tuple[str, int]]:
        """(key, version) of every plan that somebody is on."""
        ...

    def end(self, environment: Environment, subscription: str, at: int) -> None: ...


class OverrideRepository(Protocol):
    """Limits and quotas agreed with one customer, in one environment; they replace the plan's of the same name or meter."""

    def set_limit(self, environment: Environment, customer: str, limit: RateLimit) -> None: ...

    def set_quota(self, environment: Environment, customer: str, quota: Quota) -> None: ...

    def remove_limit(self, environment: Environment, customer: str, name: str) -> bool: ...

    def remove_quota(self, environment: Environment, customer: str, meter: str) -> bool: ...

    def limits(self, environment: Environment, customer: str) -> Sequence[RateLimit]: ...

    def quotas(self, environment: Environment, customer: str) -> Sequence[Quota]: ...


class KeyRepository(Protocol):
    def add(self, key: ApiKey) -> None: ...

    def get(self, key_id: str) -> ApiKey | None: ...

    def by_digests(self, digests: Sequence[bytes]) -> Mapping[bytes, ApiKey]: ...

    def foreign_digests(self) -> Iterator[bytes]:
        """Of the imported keys that are not of our format."""
        ...

    def list(
        self,
        customer: str | None,
        environment: Environment | None,
        kind: KeyKind | None,
        after: str | None,
        limit: int,
    ) -> Sequence[ApiKey]:
        """Ordered by id, ids greater than `after`; None does not filter."""
        ...

    def revoke(self, key_id: str, at: int) -> None: ...

    def replace(self, key_id: str, replaced_by: str, expires_at: int) -> None: ...

    def touch(self, used: Mapping[str, int]) -> None:
        """Record instants of last use by key id; an earlier instant never overwrites a later one."""
        ...


@dataclass(frozen=True, slots=True)
class CatalogVersion:
    """One applied catalog. `text` as it was given; `catalog` holds the plans with their versions."""

    version: int
    text: str
    fingerprint: str
    applied_at: int
    catalog: Catalog


class CatalogRepository(Protocol):
    def current(self) -> CatalogVersion | None: ...

    def version(self, version: int) -> CatalogVersion | None: ...

    def versions(self, before: int | None, limit: int) -> Sequence[CatalogVersion]:
        """Newest first, those below `before`."""
        ...

    def ever(self) -> tuple[Mapping[str, Meter], Mapping[str, Feature]]:
        """The meters and the features of every version ever applied; of one that stood in several, as it was last."""
        ...

    def add(self, version: CatalogVersion) -> None: ...

    def plan(self, key: str, version: int) -> Plan | None: ...

    def latest_plan(self, key: str) -> Plan | None:
        """The highest version of a plan, archived or not."""
        ...

    def add_plan(self, plan: Plan) -> None: ...

    def archive_all_but(self, plans: Sequence[tuple[str, int]]) -> None:
        """Mark exactly these (key, version) as on offer and every other one as archived."""
        ...


class ShadowRepository(Protocol):
    def add(self, refusals: Sequence[ShadowRefusals]) -> None:
        """Add calls to the rows of their day, caller, meter and code."""
        ...

    def since(self, environment: str, day: int) -> Sequence[ShadowRefusals]: ...


class Repositories(Protocol):
    """The repositories of one transaction."""

    @property
    def customers(self) -> CustomerRepository: ...

    @property
    def members(self) -> MemberRepository: ...

    @property
    def subscriptions(self) -> SubscriptionRepository: ...

    @property
    def overrides(self) -> OverrideRepository: ...

    @property
    def keys(self) -> KeyRepository: ...

    @property
    def catalog(self) -> CatalogRepository: ...

    @property
    def shadow(self) -> ShadowRepository: ...

    @property
    def provider_objects(self) -> ProviderObjectRepository: ...

    @property
    def inbox(self) -> InboxRepository: ...

    @property
    def leases(self) -> LeaseRepository: ...

    @property
    def watermarks(self) -> WatermarkRepository: ...

    @property
    def outbox(self) -> OutboxRepository: ...

    @property
    def periods(self) -> PeriodRepository: ...

    @property
    def reports(self) -> ReportRepository: ...

    @property
    def adjustments(self) -> AdjustmentRepository: ...

    @property
    def drift(self) -> DriftRepository: ...

    @property
    def provider_subscriptions(self) -> KnownSubscriptionRepository: ...

    @property
    def invoices(self) -> InvoiceRepository: ...

    @property
    def purchases(self) -> PurchaseRepository: ...


class Database(Protocol):
    """The main database. Writers are serialised; readers run beside them on the last committed state."""

    def read(self) -> AbstractContextManager[Repositories]: ...

    def write(self) -> AbstractContextManager[Repositories]:
        """Not to be nested: one block per thread at a time."""
        ...


class Grants(Protocol):
    """The read the gate makes on a cache miss: one SELECT each. None: no such key, no such customer."""

    def by_digest(self, digest: bytes) -> KeyGrant | None: ...

    def by_customer(self, environment: Environment, customer: str) -> CustomerGrant | None: ...
