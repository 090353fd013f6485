"""`/v1/webhooks/events`: what the payment provider told, what became of it, and once more, please."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.inbox import InboxEvent, InboxStatus
from tollkeeper.services.inbox import Inbox
from tollkeeper.web.api.shapes import EnvironmentName, Instant, Listed, Sent, Shown
from tollkeeper.web.api.shapes import Query as Parameters
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, MoneyDep, MoneyServices

router = APIRouter(prefix="/v1/webhooks", tags=["Webhooks"], route_class=AdminRoute)

EventId = Annotated[str, Path(description="The provider's id of the event.", examples=["evt_1SXkQ2eZvKYlo2CUI79vXWy"])]
_LATEST = 1 << 62


class EventQuery(Parameters):
    """Which events."""

    status: InboxStatus | None = Field(None, description="Only these.")
    type: str | None = Field(None, min_length=1, max_length=255, description="Only these, such as `invoice.paid`.")
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=300,
        description="`next_cursor` of the page before; leave it out for the first page.",
    )
    limit: int = Field(50, ge=1, le=100, description="How many at most.")


class WebhookEventShown(Shown):
    """One event. It is `pending` until its effect is applied (`done`), found to be nobody's (`ignored`), or failed too often (`dead`)."""

    id: str = Field(examples=["evt_1SXkQ2eZvKYlo2CUI79vXWy"])
    provider: str = Field(examples=["stripe"])
    environment: EnvironmentName
    type: str = Field(examples=["invoice.paid"])
    object: str | None = Field(description="What it is about.", examples=["in_1SXkPz2eZvKYlo2C"])
    status: InboxStatus
    attempts: int = Field(examples=[1])
    error: str | None = Field(description="Why the last attempt failed, or it is ignored.", examples=[None])
    created_at: Instant = Field(description="When it happened, as the provider says.")
    received_at: Instant
    due_at: Instant = Field(description="When a pending one is tried next.")
    processed_at: Instant | None

    @classmethod
    def of(cls, event: InboxEvent) -> WebhookEventShown:
        return cls(**{name: value for name, value in event._asdict().items() if name != "payload"})


class WebhookEventWhole(WebhookEventShown):
    """One event with what was sent."""

    payload: str = Field(
        description="The body byte for byte; JSON.", examples=['{"id":"evt_1SXk","type":"invoice.paid"}']
    )

    @classmethod
    def whole(cls, event: InboxEvent) -> WebhookEventWhole:
        return cls(**event._replace(payload=b"")._asdict() | {"payload": event.payload.decode("utf-8", "replace")})


class ReplaySent(Sent):
    """Which events to apply once more."""

    status: Literal["dead"] = Field(description="`dead`: all that failed too often.", examples=["dead"])


class Replayed(Shown):
    """How many were made pending again."""

    replayed: int = Field(examples=[3])


@router.get("/events", summary="List webhooks")
def list_webhook_events(query: Annotated[EventQuery, Query()], money: MoneyDep) -> Listed[WebhookEventShown]:
    """Newest first, without what was sent. Settled events are kept for 40 days."""
    found = _inbox(money).events(query.status, query.type, _before(query.cursor), query.limit + 1)
    more = found[query.limit - 1] if len(found) > query.limit else None
    return Listed(
        data=[WebhookEventShown.of(event) for event in found[: query.limit]],
        next_cursor=None if more is None else f"{more.received_at}.{more.id}",
    )


@router.get("/events/{id}", summary="Show a webhook")
def get_webhook_event(id: EventId, money: MoneyDep) -> WebhookEventWhole:
    """With the body as it came. What is applied is not this, but what the provider says of the object at that time."""
    return WebhookEventWhole.whole(_inbox(money).get(id))


@router.post("/replay", summary="Apply all dead webhooks once more")
def replay_webhook_events(sent: ReplaySent, money: MoneyDep) -> Replayed:
    """Make them pending again, from the first attempt: after what made them fail is mended."""
    return Replayed(replayed=_inbox(money).replay_dead())


@router.post("/events/{id}/replay", summary="Apply a webhook once more", responses=documented(409))
def replay_webhook_event(id: EventId, money: MoneyDep) -> WebhookEventShown:
    """Make it pending again, whatever became of it. One of the other mode is refused."""
    return WebhookEventShown.of(_inbox(money).replay(id))


def _inbox(money: MoneyServices) -> Inbox:
    assert money.inbox is not None
    return money.inbox


def _before(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    at, _, id = cursor.partition(".")
    if not at.isdecimal() or not at.isascii() or len(at) > 19 or int(at) > _LATEST or not id or "\0" in id:
        raise InvalidRequest("query.cursor: expected the next_cursor of a page.", field="query.cursor")
    return int(at), id
