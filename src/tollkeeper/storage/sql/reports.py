"""Rows of how much of a period was reported."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, select, text

from tollkeeper.core.billing import UsageReport
from tollkeeper.core.customers import Environment
from tollkeeper.core.metering import format_quantity
from tollkeeper.storage.sql.money_tables import usage_reports

_C = usage_reports.c
_PUT = text(
    """INSERT INTO usage_reports (environment, customer, meter, period_start, reported, carried, billed, revision, seq, updated_at)
    VALUES (:environment, :customer, :meter, :period_start, :reported, :carried, :billed, :revision, :seq, :updated_at)
    ON CONFLICT (environment, customer, meter, period_start) DO UPDATE SET reported = excluded.reported, carried = excluded.carried,
    billed = excluded.billed, revision = excluded.revision, seq = excluded.seq, updated_at = excluded.updated_at"""
)


class SqlReports:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, environment: Environment, customer: str, meter: str, period_start: int) -> UsageReport | None:
        query = select(usage_reports).where(
            _C.environment == environment,
            _C.customer == customer,
            _C.meter == meter,
            _C.period_start == period_start,
        )
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _report(row)

    def of(self, environment: Environment, customer: str, period_start: int) -> Sequence[UsageReport]:
        query = (
            select(usage_reports)
            .where(_C.environment == environment, _C.customer == customer, _C.period_start == period_start)
            .order_by(_C.meter)
        )
        return [_report(row) for row in self._connection.execute(query)]

    def put(self, report: UsageReport, now: int) -> None:
        self._connection.execute(
            _PUT,
            {
                "environment": report.environment,
                "customer": report.customer,
                "meter": report.meter,
                "period_start": report.period_start,
                "reported": format_quantity(report.reported),
                "carried": format_quantity(report.carried),
                "billed": None if report.billed is None else format_quantity(report.billed),
                "revision": report.revision,
                "seq": report.seq,
                "updated_at": now,
            },
        )


def _report(row: Row[Any]) -> UsageReport:
    return UsageReport(
        environment=row.environment,
        customer=row.customer,
        meter=row.meter,
        period_start=row.period_start,
        reported=Decimal(row.reported),
        carried=Decimal(row.carried),
        billed=None if row.billed is None else Decimal(row.billed),
        revision=row.revision,
        seq=row.seq,
    )
