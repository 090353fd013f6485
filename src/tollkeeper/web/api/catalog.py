"""`/v1/catalog`: what is on offer, what an apply would change, and every version there was."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field

from tollkeeper.core.catalog import CatalogDiff, catalog_to_dict, check_catalog
from tollkeeper.core.errors import CatalogInvalid, NotFound
from tollkeeper.core.ports import CatalogVersion
from tollkeeper.web.api.shapes import Instant, Listed, PageQuery, Sent, Shown
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, CatalogDep

router = APIRouter(prefix="/v1/catalog", tags=["Catalog"], route_class=AdminRoute)

EXAMPLE = """\
currency = "usd"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[plans.free]
product = "api"
quotas = [{meter = "api_calls", limit = "1000", kind = "hard"}]
"""


class CatalogText(Sent):
    """A catalog as text."""

    toml: str = Field(max_length=900_000, description="The whole of `tollkeeper.toml`.", examples=[EXAMPLE])


class VersionShown(Shown):
    """One applied catalog, without its content."""

    version: int = Field(examples=[3])
    fingerprint: str = Field(description="Equal for catalogs that say the same.", examples=["9f2b7c1d"])
    applied_at: Instant

    @classmethod
    def of(cls, version: CatalogVersion) -> VersionShown:
        return cls(version=version.version, fingerprint=version.fingerprint, applied_at=version.applied_at)


class CatalogShown(VersionShown):
    """One applied catalog: the text as it was given, and what it says with every default filled in."""

    toml: str = Field(examples=[EXAMPLE])
    catalog: dict[str, Any] = Field(examples=[{"currency": "usd", "meters": {}, "plans": {}}])

    @classmethod
    def full(cls, version: CatalogVersion) -> CatalogShown:
        return cls(
            version=version.version,
            fingerprint=version.fingerprint,
            applied_at=version.applied_at,
            toml=version.text,
            catalog=catalog_to_dict(version.catalog),
        )


class ChangeShown(Shown):
    """One key that changes; `before` or `after` is empty where there is nothing."""

    kind: Literal["added", "changed", "removed"] = Field(examples=["changed"])
    key: str = Field(examples=["plans.free.quotas[api_calls].limit"])
    before: str = Field(examples=["1000"])
    after: str = Field(examples=["2000"])


class RefusalShown(Shown):
    """A change that must not be made, since it would alter what is recorded or sold."""

    key: str = Field(examples=["meters.api_calls.event_type"])
    message: str = Field(examples=['expected "api.call", as applied, found "api.request"'])


class DiffShown(Shown):
    """What an apply would change. With anything in `refused` it would change nothing, and say `catalog_invalid`."""

    changed: bool
    changes: list[ChangeShown]
    refused: list[RefusalShown] = Field(examples=[[]])
    plans_changed: list[str] = Field(description="These get their next version.", examples=[["free"]])
    plans_archived: list[str] = Field(description="Kept for their subscribers, sold to nobody.", examples=[[]])

    @classmethod
    def of(cls, diff: CatalogDiff) -> DiffShown:
        return cls(
            changed=bool(diff.changes),
            changes=[
                ChangeShown(kind=change.kind, key=change.key_path, before=change.before, after=change.after)
                for change in diff.changes
            ],
            refused=[
                RefusalShown(
                    key=fault.key_path, message=f"expected {fault.expected}, found {fault.found}; {fault.hint}"
                )
                for fault in diff.refused
            ],
            plans_changed=list(diff.plans_changed),
            plans_archived=list(diff.plans_archived),
        )


class AppliedShown(DiffShown):
    """What the apply changed; `version` is in force now. `changed` false: it was in force before, nothing was written."""

    version: int = Field(examples=[4])
    applied_at: Instant


class WarningShown(Shown):
    """Something valid that is probably not meant."""

    key: str = Field(examples=["plans.free"])
    line: int | None = Field(examples=[7])
    message: str = Field(examples=["no price bills the meter api_calls"])


class CheckShown(Shown):
    """The catalog has no fault. With faults the answer is `catalog_invalid`, and `errors` holds every one of them."""

    valid: Literal[True]
    changed: bool = Field(description="Whether an apply would change anything.")
    warnings: list[WarningShown]


VersionNumber = Annotated[int, Path(ge=1, lt=2**31, description="The catalog's version.", examples=[3])]


@router.get("", summary="Get the catalog in force", responses=documented(404))
def get_catalog(catalogs: CatalogDep) -> CatalogShown:
    current = catalogs.current()
    if current is None:
        raise NotFound("No catalog is applied yet.")
    return CatalogShown.full(current)


@router.post("/check", summary="Check a catalog", responses=documented(422))
def check_text(sent: CatalogText, catalogs: CatalogDep) -> CheckShown:
    """Finds every fault, each with its line, its key and what was expected; and what is valid but probably not meant."""
    diff = catalogs.diff(sent.toml)
    if diff.refused:
        raise CatalogInvalid(faults=diff.refused)
    _, _, warnings = check_catalog(sent.toml)
    return CheckShown(
        valid=True,
        changed=bool(diff.changes),
        warnings=[WarningShown(key=found.key_path, line=found.line, message=found.message) for found in warnings],
    )


@router.post("/diff", summary="Show what an apply would change", responses=documented(422))
def diff_text(sent: CatalogText, catalogs: CatalogDep) -> DiffShown:
    return DiffShown.of(catalogs.diff(sent.toml))


@router.post("/apply", summary="Apply a catalog", responses=documented(422))
def apply_text(sent: CatalogText, catalogs: CatalogDep) -> AppliedShown:
    """Puts the catalog in force; each plan that changed gets its next version. Subscribers stay on the version they bought."""
    applied = catalogs.apply(sent.toml)
    return AppliedShown(
        version=applied.version.version, applied_at=applied.version.applied_at, **dict(DiffShown.of(applied.diff))
    )


@router.get("/versions", summary="List catalog versions")
def list_versions(page: Annotated[PageQuery, Query()], catalogs: CatalogDep) -> Listed[VersionShown]:
    """Newest first."""
    found = catalogs.versions(page.cursor, page.limit)
    return Listed(data=[VersionShown.of(version) for version in found.items], next_cursor=found.next)


@router.get("/versions/{version}", summary="Get a catalog version")
def get_version(version: VersionNumber, catalogs: CatalogDep) -> CatalogShown:
    return CatalogShown.full(catalogs.version(version))
