"""Rows of the last comparison of ledger and provider."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, delete, func, select, text

from tollkeeper.core.customers import Environment
from tollkeeper.core.drift import DriftCheck, DriftSum
from tollkeeper.core.metering import format_quantity
from tollkeeper.storage.sql.money_tables import drift_checks

_C = drift_checks.c
_NAMES = tuple(column.name for column in _C)
_NUMBERS = ("ledger", "reported", "provider", "invoiced", "difference")
_PUT = text(
    f"""INSERT INTO drift_checks ({", ".join(_NAMES)}) VALUES ({", ".join(f":{name}" for name in _NAMES)})
    ON CONFLICT (environment, customer, meter, period_start) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in _NAMES[4:])}"""  # noqa: S608 - constants only
)


class SqlDrift:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, check: DriftCheck) -> None:
        values: dict[str, Any] = {name: getattr(check, name) for name in _NAMES}
        for name in _NUMBERS:
            values[name] = None if values[name] is None else format_quantity(values[name])
        self._connection.execute(_PUT, values)

    def get(self, environment: Environment, customer: str, meter: str, period_start: int) -> DriftCheck | None:
        query = select(drift_checks).where(
            _C.environment == environment, _C.customer == customer, _C.meter == meter, _C.period_start == period_start
        )
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _check(row)

    def list(self, environment: Environment, customer: str | None, drifted: bool) -> Sequence[DriftCheck]:
        query = select(drift_checks).where(_C.environment == environment)
        if customer is not None:
            query = query.where(_C.customer == customer)
        if drifted:
            query = query.where(_C.state != "equal")
        query = query.order_by(_C.customer, _C.period_start, _C.meter).limit(10_000)
        return [_check(row) for row in self._connection.execute(query)]

    def remove(self, check: DriftCheck) -> None:
        self._connection.execute(
            delete(drift_checks).where(
                _C.environment == check.environment,
                _C.customer == check.customer,
                _C.meter == check.meter,
                _C.period_start == check.period_start,
            )
        )

    def sums(self, environment: Environment) -> dict[tuple[str, str], DriftSum]:
        found: dict[tuple[str, str], DriftSum] = {}
        equal = select(_C.meter, func.count()).where(_C.environment == environment, _C.state == "equal")
        for meter, count in self._connection.execute(equal.group_by(_C.meter)):
            found[meter, "equal"] = DriftSum(count, Decimal(0))
        others = select(_C.meter, _C.state, _C.difference).where(_C.environment == environment, _C.state != "equal")
        for meter, state, difference in self._connection.execute(others):
            one = found.get((meter, state), DriftSum(0, Decimal(0)))
            units = None if one.units is None or difference is None else one.units + abs(Decimal(difference))
            found[meter, state] = DriftSum(one.comparisons + 1, units)
        return found


def _check(row: Any) -> DriftCheck:
    values = dict(row._mapping)
    for name in _NUMBERS:
        values[name] = None if values[name] is None else Decimal(values[name])
    return DriftCheck(**values)
