"""`/v1/customers`: who is billed, their members, the plan they are on, and what was agreed beyond it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict, Field

from tollkeeper.core.customers import Environment, Member, Subscription, SubscriptionStatus
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.plans import Quota, RateLimit
from tollkeeper.services.customers import CustomerRecord
from tollkeeper.web.api.shapes import EnvironmentName, Instant, Listed, PageQuery, Sent, Shown
from tollkeeper.web.errors import documented
from tollkeeper.web.routes import AdminRoute, CustomersDep

router = APIRouter(prefix="/v1/customers", tags=["Customers"], route_class=AdminRoute)

CustomerId = Annotated[str, Path(description="The customer's id.", examples=["cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"])]
InEnvironment = Annotated[EnvironmentName, Query()]


class SubscriptionShown(Shown):
    """The contract in one environment. Periods are counted from `anchor`, in `zone`."""

    id: str = Field(examples=["sub_01JD3V5E6QN8Z4V9W1T7B2X3YB"])
    environment: EnvironmentName
    plan: str = Field(examples=["pro"])
    plan_version: int = Field(examples=[1])
    status: SubscriptionStatus
    anchor: Instant
    zone: str = Field(examples=["UTC"])
    started_at: Instant
    ended_at: Instant | None = Field(examples=[None])

    @classmethod
    def of(cls, subscription: Subscription) -> SubscriptionShown:
        return cls(
            id=subscription.id,
            environment=subscription.environment,
            plan=subscription.plan,
            plan_version=subscription.plan_version,
            status=subscription.status,
            anchor=subscription.anchor,
            zone=subscription.zone,
            started_at=subscription.started_at,
            ended_at=subscription.ended_at,
        )


class CustomerShown(Shown):
    """A customer. `plan` is the live one; `subscriptions` are those that have not ended, live first."""

    id: str = Field(examples=["cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    name: str = Field(examples=["Ada Ltd"])
    email: str | None = Field(examples=["ada@example.com"])
    plan: str | None = Field(examples=["pro"])
    plan_version: int | None = Field(examples=[1])
    currency: str = Field(examples=["usd"])
    zone: str = Field(examples=["UTC"])
    created_at: Instant
    subscriptions: list[SubscriptionShown]

    @classmethod
    def of(cls, record: CustomerRecord) -> CustomerShown:
        live = record.subscription("live")
        return cls(
            id=record.customer.id,
            name=record.customer.name,
            email=record.customer.email,
            plan=live.plan if live else None,
            plan_version=live.plan_version if live else None,
            currency=record.customer.currency,
            zone=record.customer.zone,
            created_at=record.customer.created_at,
            subscriptions=[SubscriptionShown.of(subscription) for subscription in record.subscriptions],
        )


class NewCustomer(Sent):
    """A customer to be. With an `id` of your own, sending the same again returns the customer that is there."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "Ada Ltd", "email": "ada@example.com", "plan": "pro", "zone": "Europe/Berlin"}]
        }
    )

    id: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.:@-]{1,64}$", description="An id of your own; null makes one.", examples=[None]
    )
    name: str = Field(min_length=1, max_length=200, examples=["Ada Ltd"])
    email: str | None = Field(
        None, max_length=254, description="Becomes the first member.", examples=["ada@example.com"]
    )
    plan: str | None = Field(
        None, max_length=64, description="A plan of the catalog; null buys nothing.", examples=["pro"]
    )
    currency: str | None = Field(
        None, pattern=r"^[a-z]{3}$", description="Fixed for good; null takes the catalog's.", examples=["usd"]
    )
    zone: str = Field(
        "UTC", max_length=64, description="IANA zone in which periods are counted.", examples=["Europe/Berlin"]
    )


class CustomerChange(Sent):
    """What to change; what is left out stays. The currency is fixed, the plan moves by `POST …/plan`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "billing@example.com"}]})

    name: str | None = Field(None, min_length=1, max_length=200, examples=["Ada and Co."])
    email: str | None = Field(None, max_length=254, description="null removes it.", examples=["billing@example.com"])
    zone: str | None = Field(
        None, max_length=64, description="For display; running periods keep theirs.", examples=["Europe/Berlin"]
    )


class Move(Sent):
    """The plan to move to; `version` null is the one on offer, `environment` null both."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"plan": "pro"}]})

    plan: str = Field(max_length=64, examples=["pro"])
    version: int | None = Field(None, ge=1, lt=2**31, examples=[None])
    environment: EnvironmentName | None = Field(None, examples=[None])


class MemberShown(Shown):
    """A person of a customer."""

    id: str = Field(examples=["mem_01JD3V5E6QN8Z4V9W1T7B2X3YC"])
    customer: str = Field(examples=["cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    email: str = Field(examples=["ada@example.com"])
    name: str = Field(examples=["Ada"])
    created_at: Instant

    @classmethod
    def of(cls, member: Member) -> MemberShown:
        return cls(
            id=member.id, customer=member.customer, email=member.email, name=member.name, created_at=member.created_at
        )


class NewMember(Sent):
    """A person to add, known by e-mail."""

    email: str = Field(min_length=3, max_length=254, examples=["grace@example.com"])
    name: str = Field("", max_length=200, examples=["Grace"])


class LimitTerms(Sent):
    """At most `limit` requests in `window_seconds`; `meter` null counts every request."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"limit": 100, "window_seconds": 1}]})

    limit: int = Field(ge=1, le=10**9, examples=[100])
    window_seconds: int = Field(ge=1, le=31 * 86_400, examples=[1])
    meter: str | None = Field(None, max_length=64, examples=[None])
    per: Literal["key", "customer"] = "customer"


class LimitShown(Shown):
    """A rate limit agreed with one customer; it replaces the plan's of the same name."""

    name: str = Field(examples=["burst"])
    limit: int = Field(examples=[100])
    window_seconds: int = Field(examples=[1])
    meter: str | None = Field(examples=[None])
    per: Literal["key", "customer"]

    @classmethod
    def of(cls, limit: RateLimit) -> LimitShown:
        return cls(
            name=limit.name, limit=limit.limit, window_seconds=limit.window_seconds, meter=limit.meter, per=limit.per
        )


class QuotaTerms(Sent):
    """The allowance of a meter per period: `hard` blocks at the limit, `soft` bills what is above."""

    limit: str = Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,9})?$", description="A decimal.", examples=["50000"])
    kind: Literal["hard", "soft"]


class QuotaShown(Shown):
    """A quota agreed with one customer; it replaces the plan's of the same meter."""

    meter: str = Field(examples=["api_calls"])
    limit: str = Field(examples=["50000"])
    kind: Literal["hard", "soft"]

    @classmethod
    def of(cls, quota: Quota) -> QuotaShown:
        return cls(meter=quota.meter, limit=format_quantity(quota.limit), kind=quota.kind)


class Overrides(Shown):
    """What was agreed with one customer beyond the plan, in one environment."""

    limits: list[LimitShown]
    quotas: list[QuotaShown]


@router.get("", summary="List customers")
def list_customers(page: Annotated[PageQuery, Query()], customers: CustomersDep) -> Listed[CustomerShown]:
    """Ordered by id; ids that Tollkeeper gave sort by the time they were made."""
    found = customers.list(page.cursor, page.limit)
    return Listed(data=[CustomerShown.of(record) for record in found.items], next_cursor=found.next)


@router.post(
    "", status_code=201, summary="Create a customer", responses=documented(409, "currency_invalid", "zone_invalid")
)
def create_customer(sent: NewCustomer, customers: CustomersDep) -> CustomerShown:
    """A customer, a first member when `email` is given, and a subscription to `plan` in live and in test."""
    return CustomerShown.of(customers.create(sent.id, sent.name, sent.email, sent.plan, sent.currency, sent.zone))


@router.get("/{customer}", summary="Get a customer")
def get_customer(customer: CustomerId, customers: CustomersDep) -> CustomerShown:
    return CustomerShown.of(customers.get(customer))


@router.patch("/{customer}", summary="Change a customer", responses=documented("zone_invalid"))
def change_customer(customer: CustomerId, sent: CustomerChange, customers: CustomersDep) -> CustomerShown:
    return CustomerShown.of(customers.change(customer, **sent.model_dump(exclude_unset=True)))


@router.post("/{customer}/plan", summary="Move a customer to a plan", responses=documented(409))
def move_customer(customer: CustomerId, sent: Move, customers: CustomersDep) -> CustomerShown:
    """The running period stays as it is: what was used in it counts against the new quotas."""
    return CustomerShown.of(customers.move(customer, sent.plan, sent.version, sent.environment))


@router.get("/{customer}/subscriptions", summary="List a customer's subscriptions")
def list_subscriptions(customer: CustomerId, customers: CustomersDep) -> list[SubscriptionShown]:
    """Every subscription there was, oldest first, ended ones too."""
    return [SubscriptionShown.of(subscription) for subscription in customers.history(customer)]


@router.get("/{customer}/members", summary="List members")
def list_members(customer: CustomerId, customers: CustomersDep) -> list[MemberShown]:
    return [MemberShown.of(member) for member in customers.members(customer)]


@router.post("/{customer}/members", status_code=201, summary="Add a member")
def add_member(customer: CustomerId, sent: NewMember, customers: CustomersDep) -> MemberShown:
    """Adding an address again returns the member that is there."""
    return MemberShown.of(customers.add_member(customer, sent.email, sent.name))


@router.delete("/{customer}/members/{member}", status_code=204, summary="Remove a member")
def remove_member(
    customer: CustomerId,
    member: Annotated[str, Path(description="The member's id.", examples=["mem_01JD3V5E6QN8Z4V9W1T7B2X3YC"])],
    customers: CustomersDep,
) -> None:
    customers.remove_member(customer, member)


@router.get("/{customer}/overrides", summary="List overrides")
def list_overrides(customer: CustomerId, customers: CustomersDep, environment: InEnvironment = "live") -> Overrides:
    return _overrides(customers, customer, environment)


@router.put("/{customer}/overrides/limits/{name}", summary="Set a limit for one customer")
def set_limit(
    customer: CustomerId,
    name: Annotated[str, Path(description="The limit's name, as in the plan.", examples=["burst"])],
    sent: LimitTerms,
    customers: CustomersDep,
    environment: InEnvironment = "live",
) -> Overrides:
    """Replaces the plan's limit of this name for this customer, or adds one. Takes effect at once."""
    customers.set_limit(customer, environment, RateLimit(name, sent.limit, sent.window_seconds, sent.meter, sent.per))
    return _overrides(customers, customer, environment)


@router.delete("/{customer}/overrides/limits/{name}", status_code=204, summary="Back to the plan's limit")
def remove_limit(
    customer: CustomerId,
    name: Annotated[str, Path(description="The limit's name.", examples=["burst"])],
    customers: CustomersDep,
    environment: InEnvironment = "live",
) -> None:
    customers.remove_limit(customer, environment, name)


@router.put(
    "/{customer}/overrides/quotas/{meter}",
    summary="Set a quota for one customer",
    responses=documented("quantity_invalid"),
)
def set_quota(
    customer: CustomerId,
    meter: Annotated[str, Path(description="The meter's key.", examples=["api_calls"])],
    sent: QuotaTerms,
    customers: CustomersDep,
    environment: InEnvironment = "live",
) -> Overrides:
    """Replaces the plan's quota of this meter for this customer, or adds one. Takes effect at once."""
    customers.set_quota(customer, environment, Quota(meter, Decimal(sent.limit), sent.kind))
    return _overrides(customers, customer, environment)


@router.delete("/{customer}/overrides/quotas/{meter}", status_code=204, summary="Back to the plan's quota")
def remove_quota(
    customer: CustomerId,
    meter: Annotated[str, Path(description="The meter's key.", examples=["api_calls"])],
    customers: CustomersDep,
    environment: InEnvironment = "live",
) -> None:
    customers.remove_quota(customer, environment, meter)


def _overrides(customers: CustomersDep, customer: str, environment: Environment) -> Overrides:
    limits, quotas = customers.overrides(customer, environment)
    return Overrides(
        limits=[LimitShown.of(limit) for limit in limits], quotas=[QuotaShown.of(quota) for quota in quotas]
    )
