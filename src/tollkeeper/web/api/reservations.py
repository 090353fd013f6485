"""`/v1/reservations`: what a check with `reserve` took is committed with what was used, or released."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field

from tollkeeper.core.errors import TollkeeperError
from tollkeeper.services import reservations as services
from tollkeeper.services.reservations import Committed, Released
from tollkeeper.web.api.shapes import Sent, Shown
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import CallerDep, CheckRoute, ReservationsDep

router = APIRouter(prefix="/v1/reservations", tags=["Gate"], route_class=CheckRoute)

Token = Annotated[
    str, Path(description="`reservation` of the check's answer.", examples=["rsv_mUJ0…"], max_length=2048)
]


class Used(Sent):
    """What the work came to."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"quantity": "1250"}]})

    quantity: str | int | None = Field(
        None,
        description="A decimal, 0 or more, also more than was reserved; null is what was reserved.",
        examples=["1250"],
    )


class CommittedShown(Shown):
    """A commit. `duplicate`: this very commit had been made before, and counts once."""

    status: Literal["accepted", "duplicate"]
    event_id: str = Field(description="The usage event.", examples=["01JD3V5E6QN8Z4V9W1T7B2X3YF"])
    customer: str = Field(examples=["cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    meter: str = Field(examples=["tokens"])
    reserved: str = Field(examples=["2000"])
    quantity: str = Field(examples=["1250"])

    @classmethod
    def of(cls, made: Committed) -> CommittedShown:
        return cls(
            status=made.status,
            event_id=made.event_id,
            customer=made.customer,
            meter=made.meter,
            reserved=made.reserved,
            quantity=made.quantity,
        )


class ReleasedShown(Shown):
    """A release. `released` is 0 when nothing was held any more: committed, released or lapsed before."""

    customer: str = Field(examples=["cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    meter: str = Field(examples=["tokens"])
    reserved: str = Field(examples=["2000"])
    released: str = Field(examples=["2000"])

    @classmethod
    def of(cls, made: Released) -> ReleasedShown:
        return cls(customer=made.customer, meter=made.meter, reserved=made.reserved, released=made.released)


class Call(Sent):
    """A reserved call, and how it ended."""

    reservation: str = Field(max_length=2048, examples=["rsv_mUJ0…"])
    status: int = Field(ge=100, le=999, description="The HTTP status it was answered with.", examples=[200])
    call: str | None = Field(
        None,
        pattern="^[0-9a-f]{32}$",
        description="Which call it was, where `reservation` is a pass that a gateway kept: nginx's `$request_id`.",
        examples=[None],
    )


class Calls(Sent):
    """Reserved calls, as an access log tells them."""

    data: list[Call] = Field(max_length=10_000)


class Unsettled(Shown):
    """A call that was not settled, and why."""

    index: int = Field(examples=[0])
    code: str = Field(examples=["invalid_request"])
    detail: str


class Settled(Shown):
    """How many were committed, released, or had been settled before; and those that could not be."""

    committed: int = Field(examples=[1])
    released: int = Field(description="Given back. A failed call by a pass is told so each time.", examples=[0])
    before: int = Field(description="Committed, released or lapsed before.", examples=[0])
    rejected: list[Unsettled]


@router.post("/settle", summary="Settle reserved calls", responses=documented(503))
def settle_reservations(sent: Calls, caller: CallerDep, reservations: ReservationsDep) -> Settled:
    """Commits what was reserved for calls answered 2xx, releases the others. Sending the same calls again is safe."""
    calls = [services.Call(call.reservation, 200 <= call.status < 300, call.call) for call in sent.data]
    committed = released = before = 0
    rejected = []
    for index, answer in enumerate(reservations.settle(calls, caller.environment)):
        if isinstance(answer, TollkeeperError):
            rejected.append(Unsettled(index=index, code=answer.code, detail=answer.detail))
        elif isinstance(answer, Committed):
            committed += answer.status == "accepted"
            before += answer.status == "duplicate"
        else:
            released += answer.released != "0"
            before += answer.released == "0"
    return Settled(committed=committed, released=released, before=before, rejected=rejected)


@router.post("/{token}/commit", summary="Commit a reservation", responses=documented("quantity_invalid", 404, 409, 503))
def commit_reservation(token: Token, sent: Used, caller: CallerDep, reservations: ReservationsDep) -> CommittedShown:
    """Counts what was used in the place of what was held; the answer comes after the usage event is on the disk.

    Always counts: after a restart, after an hour when what was held is free again, after a release, above the reserve. Repeating it
    with the same quantity is safe. The event bears the time of the reservation: the period that admitted it pays for it.
    """
    return CommittedShown.of(reservations.commit(token, sent.quantity, caller.environment))


@router.post("/{token}/release", summary="Release a reservation", responses=documented(404))
def release_reservation(token: Token, caller: CallerDep, reservations: ReservationsDep) -> ReleasedShown:
    """Gives back what is held, when nothing was used. Repeating it is safe."""
    return ReleasedShown.of(reservations.release(token, caller.environment))
