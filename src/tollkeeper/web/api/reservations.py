"""`/v1/reservations`: what a check with `reserve` took is committed with what was used, or released."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field

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

    quantity: str | int = Field(description="A decimal, 0 or more; also more than was reserved.", examples=["1250"])


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
