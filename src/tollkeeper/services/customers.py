"""Customers, the people who belong to them, the plan they are on, and what was agreed with them beyond it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType

from tollkeeper.core.catalog_keys import MAX_LIMITS
from tollkeeper.core.customers import ENVIRONMENTS, Customer, Environment, Member, Subscription
from tollkeeper.core.errors import Conflict, NotFound
from tollkeeper.core.ids import new_id
from tollkeeper.core.plans import Plan, Quota, RateLimit
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.services import fields
from tollkeeper.services.fields import Page, invalid


@dataclass(frozen=True, slots=True)
class CustomerRecord:
    """A customer with the subscriptions that have not ended, at most one in each environment, live first."""

    customer: Customer
    subscriptions: tuple[Subscription, ...]

    def subscription(self, environment: Environment = "live") -> Subscription | None:
        return next((found for found in self.subscriptions if found.environment == environment), None)


class CustomerService:
    """`on_change(customer)` runs after each commit that changes a subscription or an override."""

    def __init__(
        self,
        database: Database,
        now_us: Callable[[], int],
        random_bits: Callable[[int], int],
        on_change: Callable[[str | None], None] = lambda customer: None,
    ) -> None:
        self._database = database
        self._now_us = now_us
        self._random_bits = random_bits
        self._on_change = on_change

    def create(
        self,
        id: str | None = None,
        name: str = "",
        email: str | None = None,
        plan: str | None = None,
        currency: str | None = None,
        zone: str = "UTC",
    ) -> CustomerRecord:
        """A customer, its first member when `email` is given, and a subscription to `plan` in live and in test.

        Periods are anchored to this instant, in `zone`. `currency` None takes the catalog's; `plan` None buys nothing.
        The same `id` with the same content returns what is there; with other content Conflict. Raises InvalidRequest.
        """
        customer_id = None if id is None else fields.identifier("id", id)
        name = fields.line("name", name)
        email = None if email is None else fields.email_address("email", email)
        zone = fields.zone_name("zone", zone)
        currency = None if currency is None else fields.currency_code("currency", currency)
        with self._database.write() as rows:
            now = self._now_us()
            if customer_id is not None and (existing := rows.customers.get(customer_id)) is not None:
                self._require_same(rows, existing, name, email, plan, currency, zone)
                return self._record(rows, existing)
            bought = self._offered(rows, plan) if plan is not None else None
            if currency is None:
                current = rows.catalog.current()
                if current is None:
                    raise invalid("currency", "no catalog is applied yet, so name a currency")
                currency = current.catalog.currency
            if bought:
                _require_currency(bought, currency)
            customer = Customer(customer_id or self._id("cus", now), name, email, currency, zone, now)
            rows.customers.add(customer)
            if email is not None:
                rows.members.add(Member(self._id("mem", now), customer.id, email.lower(), "", now))
            if bought:
                for environment in ENVIRONMENTS:
                    rows.subscriptions.add(self._subscription(customer, environment, bought, now))
            record = self._record(rows, customer)
        self._on_change(customer.id)
        return record

    def get(self, customer: str) -> CustomerRecord:
        """Raises NotFound."""
        with self._database.read() as rows:
            return self._record(rows, _customer(rows, customer))

    def list(self, cursor: str | None = None, limit: int = 100) -> Page[CustomerRecord]:
        """Ordered by id; ids that Tollkeeper gave sort by the time they were made."""
        after, limit = fields.page_bounds(cursor, limit)
        with self._database.read() as rows:
            found = rows.customers.list(after, limit + 1)
            current = rows.subscriptions.current([customer.id for customer in found])
        records = [CustomerRecord(customer, tuple(current[customer.id])) for customer in found[:limit]]
        return Page(records, records[-1].customer.id if len(found) > limit else None)

    def change(
        self,
        customer: str,
        *,
        name: str | None = None,
        email: str | EllipsisType | None = ...,
        zone: str | None = None,
    ) -> CustomerRecord:
        """Give a customer another name, e-mail (None removes it) or zone; what is left out stays.

        The zone is for display: subscriptions keep the one in which their periods are counted. Raises InvalidRequest, NotFound.
        """
        name = None if name is None else fields.line("name", name)
        zone = None if zone is None else fields.zone_name("zone", zone)
        if email is not None and not isinstance(email, EllipsisType):
            email = fields.email_address("email", email)
        with self._database.write() as rows:
            before = _customer(rows, customer)
            after = replace(
                before,
                name=before.name if name is None else name,
                email=before.email if isinstance(email, EllipsisType) else email,
                zone=before.zone if zone is None else zone,
            )
            if after != before:
                rows.customers.change(after)
            record = self._record(rows, after)
        self._on_change(customer)
        return record

    def members(self, customer: str) -> Sequence[Member]:
        """Raises NotFound."""
        with self._database.read() as rows:
            _customer(rows, customer)
            return rows.members.list(customer)

    def add_member(self, customer: str, email: str, name: str = "") -> Member:
        """Addresses are kept in lower case. Adding one again returns the member that is there. Raises NotFound."""
        email = fields.email_address("email", email).lower()
        name = fields.line("name", name, empty=True)
        with self._database.write() as rows:
            _customer(rows, customer)
            existing = rows.members.find(customer, email)
            if existing is not None:
                return existing
            now = self._now_us()
            member = Member(self._id("mem", now), customer, email, name, now)
            rows.members.add(member)
        return member

    def remove_member(self, customer: str, member: str) -> None:
        """Raises NotFound, also for another customer's member."""
        with self._database.write() as rows:
            _customer(rows, customer)
            if not (fields.is_identifier(member) and rows.members.remove(customer, member)):
                raise NotFound(f"Customer {customer!r} has no member {str(member)[:80]!r}.")

    def move(
        self, customer: str, plan: str, version: int | None = None, environment: Environment | None = None
    ) -> CustomerRecord:
        """Put a customer on a plan, in one environment or (None) both; `version` None is the one on offer.

        The anchor stays, so the running period does not change; what was used in it counts against the new quotas.
        The old subscription ends and a new one begins at this instant. Already there: nothing changes. Raises Conflict where the plan
        was bought at a provider, who would go on billing the old one.
        """
        environments = ENVIRONMENTS if environment is None else (fields.environment_name("environment", environment),)
        with self._database.write() as rows:
            record = self._record(rows, _customer(rows, customer))
            bought = self._offered(rows, plan) if version is None else self._version(rows, plan, version)
            _require_currency(bought, record.customer.currency)
            now = self._now_us()
            for target in environments:
                old = record.subscription(target)
                new = self._subscription(record.customer, target, bought, now)
                if old is not None:
                    if (old.plan, old.plan_version) == (new.plan, new.plan_version):
                        continue
                    _require_ours(rows, old)
                    rows.subscriptions.end(target, old.id, now)
                    new = replace(new, anchor=old.anchor, zone=old.zone, status=old.status)
                rows.subscriptions.add(new)
            record = self._record(rows, record.customer)
        self._on_change(customer)
        return record

    def history(self, customer: str) -> Sequence[Subscription]:
        """Every subscription there was, oldest first. Raises NotFound."""
        with self._database.read() as rows:
            _customer(rows, customer)
            return rows.subscriptions.history(customer)

    def overrides(self, customer: str, environment: Environment) -> tuple[Sequence[RateLimit], Sequence[Quota]]:
        """The limits and quotas agreed with this customer. Raises NotFound."""
        environment = fields.environment_name("environment", environment)
        with self._database.read() as rows:
            _customer(rows, customer)
            return rows.overrides.limits(environment, customer), rows.overrides.quotas(environment, customer)

    def set_limit(self, customer: str, environment: Environment, limit: RateLimit) -> None:
        """Replace the plan's limit of this name for one customer, or add one. Raises InvalidRequest, NotFound."""
        environment = fields.environment_name("environment", environment)
        fields.rate_limit(limit)
        with self._database.write() as rows:
            _customer(rows, customer)
            if limit.meter is not None:
                _require_meter(rows, "limit.meter", limit.meter)
            own = {found.name for found in rows.overrides.limits(environment, customer)}
            if limit.name not in own and len(own) >= MAX_LIMITS:
                raise invalid("limit.name", f"a customer has at most {MAX_LIMITS} limits of its own")
            rows.overrides.set_limit(environment, customer, limit)
        self._on_change(customer)

    def set_quota(self, customer: str, environment: Environment, quota: Quota) -> None:
        """Replace the plan's quota of this meter for one customer, or add one. Raises InvalidRequest, NotFound."""
        environment = fields.environment_name("environment", environment)
        fields.quota(quota)
        with self._database.write() as rows:
            _customer(rows, customer)
            _require_meter(rows, "quota.meter", quota.meter)
            rows.overrides.set_quota(environment, customer, quota)
        self._on_change(customer)

    def remove_limit(self, customer: str, environment: Environment, name: str) -> None:
        """Back to the plan's limit of this name. Raises NotFound."""
        environment = fields.environment_name("environment", environment)
        with self._database.write() as rows:
            _customer(rows, customer)
            if not (fields.is_identifier(name) and rows.overrides.remove_limit(environment, customer, name)):
                raise NotFound(f"Customer {customer!r} has no limit {str(name)[:80]!r} of its own in {environment}.")
        self._on_change(customer)

    def remove_quota(self, customer: str, environment: Environment, meter: str) -> None:
        """Back to the plan's quota of this meter. Raises NotFound."""
        environment = fields.environment_name("environment", environment)
        with self._database.write() as rows:
            _customer(rows, customer)
            if not (fields.is_identifier(meter) and rows.overrides.remove_quota(environment, customer, meter)):
                raise NotFound(
                    f"Customer {customer!r} has no quota of its own for {str(meter)[:80]!r} in {environment}."
                )
        self._on_change(customer)

    def _id(self, prefix: str, now: int) -> str:
        return new_id(prefix, now // 1000, self._random_bits(80))

    def _subscription(self, customer: Customer, environment: Environment, plan: Plan, now: int) -> Subscription:
        return Subscription(
            id=self._id("sub", now),
            customer=customer.id,
            environment=environment,
            plan=plan.key,
            plan_version=plan.version,
            anchor=now,
            zone=customer.zone,
            status="active",
            started_at=now,
        )

    @staticmethod
    def _record(rows: Repositories, customer: Customer) -> CustomerRecord:
        return CustomerRecord(customer, tuple(rows.subscriptions.current([customer.id])[customer.id]))

    @staticmethod
    def _offered(rows: Repositories, plan: str) -> Plan:
        current = rows.catalog.current()
        found = current.catalog.plans.get(plan) if current and isinstance(plan, str) else None
        if found is None:
            offered = ", ".join(current.catalog.plans) if current else "none, no catalog is applied yet"
            raise invalid("plan", f"there is no plan {str(plan)[:80]!r} on offer (plans: {offered})")
        return found

    @staticmethod
    def _version(rows: Repositories, plan: str, version: int) -> Plan:
        found = rows.catalog.plan(plan, version) if fields.is_identifier(plan) and fields.is_version(version) else None
        if found is None:
            raise invalid("version", f"there is no version {version!r} of plan {str(plan)[:80]!r}")
        return found

    @staticmethod
    def _require_same(
        rows: Repositories,
        existing: Customer,
        name: str,
        email: str | None,
        plan: str | None,
        currency: str | None,
        zone: str,
    ) -> None:
        """The plan compared is the one of the creation: a retry after a move is still the same request."""
        history = rows.subscriptions.history(existing.id)
        first = history[0].plan if history and history[0].started_at == existing.created_at else None
        pairs = {
            "name": (existing.name, name),
            "email": (existing.email, email),
            "plan": (first, plan),
            "currency": (existing.currency, currency or existing.currency),
            "zone": (existing.zone, zone),
        }
        other = [field for field, (stored, sent) in pairs.items() if stored != sent]
        if other:
            raise Conflict(f"Customer {existing.id!r} exists with another {', '.join(other)}.", fields=other)


def _customer(rows: Repositories, customer: str) -> Customer:
    found = rows.customers.get(customer) if fields.is_identifier(customer) else None
    if found is None:
        raise NotFound(f"There is no customer {str(customer)[:80]!r}.")
    return found


def _require_ours(rows: Repositories, subscription: Subscription) -> None:
    for bought in rows.provider_subscriptions.of(subscription.environment, subscription.customer):
        if bought.subscription == subscription.id and bought.ended_at is None:
            raise Conflict(
                f"{subscription.customer} bought {subscription.plan} at {bought.provider} ({subscription.environment}). Change it there: "
                f"tollkeeper subscriptions change {subscription.customer} PLAN, or name the other environment."
            )


def _require_currency(plan: Plan, currency: str) -> None:
    currencies = {price.currency for price in plan.prices}
    if currencies and currency not in currencies:
        raise invalid("currency", f"plan {plan.key!r} is sold in {', '.join(sorted(currencies))}, not in {currency}")


def _require_meter(rows: Repositories, field: str, meter: str) -> None:
    current = rows.catalog.current()
    if current is None or meter not in current.catalog.meters:
        raise invalid(field, f"the catalog has no meter {meter[:80]!r}")
    if not current.catalog.meters[meter].checkable:
        raise invalid(field, f"a meter that counts or sums, without filters, is expected; {meter!r} cannot be checked")
