"""The catalog: what is on offer now, and every version that was ever bought."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tollkeeper.core.catalog import CatalogDiff, Fault, catalog_to_dict, diff_catalogs, fingerprint, parse_catalog
from tollkeeper.core.errors import CatalogInvalid, NotFound
from tollkeeper.core.plans import Catalog, Plan
from tollkeeper.core.ports import CatalogVersion, Database, Repositories
from tollkeeper.services import fields
from tollkeeper.services.fields import Page

FILE = "tollkeeper.toml"


@dataclass(frozen=True, slots=True)
class Applied:
    """`version` is in force afterwards. `changed` False: it was before, and nothing was written."""

    version: CatalogVersion
    diff: CatalogDiff
    changed: bool


class CatalogService:
    """`on_change(None)` runs after each commit that changes what is on offer."""

    def __init__(
        self,
        database: Database,
        now_us: Callable[[], int],
        on_change: Callable[[str | None], None] = lambda customer: None,
    ) -> None:
        self._database = database
        self._now_us = now_us
        self._on_change = on_change

    def diff(self, given: str | Catalog, *, file: str = FILE) -> CatalogDiff:
        """What `apply` would change, and what it would refuse. Raises CatalogInvalid when the text itself is faulty."""
        _, catalog = _read(given, file)
        with self._database.read() as rows:
            return _diff(rows, rows.catalog.current(), catalog, file)

    def apply(self, given: str | Catalog, *, file: str = FILE) -> Applied:
        """Put a catalog (TOML text, or already parsed) in force. Each plan that changed gets its next version.

        Subscribers stay on the version bought. A plan left out is archived: kept for them, sold to nobody; brought back
        with the same content it has its old version. Raises CatalogInvalid with every fault; then nothing was applied.
        """
        text, catalog = _read(given, file)
        return self._apply(text, catalog, file)

    def _apply(self, text: str, catalog: Catalog, file: str) -> Applied:
        with self._database.write() as rows:
            current = rows.catalog.current()
            diff = _diff(rows, current, catalog, file)
            if diff.refused:
                raise CatalogInvalid(faults=diff.refused)
            mark = fingerprint(catalog)
            if current is not None and current.fingerprint == mark:
                return Applied(current, diff, changed=False)
            plans = {key: _numbered(rows, plan) for key, plan in catalog.plans.items()}
            rows.catalog.archive_all_but([(plan.key, plan.version) for plan in plans.values()])
            number = current.version + 1 if current else 1
            version = CatalogVersion(number, text, mark, self._now_us(), replace(catalog, plans=plans))
            rows.catalog.add(version)
        self._on_change(None)
        return Applied(version, diff, changed=True)

    def apply_file(self, path: Path) -> Applied:
        """`apply` of a file. Raises CatalogInvalid, also when it cannot be read."""
        try:
            given = path.read_bytes()
        except OSError as error:
            fault = Fault(str(path), None, "", "a catalog", f"a file that cannot be read: {error.strerror}")
            raise CatalogInvalid(faults=[fault]) from error
        catalog = parse_catalog(given, file=str(path))
        return self._apply(given.decode(), catalog, str(path))

    def current(self) -> CatalogVersion | None:
        """None before the first apply."""
        with self._database.read() as rows:
            return rows.catalog.current()

    def version(self, version: int) -> CatalogVersion:
        """A catalog as it was applied. Raises NotFound."""
        with self._database.read() as rows:
            found = rows.catalog.version(version) if fields.is_version(version) else None
        if found is None:
            raise NotFound(f"There is no version {str(version)[:20]} of the catalog.")
        return found

    def versions(self, cursor: str | None = None, limit: int = 100) -> Page[CatalogVersion]:
        """Every catalog that was applied, newest first."""
        after, limit = fields.page_bounds(cursor, limit)
        if after is not None and not (after.isascii() and after.isdigit() and len(after) < 10):
            raise fields.invalid("cursor", "the `next_cursor` of the page before is expected")
        with self._database.read() as rows:
            found = rows.catalog.versions(None if after is None else int(after), limit + 1)
        return Page(found[:limit], str(found[limit - 1].version) if len(found) > limit else None)

    def plan(self, key: str, version: int | None = None) -> Plan:
        """A plan as it was at `version`, or (None) as it is on offer. Raises NotFound."""
        with self._database.read() as rows:
            if version is None:
                current = rows.catalog.current()
                found = current.catalog.plans.get(key) if current and isinstance(key, str) else None
            else:
                found = (
                    rows.catalog.plan(key, version)
                    if fields.is_identifier(key) and fields.is_version(version)
                    else None
                )
        if found is None:
            which = "on offer" if version is None else f"with version {version}"
            raise NotFound(f"There is no plan {str(key)[:80]!r} {which}.")
        return found


def _read(given: str | Catalog, file: str) -> tuple[str, Catalog]:
    """The text, and its catalog with every plan at version 0."""
    if isinstance(given, str):
        return given, parse_catalog(given, file=file)
    catalog = replace(given, plans={key: replace(plan, version=0) for key, plan in given.plans.items()})
    return json.dumps(catalog_to_dict(catalog)), catalog


def _diff(rows: Repositories, current: CatalogVersion | None, catalog: Catalog, file: str) -> CatalogDiff:
    in_use = [rows.catalog.plan(key, version) for key, version in rows.subscriptions.plans_in_use()]
    old = current.catalog if current else None
    meters, features = rows.catalog.ever()
    return diff_catalogs(
        old,
        catalog,
        in_use=[plan for plan in in_use if plan is not None],
        meters_ever=meters,
        features_ever=features,
        file=file,
    )


def _numbered(rows: Repositories, plan: Plan) -> Plan:
    """The plan at the version it already has, or stored at its next one."""
    latest = rows.catalog.latest_plan(plan.key)
    if latest is not None and replace(latest, version=0) == plan:
        return latest
    numbered = replace(plan, version=latest.version + 1 if latest else 1)
    rows.catalog.add_plan(numbered)
    return numbered
