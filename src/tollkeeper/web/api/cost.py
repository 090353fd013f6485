"""`/v1/customers/{customer}/cost`: what a customer has cost so far."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from tollkeeper.core.catalog_form import price_to_dict
from tollkeeper.core.customers import Environment
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.plans import Price
from tollkeeper.services.rating import Cost, PriceCost, Total
from tollkeeper.web.api.customers import CustomerId
from tollkeeper.web.api.rate import EXAMPLE, LineShown
from tollkeeper.web.api.shapes import EnvironmentName, Instant, Shown
from tollkeeper.web.api.shapes import Query as Parameters
from tollkeeper.web.routes import CallerDep, RatingDep, UsageRoute

router = APIRouter(prefix="/v1/customers", tags=["Rating"], route_class=UsageRoute)


class CostQuery(Parameters):
    """Of what."""

    period: Literal["current"] = Field("current", description="The running one.")
    environment: Environment | None = Field(
        None, description="`live` when left out; a key's own environment for a key."
    )


class PriceCostShown(Shown):
    """One price in its running interval. An unknown is not a zero: where `state` is unknown, quantity and amounts are null."""

    key: str = Field(examples=["calls"])
    start: Instant
    end: Instant
    state: Literal["known", "unknown"]
    quantity: str | None = Field(description="What was used; null for a flat price too.", examples=["12345"])
    amount: str | None = Field(examples=["22.69"])
    exact_amount: str | None = Field(examples=["22.69"])
    lines: list[LineShown]
    price: dict[str, Any] = Field(
        description="As `/v1/rate` takes it.", examples=[{"key": "calls", **EXAMPLE["price"]}]
    )

    @classmethod
    def of(cls, cost: PriceCost) -> PriceCostShown:
        rated = cost.rated.as_dict() if cost.rated else {"amount": None, "exact_amount": None, "lines": []}
        return cls(
            key=cost.price.key,
            start=cost.start,
            end=cost.end,
            state=cost.state,
            quantity=_text(cost.quantity),
            amount=rated["amount"],
            exact_amount=rated["exact_amount"],
            lines=[LineShown(**line) for line in rated["lines"]],
            price=price_to_dict(cost.price),
        )


class TotalShown(Shown):
    """The prices of one currency in one interval; null as soon as one of them is unknown."""

    currency: str = Field(examples=["usd"])
    start: Instant
    end: Instant
    state: Literal["known", "unknown"]
    amount: str | None = Field(examples=["22.69"])
    exact_amount: str | None = Field(examples=["22.69"])

    @classmethod
    def of(cls, total: Total) -> TotalShown:
        return cls(
            currency=total.currency,
            start=total.start,
            end=total.end,
            state=total.state,
            amount=None if total.amount is None else format(total.amount, "f"),
            exact_amount=_text(total.exact_amount),
        )


class LeftOut(Shown):
    """A price of the plan in another currency than the customer's; it is not charged."""

    key: str = Field(examples=["calls_eur"])
    currency: str = Field(examples=["eur"])

    @classmethod
    def of(cls, price: Price) -> LeftOut:
        return cls(key=price.key, currency=price.currency)


class CostShown(Shown):
    """Cost to date. `start` and `end` are the running month; a yearly price has bounds and a total of its own."""

    customer: str = Field(examples=["cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    environment: EnvironmentName
    plan: str | None = Field(examples=["pro"])
    plan_version: int | None = Field(examples=[1])
    currency: str = Field(examples=["usd"])
    start: Instant
    end: Instant
    prices: list[PriceCostShown]
    totals: list[TotalShown]
    left_out: list[LeftOut] = Field(examples=[[]])

    @classmethod
    def of(cls, cost: Cost) -> CostShown:
        return cls(
            customer=cost.customer,
            environment=cost.environment,
            plan=cost.plan,
            plan_version=cost.plan_version,
            currency=cost.currency,
            start=cost.start,
            end=cost.end,
            prices=[PriceCostShown.of(price) for price in cost.prices],
            totals=[TotalShown.of(total) for total in cost.totals],
            left_out=[LeftOut.of(price) for price in cost.left_out],
        )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format_quantity(value)


@router.get("/{customer}/cost", summary="Cost to date")
def get_cost(
    customer: CustomerId, query: Annotated[CostQuery, Query()], rating: RatingDep, caller: CallerDep
) -> CostShown:
    """The usage of the running period at the prices of the plan version the customer is on, line by line; nothing is stored."""
    caller.customer_of(customer)
    return CostShown.of(rating.cost(customer, caller.environment_of(query.environment)))
