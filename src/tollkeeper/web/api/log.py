"""`/v1/events/log`: the events as they are kept, in the order in which they were counted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import Field

from tollkeeper.core.customers import Environment
from tollkeeper.web.api.shapes import Instant, Shown, show_instant
from tollkeeper.web.api.shapes import Query as Parameters
from tollkeeper.web.routes import CallerDep, UsageDep, UsageRoute

router = APIRouter(prefix="/v1/events", tags=["Events"], route_class=UsageRoute)


class LogQuery(Parameters):
    """Which part of the log."""

    cursor: int = Field(0, ge=0, lt=2**63, description="`next_cursor` of the page before; 0 for the first page.")
    limit: int = Field(1000, ge=1, le=10_000, description="How many events of the log to look at.")
    customer: str | None = Field(
        None, max_length=64, description="One customer; a customer's own key sees only its own."
    )
    environment: Environment | None = Field(
        None, description="`live` when left out; a key's own environment for a key."
    )


class LoggedShown(Shown):
    """An event as it is kept. `quantity` is what a count meter counts: 1, or the cost of a check."""

    seq: int = Field(examples=[17])
    environment: Literal["live", "test"]
    id: str = Field(examples=["evt_01JD3V5E6QN8Z4V9W1T7B2X3YD"])
    source: str = Field(examples=["billing-worker"])
    type: str = Field(examples=["api.call"])
    subject: str | None
    customer: str = Field(examples=["acme"])
    time: Instant
    received_at: Instant
    quantity: str = Field(examples=["1"])
    data: dict[str, Any] | None = Field(description="As it was sent.", examples=[{"tokens": 1250}])
    state: Literal["active", "amended", "voided"] = Field(
        description="`amended`: `amended` counts in the place of `data`. `voided`: it counts no more."
    )
    correction: str | None = Field(description="Which correction voided or amended it last.", examples=[None])
    amended: dict[str, Any] | None = Field(examples=[None])


class LogPage(Shown):
    """`next_cursor` null: the end of the log. A page may be empty and not the last: it holds those asked for among `limit`."""

    data: list[LoggedShown]
    next_cursor: int | None = Field(examples=[None])


@router.get("/log", summary="List events", response_model=LogPage)
def list_log(query: Annotated[LogQuery, Query()], usage: UsageDep, caller: CallerDep) -> Response:
    """In the order of their sequence. Numbers in `data` stand as they are kept: read them as decimals."""
    environment = caller.environment_of(query.environment)
    found, following = usage.log(environment, caller.customer_of(query.customer), query.cursor, query.limit)
    data = [
        {
            "seq": event.seq,
            "environment": event.environment,
            "id": event.id,
            "source": event.source,
            "type": event.type,
            "subject": event.subject,
            "customer": event.customer,
            "time": show_instant(event.time),
            "received_at": show_instant(event.received_at),
            "quantity": str(event.quantity),
            "data": None if event.data is None else msgspec.Raw(event.data.encode()),
            "state": event.state,
            "correction": event.correction,
            "amended": None if event.amended is None else msgspec.Raw(event.amended.encode()),
        }
        for event in found
    ]
    return Response(msgspec.json.encode({"data": data, "next_cursor": following}), media_type="application/json")
