"""Rows of applied catalogs and plan versions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, desc, insert, or_, select, update

from tollkeeper.core.catalog import catalog_from_dict, catalog_to_dict, plan_from_dict, plan_to_dict
from tollkeeper.core.metering import Meter
from tollkeeper.core.plans import Feature, Plan
from tollkeeper.core.ports import CatalogVersion
from tollkeeper.storage.sql.tables import catalog_versions, plan_versions


def _version_from(row: Row[Any]) -> CatalogVersion:
    catalog = catalog_from_dict(json.loads(row.document))
    return CatalogVersion(row.version, row.text, row.fingerprint, row.applied_at, catalog)


class SqlCatalog:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def current(self) -> CatalogVersion | None:
        found = self.versions(None, 1)
        return found[0] if found else None

    def version(self, version: int) -> CatalogVersion | None:
        found = self.versions(version + 1, 1)
        return found[0] if found and found[0].version == version else None

    def versions(self, before: int | None, limit: int) -> Sequence[CatalogVersion]:
        query = select(catalog_versions).order_by(desc(catalog_versions.c.version)).limit(limit)
        if before is not None:
            query = query.where(catalog_versions.c.version < before)
        return [_version_from(row) for row in self._connection.execute(query)]

    def ever(self) -> tuple[Mapping[str, Meter], Mapping[str, Feature]]:
        meters: dict[str, Meter] = {}
        features: dict[str, Feature] = {}
        for document in self._connection.execute(
            select(catalog_versions.c.document).order_by(catalog_versions.c.version)
        ).scalars():
            catalog = catalog_from_dict(json.loads(document))
            meters.update(catalog.meters)
            features.update(catalog.features)
        return meters, features

    def add(self, version: CatalogVersion) -> None:
        self._connection.execute(
            insert(catalog_versions).values(
                version=version.version,
                text=version.text,
                document=json.dumps(catalog_to_dict(version.catalog)),
                fingerprint=version.fingerprint,
                applied_at=version.applied_at,
            )
        )

    def plan(self, key: str, version: int) -> Plan | None:
        query = select(plan_versions.c.document).where(plan_versions.c.plan == key, plan_versions.c.version == version)
        document = self._connection.execute(query).scalar()
        return plan_from_dict(json.loads(document)) if document else None

    def latest_plan(self, key: str) -> Plan | None:
        query = (
            select(plan_versions.c.document)
            .where(plan_versions.c.plan == key)
            .order_by(desc(plan_versions.c.version))
            .limit(1)
        )
        document = self._connection.execute(query).scalar()
        return plan_from_dict(json.loads(document)) if document else None

    def add_plan(self, plan: Plan) -> None:
        self._connection.execute(
            insert(plan_versions).values(
                plan=plan.key, version=plan.version, document=json.dumps(plan_to_dict(plan)), archived=0
            )
        )

    def archive_all_but(self, plans: Sequence[tuple[str, int]]) -> None:
        columns = plan_versions.c
        offered = or_(*(and_(columns.plan == key, columns.version == version) for key, version in plans))
        self._connection.execute(update(plan_versions).values(archived=1))
        if plans:
            self._connection.execute(update(plan_versions).where(offered).values(archived=0))
