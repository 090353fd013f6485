"""The gate's read on a cache miss: one SELECT over key, customer, current subscription, plan version and overrides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, FromClause, Row, and_, bindparam, select

from tollkeeper.core.catalog import plan_from_dict
from tollkeeper.core.customers import Customer, Environment, Subscription
from tollkeeper.core.grants import CustomerGrant, KeyGrant, override_limits, override_quotas
from tollkeeper.core.plans import Plan
from tollkeeper.storage.sql.failures import translated_errors
from tollkeeper.storage.sql.keys import key_from
from tollkeeper.storage.sql.subscriptions import SUBSCRIPTION_COLUMNS, limit_from_json, quota_from_json
from tollkeeper.storage.sql.tables import api_keys, customers, limit_overrides, plan_versions, subscriptions

CACHED_PLANS = 1024


def _with_contract(start: FromClause, customer: ColumnElement[Any], environment: ColumnElement[Any]) -> FromClause:
    """Outer joins from `start`: its customer's current subscription, plan version, and one row for each override."""
    return (
        start.outerjoin(
            subscriptions,
            and_(
                subscriptions.c.customer == customer,
                subscriptions.c.environment == environment,
                subscriptions.c.ended_at.is_(None),
            ),
        )
        .outerjoin(
            plan_versions,
            and_(plan_versions.c.plan == subscriptions.c.plan, plan_versions.c.version == subscriptions.c.plan_version),
        )
        .outerjoin(
            limit_overrides,
            and_(limit_overrides.c.environment == environment, limit_overrides.c.customer == customer),
        )
    )


_CONTRACT = (
    *customers.c,
    *SUBSCRIPTION_COLUMNS,
    plan_versions.c.document,
    limit_overrides.c.kind,
    limit_overrides.c.document,
)
_KEY = len(api_keys.c)

BY_DIGEST = (
    select(*api_keys.c, *_CONTRACT)
    .select_from(
        _with_contract(
            api_keys.outerjoin(customers, customers.c.id == api_keys.c.customer), customers.c.id, api_keys.c.environment
        )
    )
    .where(api_keys.c.digest == bindparam("digest"))
)
BY_CUSTOMER = (
    select(*_CONTRACT)
    .select_from(_with_contract(customers, customers.c.id, bindparam("environment")))
    .where(customers.c.id == bindparam("customer"))
)


class SqlGrants:
    """`core.ports.Grants`. Safe in any thread. A plan version never changes, so each is decoded once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(begin=None)  # one statement needs no transaction
        self._plans: dict[tuple[str, int], Plan] = {}

    def by_digest(self, digest: bytes) -> KeyGrant | None:
        rows = self._rows(BY_DIGEST, digest=digest)
        if not rows:
            return None
        key = key_from(rows[0][:_KEY])
        return KeyGrant(key, None if key.customer is None else self._grant([row[_KEY:] for row in rows]))

    def by_customer(self, environment: Environment, customer: str) -> CustomerGrant | None:
        rows = self._rows(BY_CUSTOMER, environment=environment, customer=customer)
        return self._grant(rows) if rows else None

    def _rows(self, query: Any, **parameters: object) -> Sequence[Row[Any]]:
        with translated_errors(), self._engine.connect() as connection:
            return connection.execute(query, parameters).all()

    def _grant(self, rows: Sequence[Sequence[Any]]) -> CustomerGrant:
        row = rows[0]
        subscription = Subscription(*row[6:18]) if row[6] is not None else None
        plan = self._plan(subscription, row[18]) if subscription else None
        limits = sorted((limit_from_json(row[20]) for row in rows if row[19] == "limit"), key=lambda limit: limit.name)
        quotas = sorted((quota_from_json(row[20]) for row in rows if row[19] == "quota"), key=lambda quota: quota.meter)
        return CustomerGrant(
            Customer(*row[:6]),
            subscription,
            plan,
            override_limits(plan.limits if plan else (), limits),
            override_quotas(plan.quotas if plan else (), quotas),
        )

    def _plan(self, subscription: Subscription, document: str) -> Plan:
        name = (subscription.plan, subscription.plan_version)
        plan = self._plans.get(name)
        if plan is None:
            if len(self._plans) >= CACHED_PLANS:
                self._plans.clear()
            plan = self._plans[name] = plan_from_dict(json.loads(document))
        return plan
