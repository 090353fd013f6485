"""`/v1/outbox`: what is owed to the payment provider, and what became of it; `/v1/drift`: whether the provider has what the ledger has."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field

from tollkeeper.core.billing import Adjustment, AdjustmentState
from tollkeeper.core.drift import DriftState
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.outbox import OutboxMessage, Status
from tollkeeper.core.provider import ProviderMissing
from tollkeeper.services.drift import Drift, Drifted
from tollkeeper.services.outbox import Outbox
from tollkeeper.web.api.shapes import EnvironmentName, Instant, Listed, Sent, Shown
from tollkeeper.web.api.shapes import Query as Parameters
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, MoneyDep, MoneyServices

router = APIRouter(prefix="/v1", tags=["Outbox"], route_class=AdminRoute)

MessageId = Annotated[str, Path(description="Id of the message.", examples=["out_01JD3V5E6QN8Z4V9W1T7B2X3YA"])]


class OutboxQuery(Parameters):
    """Which messages."""

    status: Status | None = Field(None, description="Only these.")
    topic: str | None = Field(None, max_length=40, description="Only these: `meter_event` or `invoice_line`.")
    cursor: str | None = Field(None, min_length=1, max_length=64, description="`next_cursor` of the page before.")
    limit: int = Field(50, ge=1, le=100, description="How many at most.")


class OutboxMessageShown(Shown):
    """One message. `identifier` is what the provider knows it by; it was fixed before anything was sent."""

    id: str = Field(examples=["out_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    environment: EnvironmentName
    topic: str = Field(examples=["meter_event"])
    identifier: str
    status: Status
    attempts: int
    customer: str | None
    meter: str | None = Field(examples=["api_calls"])
    period_start: Instant | None
    quantity: str | None = Field(description="Usage, signed.", examples=["12.5"])
    error: str | None = Field(description="Why the last attempt did not come through.", examples=[None])
    created_at: Instant
    due_at: Instant = Field(description="When it is tried or looked into next.")
    last_attempt_at: Instant | None
    settled_at: Instant | None
    payload: dict[str, Any] = Field(description="What is sent, and for which sequences of the usage log.")

    @classmethod
    def of(cls, message: OutboxMessage) -> OutboxMessageShown:
        names = set(cls.model_fields) - {"quantity", "payload"}
        return cls(
            **{name: getattr(message, name) for name in names},
            quantity=_text(message.quantity),
            payload=dict(message.payload),
        )


class DriftQuery(Parameters):
    """Which comparisons."""

    customer: str | None = Field(None, min_length=1, max_length=200, description="Of one customer.")
    all: bool = Field(False, description="Also those where both sides are equal.")


class AdjustmentShown(Shown):
    """A signed amount that goes on an invoice by itself, or that was given away."""

    id: str = Field(examples=["adj_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    customer: str
    meter: str | None
    price: str | None
    quantity: str | None
    amount: str = Field(examples=["-0.50"])
    currency: str = Field(examples=["usd"])
    state: AdjustmentState = Field(
        description="`pending`: on its way, or held while the contract is paused; `nothing`: it comes to no money; `voided`: it stood on "
        "`invoice`, which was voided; `written_off`: too little to be billed; `carried_forward`: voided, and billed by another since."
    )
    invoice: str | None = Field(description="The invoice that it stands on, as far as that is known.", examples=[None])
    reason: str

    @classmethod
    def of(cls, one: Adjustment) -> AdjustmentShown:
        plain = ("id", "customer", "meter", "price", "currency", "state", "invoice", "reason")
        values: dict[str, Any] = {name: getattr(one, name) for name in plain}
        return cls(**values, quantity=_text(one.quantity), amount=format(one.amount, "f"))


class DriftShown(Shown):
    """The last comparison of one customer, meter and period, or what was used between two contracts.

    Quantities are decimals; null where one is not known.
    """

    environment: EnvironmentName
    customer: str
    meter: str = Field(examples=["api_calls"])
    period_start: Instant
    period_end: Instant = Field(description="The end of the usage that was compared.")
    ledger: str = Field(description="What the usage log comes to.", examples=["1200"])
    reported: str = Field(description="What was put into the outbox of it.", examples=["1200"])
    provider: str | None = Field(description="What the provider's meter has.", examples=["1195"])
    invoiced: str | None = Field(description="What the finalised invoice has.", examples=[None])
    difference: str | None = Field(description="What the provider is short of.", examples=["5"])
    state: DriftState
    explanation: str = Field(examples=["5 rejected by the provider or put aside"])
    alarming: bool = Field(description="Above 5 %, or unexplained after settlement.")
    checked_at: Instant
    messages: list[OutboxMessageShown] = Field(description="The newest reports of the period.")
    adjustments: list[AdjustmentShown] = Field(description="What was billed of it by itself, or given away.")

    @classmethod
    def of(cls, one: Drifted) -> DriftShown:
        check = one.check
        plain = ("environment", "customer", "meter", "period_start", "period_end", "state", "explanation", "checked_at")
        numbers = ("ledger", "reported", "provider", "invoiced", "difference")
        values: dict[str, Any] = {name: getattr(check, name) for name in plain}
        values |= {name: _text(getattr(check, name)) for name in numbers}
        return cls(
            **values,
            alarming=one.alarming,
            messages=[OutboxMessageShown.of(message) for message in one.messages],
            adjustments=[AdjustmentShown.of(adjustment) for adjustment in one.adjustments],
        )


class DriftAnswer(Shown):
    """Comparisons; `alarming` when one of them is."""

    alarming: bool
    data: list[DriftShown]


class RepairSent(Sent):
    """What to repair."""

    customer: str | None = Field(None, description="Of one customer; null: of all.")
    voided: bool = Field(False, description="Bill what stood on invoices that were voided, too.")


class Repaired(Shown):
    """What was written for it."""

    data: list[AdjustmentShown]


@router.get("/outbox", summary="List messages of the outbox")
def list_outbox(query: Annotated[OutboxQuery, Query()], money: MoneyDep) -> Listed[OutboxMessageShown]:
    """Newest first."""
    found = _outbox(money).list(query.status, query.topic, query.cursor, query.limit + 1)
    more = found[query.limit - 1] if len(found) > query.limit else None
    return Listed(
        data=[OutboxMessageShown.of(message) for message in found[: query.limit]],
        next_cursor=None if more is None else more.id,
    )


@router.get("/outbox/{id}", summary="Show a message of the outbox")
def get_outbox_message(id: MessageId, money: MoneyDep) -> OutboxMessageShown:
    """What is owed, and what became of it."""
    return OutboxMessageShown.of(_outbox(money).get(id))


@router.post("/outbox/{id}/replay", summary="Send a message once more", responses=documented(409))
def replay_outbox_message(id: MessageId, money: MoneyDep) -> OutboxMessageShown:
    """One that was put aside (`dead`), or usage that the provider rejected; the latter as a new message, which is answered."""
    return OutboxMessageShown.of(_outbox(money).replay(id))


@router.get("/drift", summary="Compare ledger and provider", responses=documented(409))
def get_drift(query: Annotated[DriftQuery, Query()], money: MoneyDep) -> DriftAnswer:
    """The last comparisons, made all the time in the background."""
    return _told(_drift(money), query.customer, query.all)


@router.post("/drift/check", summary="Compare ledger and provider now", responses=documented(409))
def check_drift(query: Annotated[DriftQuery, Query()], money: MoneyDep) -> DriftAnswer:
    """Ask the provider for what it has of every period that is not settled, then answer as `GET /v1/drift`."""
    drift = _drift(money)
    drift.check_all()
    return _told(drift, query.customer, query.all)


@router.post("/drift/repair", summary="Repair drift by adjustments", responses=documented(409))
def repair_drift(sent: RepairSent, money: MoneyDep) -> Repaired:
    """Bill what the provider is short of, and give back what it has too much; only where nothing is on its way or in doubt.

    What stood on voided invoices is billed only if `voided` says so.
    """
    made = _drift(money).repair(sent.customer, voided=sent.voided)
    return Repaired(data=[AdjustmentShown.of(one) for one in made])


class Resumed(Shown):
    """From which sequence of the usage log reports go on."""

    seq: int


@router.post("/drift/resume", summary="Go on reporting after an older log was restored", responses=documented(409))
def resume_reports(money: MoneyDep) -> Resumed:
    """Reports stop when the usage log ends before what was reported. This says that the log is right: every period is looked at anew."""
    if money.reports is None:
        raise ProviderMissing
    return Resumed(seq=money.reports.resume())


def _told(drift: Drift, customer: str | None, everything: bool) -> DriftAnswer:
    found = drift.told(customer, not everything)
    return DriftAnswer(alarming=any(one.alarming for one in found), data=[DriftShown.of(one) for one in found])


def _outbox(money: MoneyServices) -> Outbox:
    assert money.outbox is not None
    return money.outbox


def _drift(money: MoneyServices) -> Drift:
    if money.drift is None:
        raise ProviderMissing
    return money.drift


def _text(quantity: Decimal | None) -> str | None:
    return None if quantity is None else format_quantity(quantity)
