"""`/v1/customers/{customer}/subscription`: what was bought, and changing it at the payment provider."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from tollkeeper.core.customers import Environment
from tollkeeper.core.subscriptions import KnownSubscription
from tollkeeper.services.checkout import Standing
from tollkeeper.web.api.checkout import selling
from tollkeeper.web.api.customers import CustomerId, SubscriptionShown
from tollkeeper.web.api.shapes import EnvironmentName, Instant, Sent, Shown
from tollkeeper.web.api.stripe import FAILURES
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, CustomersDep, MoneyDep

router = APIRouter(prefix="/v1/customers", tags=["Selling"], route_class=AdminRoute)

When = Literal["now", "period_end"]


class BoughtShown(Shown):
    """The provider's subscription as it was last read. `status` is the provider's word."""

    id: str = Field(examples=["sub_1SXkT2"])
    provider: str = Field(examples=["stripe"])
    status: str = Field(examples=["active"])
    plan: str | None = Field(examples=["pro"])
    plan_version: int | None = Field(examples=[1])
    period_start: Instant
    period_end: Instant
    trial_end: Instant | None = Field(examples=[None])
    cancel_at: Instant | None = Field(description="It ends then.", examples=[None])
    ended_at: Instant | None = Field(examples=[None])
    paused: bool
    read_at: Instant

    @classmethod
    def of(cls, one: KnownSubscription) -> BoughtShown:
        return cls(
            id=one.id,
            provider=one.provider,
            status=one.status,
            plan=one.plan,
            plan_version=one.plan_version,
            period_start=one.period_start,
            period_end=one.period_end,
            trial_end=one.trial_end,
            cancel_at=one.cancel_at,
            ended_at=one.ended_at,
            paused=one.paused,
            read_at=one.read_at,
        )


class StandingShown(Shown):
    """What a customer has: `subscription` is what the gate goes by, `bought` what it follows from.

    Where nothing bought is running, `bought` is what ended last; null: nothing was ever bought at the provider.
    """

    environment: EnvironmentName
    subscription: SubscriptionShown | None
    grace_until: Instant | None = Field(description="A customer who did not pay may go on until then.", examples=[None])
    bought: BoughtShown | None

    @classmethod
    def of(cls, standing: Standing) -> StandingShown:
        ours, bought = standing.subscription, standing.bought or standing.ended
        return cls(
            environment=standing.environment,
            subscription=None if ours is None else SubscriptionShown.of(ours),
            grace_until=None if ours is None else ours.grace_until,
            bought=None if bought is None else BoughtShown.of(bought),
        )


class Change(Sent):
    """`when` null: at once when the plan costs more a month, at the end of the period when it costs less."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"plan": "max"}]})

    plan: str = Field(max_length=64, description="A plan on offer.", examples=["max"])
    when: When | None = Field(None, examples=[None])


class Cancel(Sent):
    """`now` invoices what was used up to now."""

    when: When = Field("period_end", examples=["period_end"])


@router.get("/{customer}/subscription", summary="Get what a customer has", responses=documented(404))
def get_subscription(
    customer: CustomerId,
    money: MoneyDep,
    customers: CustomersDep,
    environment: Annotated[Environment | None, Query()] = None,
) -> StandingShown:
    """Of the environment of the provider's account when none is named; without a provider, of `live`."""
    if money.checkouts is None:
        environment = environment or "live"
        return StandingShown.of(Standing(environment, customers.get(customer).subscription(environment), None))
    return StandingShown.of(money.checkouts.standing(customer, environment))


@router.post(
    "/{customer}/subscription/change", summary="Change the plan", responses={**FAILURES, **documented(404, 409)}
)
def change_subscription(customer: CustomerId, sent: Change, money: MoneyDep) -> StandingShown:
    """At once: what was used is invoiced, what was paid ahead is set against it, and a new period begins.

    What was used in the month of quota that is cut short counts against the new quotas.
    """
    return StandingShown.of(selling(money).change(customer, sent.plan, sent.when))


@router.post(
    "/{customer}/subscription/cancel",
    summary="Cancel a subscription",
    responses={**FAILURES, **documented(404, 409)},
)
def cancel_subscription(customer: CustomerId, sent: Cancel, money: MoneyDep) -> StandingShown:
    """Afterwards the catalog's `fallback` plan holds, or calls are refused."""
    return StandingShown.of(selling(money).cancel(customer, sent.when))


@router.post(
    "/{customer}/subscription/pause", summary="Pause a subscription", responses={**FAILURES, **documented(404, 409)}
)
def pause_subscription(customer: CustomerId, money: MoneyDep) -> StandingShown:
    """Nothing is charged, and no call passes, until it is resumed."""
    return StandingShown.of(selling(money).pause(customer))


@router.post(
    "/{customer}/subscription/resume", summary="Resume a subscription", responses={**FAILURES, **documented(404, 409)}
)
def resume_subscription(customer: CustomerId, money: MoneyDep) -> StandingShown:
    return StandingShown.of(selling(money).pause(customer, paused=False))
