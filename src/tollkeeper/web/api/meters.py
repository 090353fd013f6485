"""`/v1/meters`: what may be counted, for programs that ask the gate."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from tollkeeper.web.api.shapes import Shown
from tollkeeper.web.routes import CatalogDep, CheckRoute

router = APIRouter(prefix="/v1/meters", tags=["Gate"], route_class=CheckRoute)


class MeterShown(Shown):
    """A meter of the catalog in force."""

    key: str = Field(examples=["api_calls"])
    event_type: str = Field(examples=["api.call"])
    aggregation: str = Field(examples=["count"])
    count_on: Literal["attempt", "success"] = Field(description="Whether a use that fails counts, too.")


class MeterList(Shown):
    data: list[MeterShown]


@router.get("", summary="List meters")
def list_meters(catalog: CatalogDep) -> MeterList:
    """Empty while no catalog is in force."""
    current = catalog.current()
    meters = () if current is None else current.catalog.meters.values()
    return MeterList(
        data=[
            MeterShown(key=m.key, event_type=m.event_type, aggregation=m.aggregation, count_on=m.count_on)
            for m in meters
        ]
    )
