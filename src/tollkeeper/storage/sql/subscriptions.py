"""Rows of subscriptions, and of the limits and quotas agreed with one customer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, nulls_last, select, update

from tollkeeper.core.customers import Environment, Subscription
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.plans import Quota, RateLimit
from tollkeeper.storage.sql.tables import limit_overrides, subscriptions

SUBSCRIPTION_COLUMNS = (
    subscriptions.c.id,
    subscriptions.c.customer,
    subscriptions.c.environment,
    subscriptions.c.plan,
    subscriptions.c.plan_version,
    subscriptions.c.anchor,
    subscriptions.c.zone,
    subscriptions.c.status,
    subscriptions.c.started_at,
    subscriptions.c.ended_at,
    subscriptions.c.grace_until,
    subscriptions.c.carried_from,
)


def limit_from_json(document: str) -> RateLimit:
    return RateLimit(**json.loads(document))


def quota_from_json(document: str) -> Quota:
    value = json.loads(document)
    return Quota(value["meter"], Decimal(value["limit"]), value["kind"])


def _subscription(row: Sequence[Any]) -> Subscription:
    return Subscription(*row)


class SqlSubscriptions:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, subscription: Subscription) -> None:
        self._connection.execute(
            insert(subscriptions).values(
                environment=subscription.environment,
                id=subscription.id,
                customer=subscription.customer,
                plan=subscription.plan,
                plan_version=subscription.plan_version,
                anchor=subscription.anchor,
                zone=subscription.zone,
                status=subscription.status,
                started_at=subscription.started_at,
                ended_at=subscription.ended_at,
                grace_until=subscription.grace_until,
                carried_from=subscription.carried_from,
            )
        )

    def change(self, subscription: Subscription) -> None:
        self._connection.execute(
            update(subscriptions)
            .where(
                subscriptions.c.environment == subscription.environment,
                subscriptions.c.id == subscription.id,
                subscriptions.c.ended_at.is_(None),
            )
            .values(
                status=subscription.status,
                anchor=subscription.anchor,
                zone=subscription.zone,
                grace_until=subscription.grace_until,
                carried_from=subscription.carried_from,
            )
        )

    def current(self, customers: Sequence[str]) -> Mapping[str, Sequence[Subscription]]:
        query = (
            select(*SUBSCRIPTION_COLUMNS)
            .where(subscriptions.c.customer.in_(customers), subscriptions.c.ended_at.is_(None))
            .order_by(subscriptions.c.customer, subscriptions.c.environment)
        )
        found: dict[str, list[Subscription]] = {customer: [] for customer in customers}
        for row in self._connection.execute(query):
            found[row.customer].append(_subscription(row))
        return found

    def history(self, customer: str) -> Sequence[Subscription]:
        query = (
            select(*SUBSCRIPTION_COLUMNS)
            .where(subscriptions.c.customer == customer)
            .order_by(subscriptions.c.started_at, nulls_last(subscriptions.c.ended_at), subscriptions.c.environment)
        )
        return [_subscription(row) for row in self._connection.execute(query)]

    def plans_in_use(self) -> Sequence[tuple[str, int]]:
        columns = subscriptions.c
        query = select(columns.plan, columns.plan_version).where(columns.ended_at.is_(None)).distinct()
        return [(row.plan, row.plan_version) for row in self._connection.execute(query)]

    def end(self, environment: Environment, subscription: str, at: int) -> None:
        self._connection.execute(
            update(subscriptions)
            .where(subscriptions.c.environment == environment, subscriptions.c.id == subscription)
            .values(status="ended", ended_at=at)
        )


class SqlOverrides:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def set_limit(self, environment: Environment, customer: str, limit: RateLimit) -> None:
        value = {
            "name": limit.name,
            "limit": limit.limit,
            "window_seconds": limit.window_seconds,
            "meter": limit.meter,
            "per": limit.per,
        }
        self._set(environment, customer, "limit", limit.name, value)

    def set_quota(self, environment: Environment, customer: str, quota: Quota) -> None:
        value = {"meter": quota.meter, "limit": format_quantity(quota.limit), "kind": quota.kind}
        self._set(environment, customer, "quota", quota.meter, value)

    def remove_limit(self, environment: Environment, customer: str, name: str) -> bool:
        return self._remove(environment, customer, "limit", name)

    def remove_quota(self, environment: Environment, customer: str, meter: str) -> bool:
        return self._remove(environment, customer, "quota", meter)

    def limits(self, environment: Environment, customer: str) -> Sequence[RateLimit]:
        return [limit_from_json(document) for document in self._documents(environment, customer, "limit")]

    def quotas(self, environment: Environment, customer: str) -> Sequence[Quota]:
        return [quota_from_json(document) for document in self._documents(environment, customer, "quota")]

    def _documents(self, environment: Environment, customer: str, kind: Literal["limit", "quota"]) -> Sequence[str]:
        columns = limit_overrides.c
        query = (
            select(columns.document)
            .where(columns.environment == environment, columns.customer == customer, columns.kind == kind)
            .order_by(columns.name)
        )
        return self._connection.execute(query).scalars().all()

    def _set(
        self, environment: Environment, customer: str, kind: Literal["limit", "quota"], name: str, value: Any
    ) -> None:
        # Delete and insert: the same SQL everywhere, and the writer is alone.
        self._remove(environment, customer, kind, name)
        self._connection.execute(
            insert(limit_overrides).values(
                environment=environment, customer=customer, kind=kind, name=name, document=json.dumps(value)
            )
        )

    def _remove(self, environment: Environment, customer: str, kind: Literal["limit", "quota"], name: str) -> bool:
        columns = limit_overrides.c
        query = delete(limit_overrides).where(
            columns.environment == environment, columns.customer == customer, columns.kind == kind, columns.name == name
        )
        return self._connection.execute(query).rowcount > 0
