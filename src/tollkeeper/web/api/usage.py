"""`/v1/usage`: what was used, by customer, key, meter, window and zone; and the events that no meter counts."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import Forbidden
from tollkeeper.core.usage import UsageRow, Window
from tollkeeper.web.api.shapes import Instant, SentInstant, Shown
from tollkeeper.web.api.shapes import Query as Parameters
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import CallerDep, UsageDep, UsageRoute

router = APIRouter(prefix="/v1", tags=["Usage"], route_class=UsageRoute)


class UsageQuery(Parameters):
    """What to sum, over which time, and how to cut it."""

    meter: str = Field(max_length=64, description="The meter's key.", examples=["api_calls"])
    customer: str | None = Field(
        None, max_length=64, description="One customer; a customer's own key sees only its own."
    )
    key: str | None = Field(None, max_length=256, description="One key, by its id.")
    from_: SentInstant | None = Field(
        None, alias="from", description="From this instant on; the start of the period when left out. Write + as %2B."
    )
    to: SentInstant | None = Field(None, description="Up to this instant; now when left out.")
    window: Window | None = Field(None, description="Cut into hours, days, months or billing periods.")
    zone: str | None = Field(
        None, max_length=64, description="IANA zone of days and months; the customer's when left out.", examples=["UTC"]
    )
    group_by: str | None = Field(
        None,
        max_length=256,
        description="`customer`, `key` and dimensions of the meter (its `group_by`), with commas between.",
        examples=["key"],
    )
    environment: Environment | None = Field(
        None, description="`live` when left out; a key's own environment for a key."
    )


class UsageWindow(Shown):
    """One window of one group. An unknown is not a zero: where `state` is unknown, `value` is null.

    It is null, too, where no event came that a max, min, average or latest value could be taken of.
    """

    start: Instant
    end: Instant
    group: dict[str, str | None] = Field(examples=[{}])
    value: str | None = Field(examples=["1284"])
    events: int = Field(examples=[1284])
    state: Literal["known", "unknown"]

    @classmethod
    def of(cls, row: UsageRow) -> UsageWindow:
        return cls(start=row.start, end=row.end, group=row.group, value=row.value, events=row.events, state=row.state)


class UsageShown(Shown):
    """A meter's usage; `total` is a decimal: of all windows and groups together, by the meter's own aggregation."""

    meter: str = Field(examples=["api_calls"])
    total: str | None = Field(examples=["1284"])
    data: list[UsageWindow]


class UnmatchedQuery(Parameters):
    """Where and since when to look."""

    environment: Environment | None = Field(
        None, description="`live` when left out; a key's own environment for a key."
    )
    days: int = Field(30, ge=1, le=366, description="How many days back.")


class UnmatchedShown(Shown):
    """Events of a type that no meter counts: accepted and kept, billed to nobody. Often a misspelt `type`."""

    type: str = Field(examples=["api.cal"])
    source: str = Field(examples=["billing-worker"])
    events: int = Field(examples=[17])


class UnmatchedList(Shown):
    data: list[UnmatchedShown]


@router.get("/usage", summary="Look usage up", responses=documented(404, "zone_invalid"))
def get_usage(query: Annotated[UsageQuery, Query()], usage: UsageDep, caller: CallerDep) -> UsageShown:
    """Visible as soon as an event is acknowledged. Times are widened to whole cells of 15 minutes."""
    answer = usage.query(
        query.meter,
        environment=caller.environment_of(query.environment),
        customer=caller.customer_of(query.customer),
        key=query.key,
        start=query.from_,
        end=query.to,
        window=query.window,
        zone=query.zone,
        group_by=tuple(name.strip() for name in query.group_by.split(",")) if query.group_by else (),
    )
    return UsageShown(meter=answer.meter, total=answer.total, data=[UsageWindow.of(row) for row in answer.data])


@router.get("/events/unmatched", summary="List event types that no meter counts")
def list_unmatched(query: Annotated[UnmatchedQuery, Query()], usage: UsageDep, caller: CallerDep) -> UnmatchedList:
    if caller.kind == "customer":
        raise Forbidden("A customer's key sees only its own usage.")
    found = usage.unmatched(caller.environment_of(query.environment), query.days)
    return UnmatchedList(data=[UnmatchedShown(type=row.type, source=row.source, events=row.events) for row in found])
