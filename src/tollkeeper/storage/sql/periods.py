"""Rows of billing periods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, case, delete, insert, or_, select, text, tuple_, update

from tollkeeper.core.billing import MINUTE_US, BillingPeriod, PeriodState
from tollkeeper.core.customers import Environment
from tollkeeper.storage.sql.money_tables import billing_periods, provider_subscriptions

_C = billing_periods.c
_NAMES = ("environment", "customer", "start", "end", "provider", "subscription", "plan", "plan_version", "state")


class SqlPeriods:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, period: BillingPeriod) -> None:
        before = self.get(period.environment, period.customer, period.start)
        if before is not None:
            period = replace(period, stale=before.stale or _bounds(before) != _bounds(period))
            self._connection.execute(delete(billing_periods).where(_key(period)))
        values = {name: getattr(period, name) for name in (*_NAMES, "invoice", "finalized_at", "tail")}
        stale = period.stale and period.provider is not None  # without a provider nothing is reported
        self._connection.execute(insert(billing_periods).values(**values, stale=int(stale)))

    def get(self, environment: Environment, customer: str, start: int) -> BillingPeriod | None:
        query = select(billing_periods).where(_C.environment == environment, _C.customer == customer, _C.start == start)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _period(row)

    def overlapping(
        self, environment: Environment, customers: Sequence[str], start: int, end: int
    ) -> Sequence[BillingPeriod]:
        query = (
            select(billing_periods)
            .where(_C.environment == environment, _C.customer.in_(customers), _C.start < end, _C.end + _C.tail > start)
            .order_by(_C.customer, _C.start)
        )
        return [_period(row) for row in self._connection.execute(query)]

    def of(self, environment: Environment, customer: str) -> Sequence[BillingPeriod]:
        query = select(billing_periods).where(_C.environment == environment, _C.customer == customer).order_by(_C.start)
        return [_period(row) for row in self._connection.execute(query)]

    def remove(self, environment: Environment, customer: str, start: int) -> None:
        self._connection.execute(
            delete(billing_periods).where(_C.environment == environment, _C.customer == customer, _C.start == start)
        )

    def stale(self, environment: Environment, now: int, most: int) -> Sequence[BillingPeriod]:
        query = (
            select(billing_periods)
            .where(
                text("stale = 1"),
                _C.environment == environment,
                _C.start <= now - MINUTE_US,
                or_(_C.state != "invoiced", _C.end + _C.tail <= now),
            )
            .order_by(_C.environment, _C.customer, _C.start)
            .limit(most)
        )
        return [_period(row) for row in self._connection.execute(query)]

    def looked_at(self, period: BillingPeriod) -> bool:
        changed = self._connection.execute(
            update(billing_periods)
            .where(
                _key(period),
                _C.end == period.end,
                _C.tail == period.tail,
                _C.plan == period.plan,
                _C.plan_version == period.plan_version,
                _C.state == period.state,
            )
            .values(stale=0)
        )
        return changed.rowcount > 0

    def move(
        self,
        environment: Environment,
        customer: str,
        start: int,
        state: PeriodState,
        invoice: str | None,
        finalized_at: int | None = None,
    ) -> None:
        self._change(environment, customer, start, state=state, invoice=invoice, finalized_at=finalized_at)

    def doubt(self, environment: Environment, customer: str, start: int) -> None:
        self._change(environment, customer, start)

    def _change(self, environment: Environment, customer: str, start: int, **values: Any) -> None:
        self._connection.execute(
            update(billing_periods)
            .where(_C.environment == environment, _C.customer == customer, _C.start == start)
            .values(**values, stale=case((_C.provider.is_(None), 0), else_=1))
        )

    def unbilled_ends(self, provider: str, after: int, before: int) -> Sequence[tuple[Environment, str]]:
        contract = provider_subscriptions.c
        query = (
            select(_C.environment, _C.customer)
            .distinct()
            .join(
                provider_subscriptions,
                (contract.provider == _C.provider)
                & (contract.environment == _C.environment)
                & (contract.id == _C.subscription),
            )
            .where(text("state <> 'invoiced'"), _C.state == "open", _C.end > after, _C.end <= before)
            .where(_C.provider == provider, contract.ended_at.is_not(None))
        )
        return [(row.environment, row.customer) for row in self._connection.execute(query)]

    def unsettled(self, after: tuple[str, str, int] | None, most: int) -> Sequence[BillingPeriod]:
        columns = (_C.environment, _C.customer, _C.start)
        query = select(billing_periods).where(_C.provider.is_not(None)).order_by(*columns).limit(most)
        if after is not None:
            query = query.where(tuple_(*columns) > tuple_(*after))
        return [_period(row) for row in self._connection.execute(query)]


def _bounds(period: BillingPeriod) -> tuple[object, ...]:
    return period.end, period.tail, period.plan, period.plan_version, period.state


def _key(period: BillingPeriod) -> Any:
    return (_C.environment == period.environment) & (_C.customer == period.customer) & (_C.start == period.start)


def _period(row: Row[Any]) -> BillingPeriod:
    values = dict(row._mapping)
    values["stale"] = bool(values["stale"])
    return BillingPeriod(**values)
