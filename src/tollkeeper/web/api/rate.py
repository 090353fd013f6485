"""`/v1/rate`: what a quantity costs at a price. Nothing is stored, nothing is looked up."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from tollkeeper.core.catalog_keys import MAX_DISCOUNTS, MAX_TIERS
from tollkeeper.core.rating import DIGITS, PLACES, Rated, rate
from tollkeeper.core.rating_read import read_question
from tollkeeper.web.api.shapes import Sent, Shown
from tollkeeper.web.routes import UsageRoute

router = APIRouter(prefix="/v1", tags=["Rating"], route_class=UsageRoute)

Money = Annotated[str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,12})?$", examples=["0.002"])]
Units = Annotated[str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,9})?$", examples=["1000"])]
CatalogKey = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]

EXAMPLE: dict[str, Any] = {
    "price": {
        "model": "graduated",
        "currency": "usd",
        "tiers": [{"up_to": "1000", "unit_amount": "0"}, {"up_to": "inf", "unit_amount": "0.002"}],
    },
    "quantity": "12345",
}


class TierSent(Sent):
    """A tier; the amounts are of one unit, and once for reaching it."""

    up_to: str = Field(
        pattern=r"^(inf|[0-9]{1,15}(\.[0-9]{1,9})?)$", description="The last unit, or `inf`.", examples=["1000"]
    )
    unit_amount: Money
    flat_amount: Money | None = Field(None, description="Charged once when the tier is reached.")


class DiscountSent(Sent):
    """One of both."""

    percent_off: str | None = Field(
        None, pattern=r"^[0-9]{1,3}(\.[0-9]{1,4})?$", description="Percent of what is left.", examples=["10"]
    )
    amount_off: Money | None = Field(None, description="An amount, as far as so much is left.")


class PriceSent(Sent):
    """A price as the catalog has it. What is null, or stands at its default, counts as left out, so a price of `/v1/catalog` fits."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE["price"]]})

    model: Literal["flat", "per_unit", "graduated", "volume", "package"] = Field(examples=["graduated"])
    currency: str = Field(pattern="^[a-z]{3}$", examples=["usd"])
    unit_amount: Money | None = Field(None, description="per_unit: the amount of one unit.")
    flat_amount: Money | None = Field(None, description="flat: the amount.")
    tiers: list[TierSent] | None = Field(None, max_length=MAX_TIERS, description="graduated, volume: ascending.")
    package_size: Units | None = Field(None, description="package: units in a package.")
    package_amount: Money | None = Field(None, description="package: the amount of one package.")
    package_round: Literal["up", "down"] | None = Field(None, description="Whether a begun package is charged; `up`.")
    included: Units | None = Field(None, description="Units that cost nothing, taken off before the model; `0`.")
    minimum: Money | None = Field(None, description="The least amount.")
    maximum: Money | None = Field(None, description="The most it can cost.")
    zero_usage_flat_fee: bool | None = Field(
        None, description="Whether the first tier's flat amount is charged without usage; true."
    )
    negative: Literal["clamp", "allow"] | None = Field(
        None, description="Whether usage below 0 counts as none or is credited; `clamp`."
    )
    past_last_tier: Literal["refuse", "last", "free"] | None = Field(
        None, description="What lies past a last tier that is not `inf`; `refuse`: no such tier is taken."
    )
    quantity_round: Literal["exact", "up", "down"] | None = Field(
        None, description="What becomes of a fraction of a unit before anything else; `exact`."
    )
    discounts: list[DiscountSent] | None = Field(None, max_length=MAX_DISCOUNTS, description="Taken in this order.")
    discount_order: Literal["last", "first"] | None = Field(
        None, description="Whether they are taken off after minimum and maximum, or before; `last`."
    )
    key: CatalogKey | None = Field(None, description="As in a catalog; of no account here.")
    meter: CatalogKey | None = Field(None, description="As in a catalog; of no account here.")
    interval: Literal["month", "year", "once"] | None = Field(None, description="As in a catalog; of no account here.")


class RateQuestion(Sent):
    """A price and how much of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    price: PriceSent
    quantity: str | None = Field(
        None,
        pattern=rf"^-?[0-9]{{1,{DIGITS}}}(\.[0-9]{{1,{PLACES}}})?$",
        description="A decimal. Every model needs it but `flat`.",
        examples=["12345"],
    )


class LineShown(Shown):
    """One component. `amount` is `quantity` × `unit_amount`, rounded half away from zero to the smallest unit of the currency."""

    kind: Literal["included", "tier", "flat", "package", "minimum", "maximum", "discount"] = Field(examples=["tier"])
    tier: int | None = Field(description="Place in the price's `tiers`, from 0; null: of none.", examples=[1])
    quantity: str = Field(description="Units; packages of a package line; else 1.", examples=["11345"])
    unit_amount: str = Field(examples=["0.002"])
    amount: str = Field(examples=["22.69"])


class RatedShown(Shown):
    """`amount` is the sum of the lines' amounts, `exact_amount` what it is before any rounding."""

    currency: str = Field(examples=["usd"])
    amount: str = Field(examples=["22.69"])
    exact_amount: str = Field(examples=["22.69"])
    lines: list[LineShown]

    @classmethod
    def of(cls, rated: Rated) -> RatedShown:
        told: dict[str, Any] = rated.as_dict()
        return cls(**{**told, "lines": [LineShown(**line) for line in told["lines"]]})


@router.post("/rate", summary="Rate a quantity")
def rate_quantity(sent: RateQuestion) -> RatedShown:
    """What the quantity costs, line by line; nothing is stored. Each model is worked out by hand in docs/rating.md."""
    return RatedShown.of(rate(*read_question(sent.price.model_dump(exclude_none=True), sent.quantity)))
