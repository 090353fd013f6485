"""`/v1/corrections`: events voided or amended, tried first; and the trail of what was."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict, Field, model_validator

from tollkeeper.core.corrections import Correction, PeriodChange, Selection
from tollkeeper.core.customers import Environment
from tollkeeper.core.events import GATE_SOURCE
from tollkeeper.core.ids import ulid_value
from tollkeeper.services.corrections import AT_ONCE, Asked
from tollkeeper.web.api.shapes import EnvironmentName, Instant, SentInstant, Shown
from tollkeeper.web.api.shapes import Query as Parameters
from tollkeeper.web.api.shapes import Sent as Body
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, CorrectionsDep

router = APIRouter(prefix="/v1/corrections", tags=["Events"], route_class=AdminRoute)

Name = Annotated[str | None, Field(min_length=1, max_length=256)]


class EventNamed(Body):
    """One event, as `/v1/events/log` names it."""

    source: Name = Field(
        None,
        description="`default` when left out, or the gate's own for an id such as `evt_…`.",
        examples=["billing-worker"],
    )
    id: str = Field(min_length=1, max_length=256, examples=["evt_01JD3V5E6QN8Z4V9W1T7B2X3YD"])


class RangeSent(Body):
    """Events by their time, narrowed by whatever else is given. Of those that are in the log when it is sent."""

    model_config = ConfigDict(populate_by_name=True)

    start: SentInstant = Field(alias="from", description="RFC 3339.")
    end: SentInstant = Field(alias="to", description="Not included.")
    customer: Name = None
    subject: Name = None
    type: Name = None
    meter: Name = Field(None, description="Events that this meter counts.")
    source: Name = None


class CorrectionSent(Body):
    """What to correct, and why. Exactly one of `event` and `range`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "action": "void",
                    "event": {"source": "billing-worker", "id": "job-7731"},
                    "reason": "the job failed after it was counted",
                    "author": "ada@example.com",
                    "dry_run": False,
                }
            ]
        }
    )

    id: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Yours, so that it may be sent again: it changes nothing twice. Made otherwise.",
        examples=["2026-11-21-refund-acme"],
    )
    action: Literal["void", "amend"]
    environment: Environment = Field("live", description="`live` or `test`.")
    event: EventNamed | None = None
    range: RangeSent | None = None
    data: dict[str, Any] | None = Field(
        None, description="For amend: what counts in the place of the `data` that was sent.", examples=[{"tokens": 125}]
    )
    reason: str = Field(min_length=1, max_length=1000, description="Why; it stays in the trail.")
    author: str = Field(min_length=1, max_length=256, description="Who; it stays in the trail.")
    dry_run: bool = Field(True, description="Tell what would change, and change nothing.")

    @model_validator(mode="after")
    def _check(self) -> CorrectionSent:
        if (self.event is None) is (self.range is None):
            raise ValueError("send either event or range")
        if (self.data is None) is not (self.action == "void"):
            raise ValueError("amend needs data, and void takes none")
        if self.range is not None and self.range.start >= self.range.end:
            raise ValueError("range.from is not before range.to")
        return self

    def asked(self) -> Asked:
        if self.range is not None:
            given = self.range
            selection = Selection(
                None, given.source, given.start, given.end, given.customer, given.subject, given.type, given.meter
            )
        else:
            assert self.event is not None
            id, source = self.event.id, self.event.source
            made_here = id.startswith("evt_") and ulid_value(id[4:]) is not None
            selection = Selection(id, source or (GATE_SOURCE if made_here else "default"))
        return Asked(self.action, self.environment, selection, self.reason, self.author, self.data, self.id)


class EventNamedShown(Shown):
    """One event."""

    source: str = Field(examples=["billing-worker"])
    id: str = Field(examples=["job-7731"])


class RangeShown(Shown):
    """Events by their time, and whatever narrowed them."""

    start: Instant = Field(serialization_alias="from")
    end: Instant = Field(serialization_alias="to")
    customer: str | None
    subject: str | None
    type: str | None
    meter: str | None
    source: str | None


class PeriodChangeShown(Shown):
    """One meter of one customer in one period. Null where there is no value; `events`: how many more it counts."""

    customer: str = Field(examples=["acme"])
    meter: str = Field(examples=["tokens"])
    start: Instant
    end: Instant
    before: str | None = Field(examples=["1250"])
    after: str | None = Field(examples=["125"])
    difference: str | None = Field(examples=["-1125"])
    events: int = Field(examples=[0])

    @classmethod
    def of(cls, one: PeriodChange) -> PeriodChangeShown:
        return cls(**one._asdict())


class CorrectionShown(Shown):
    """A correction. `changes` are as reckoned when it was asked for; the trail keeps the first 1,000."""

    id: str = Field(examples=["cor_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    state: Literal["dry_run", "applying", "applied"] = Field(
        description="`applying`: it goes on in the background, or at once when it is sent again with its id."
    )
    action: Literal["void", "amend"]
    environment: EnvironmentName
    event: EventNamedShown | None
    range: RangeShown | None
    data: dict[str, Any] | None
    reason: str
    author: str
    made_at: Instant
    applied_at: Instant | None
    events: int = Field(description="Corrected so far; in a dry run, that would be.", examples=[1])
    skipped: int = Field(description="Left as they were: voided before, or amended to the same.", examples=[0])
    changes: list[PeriodChangeShown]

    @classmethod
    def of(cls, made: Correction) -> CorrectionShown:
        one = made.selection
        state: Literal["dry_run", "applying", "applied"] = "dry_run"
        if made.number:
            state = "applying" if made.applied_at is None else "applied"
        return cls(
            id=made.id,
            state=state,
            action=made.action,
            environment="test" if made.environment == "test" else "live",
            event=None if one.id is None else EventNamedShown(source=str(one.source), id=one.id),
            range=None
            if one.id is not None
            else RangeShown(
                start=one.start,
                end=one.end,
                customer=one.customer,
                subject=one.subject,
                type=one.type,
                meter=one.meter,
                source=one.source,
            ),
            data=None,
            reason=made.reason,
            author=made.author,
            made_at=made.made_at,
            applied_at=made.applied_at,
            events=made.events,
            skipped=made.skipped,
            changes=[PeriodChangeShown.of(change) for change in made.changes],
        )


def _shown(made: Correction) -> dict[str, Any]:
    """As JSON; numbers in `data` stand as they are kept."""
    data = None if made.data is None else msgspec.Raw(made.data.encode())
    return {**CorrectionShown.of(made).model_dump(mode="json", by_alias=True), "data": data}


def _answer(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


class TrailQuery(Parameters):
    """Which part of the trail."""

    cursor: int | None = Field(None, ge=1, lt=2**63, description="`next_cursor` of the page before.")
    limit: int = Field(50, ge=1, le=100, description="How many at most.")
    environment: Environment = Field("live", description="`live` or `test`.")


class CorrectionsPage(Shown):
    """`next_cursor` null: the end."""

    data: list[CorrectionShown]
    next_cursor: int | None = Field(examples=[None])


@router.post(
    "",
    summary="Void or amend events",
    response_model=CorrectionShown,
    responses=documented("quantity_invalid", "value_invalid", 404, "event_voided", "event_compacted", 413, 503),
)
def correct_events(sent: CorrectionSent, corrections: CorrectionsDep) -> Response:
    """Tells what would change; with `dry_run` false, changes it. The answer comes after it is on the disk.

    A voided event counts no more; an amended one counts by other `data`. Both stay in the log, and their ids stay taken. Time, type,
    customer and subject cannot be amended: void the event, and send another. Of a range, the first 5,000 events are corrected before
    the answer.
    """
    asked = sent.asked()
    if sent.dry_run:
        return _answer(_shown(corrections.preview(asked)))
    return _answer(_shown(corrections.correct(asked, AT_ONCE)))


@router.get("", summary="List corrections", response_model=CorrectionsPage)
def list_corrections(query: Annotated[TrailQuery, Query()], corrections: CorrectionsDep) -> Response:
    """What was voided and amended, by whom and why; the newest first."""
    found = corrections.list(query.environment, query.cursor, query.limit)
    following = found[-1].number if len(found) == query.limit else None
    return _answer({"data": [_shown(one) for one in found], "next_cursor": following})
