"""`/v1/shadow`: what would have been refused, and whether it is safe to switch."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from tollkeeper.core.customers import Environment
from tollkeeper.services.shadow import ShadowCustomer, ShadowReport
from tollkeeper.web.api.shapes import Instant, Shown
from tollkeeper.web.api.shapes import Query as Parameters
from tollkeeper.web.routes import AdminRoute, ShadowDep

router = APIRouter(prefix="/v1", tags=["Gate"], route_class=AdminRoute)


class ShadowQuery(Parameters):
    """Which days."""

    environment: Environment = Field("live", description="`live` or `test`.")
    days: int = Field(7, ge=1, le=400, description="Days, today included.")


class ShadowCustomerShown(Shown):
    """What one customer would have been refused. `customer` null: callers that no key names."""

    customer: str | None = Field(examples=["cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    refused: int = Field(examples=[12])
    codes: dict[str, int] = Field(examples=[{"RATE_LIMITED": 12}])
    last_at: Instant

    @classmethod
    def of(cls, one: ShadowCustomer) -> ShadowCustomerShown:
        return cls(customer=one.customer or None, refused=one.refused, codes=one.codes, last_at=one.last_at)


class ShadowShown(Shown):
    """`safe`: the same plans have been in shadow mode for a day at least, and nothing would have been refused."""

    plans: list[str] = Field(description="The catalog's `shadow`.", examples=[["pro"]])
    start: Instant
    since: Instant | None = Field(description="When shadow mode began, null when less than a day ago, or never.")
    refused: int = Field(examples=[12])
    safe: bool
    customers: list[ShadowCustomerShown]

    @classmethod
    def of(cls, report: ShadowReport) -> ShadowShown:
        return cls(
            plans=list(report.plans),
            start=report.start,
            since=report.since,
            refused=report.refused,
            safe=report.safe,
            customers=[ShadowCustomerShown.of(one) for one in report.customers],
        )


@router.get("/shadow", summary="Report on shadow mode")
def get_shadow(query: Annotated[ShadowQuery, Query()], shadow: ShadowDep) -> ShadowShown:
    """What limits, quotas and missing keys would have refused, by customer, most first."""
    return ShadowShown.of(shadow.report(query.environment, query.days))
