"""Plans, prices, limits and quotas: versioned data, never code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

from tollkeeper.core.metering import Meter

DEFAULT_WEIGHT: Final = 50
DEFAULT_GRACE_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `limit` requests in `window_seconds`, as GCRA. `meter` None: every request of the customer's key counts."""

    name: str
    limit: int
    window_seconds: int
    meter: str | None = None
    per: Literal["key", "customer"] = "customer"


@dataclass(frozen=True, slots=True)
class Quota:
    """An allowance of a meter per billing period. `hard` blocks at the limit, `soft` bills the overage."""

    meter: str
    limit: Decimal
    kind: Literal["hard", "soft"]


@dataclass(frozen=True, slots=True)
class Tier:
    """`up_to` None means infinity. Amounts are decimal strings turned exact, in major units of the currency."""

    up_to: Decimal | None
    unit_amount: Decimal
    flat_amount: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Discount:
    """One of both: a percentage of what is left, or an amount that is taken off as far as there is something left."""

    percent_off: Decimal | None = None
    amount_off: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """One price of a plan; the shape of `POST /v1/rate`, plus its key, meter and interval."""

    key: str
    model: Literal["flat", "per_unit", "graduated", "volume", "package"]
    currency: str
    meter: str | None = None
    interval: Literal["month", "year", "once"] = "month"
    unit_amount: Decimal | None = None
    flat_amount: Decimal | None = None
    tiers: tuple[Tier, ...] = ()
    package_size: Decimal | None = None
    package_amount: Decimal | None = None
    package_round: Literal["up", "down"] = "up"
    included: Decimal = Decimal(0)
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    zero_usage_flat_fee: bool = True
    negative: Literal["clamp", "allow"] = "clamp"
    past_last_tier: Literal["refuse", "last", "free"] = "refuse"
    quantity_round: Literal["exact", "up", "down"] = "exact"
    discounts: tuple[Discount, ...] = ()
    discount_order: Literal["last", "first"] = "last"


@dataclass(frozen=True, slots=True)
class Feature:
    """What a plan lets a customer do. A plan grants `True` (boolean) or a value (static); metered features are quotas."""

    key: str
    kind: Literal["boolean", "static", "metered"]
    meter: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    key: str
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """`version` is 0 until applied; each apply that changes a plan gives it the next version.

    `weight`, 1 to 100: when an upstream is overloaded, callers of light plans are shed first. `trial_days`: free at first, once a
    customer. `grace_days`: how long a customer who did not pay may go on.
    """

    key: str
    product: str
    name: str
    version: int = 0
    limits: tuple[RateLimit, ...] = ()
    quotas: tuple[Quota, ...] = ()
    prices: tuple[Price, ...] = ()
    features: Mapping[str, bool | int | str] = field(default_factory=dict)
    weight: int = DEFAULT_WEIGHT
    trial_days: int = 0
    grace_days: int = DEFAULT_GRACE_DAYS

    @property
    def meters(self) -> frozenset[str]:
        """Keys of the meters it limits, allows or bills."""
        used: tuple[RateLimit | Quota | Price, ...] = (*self.limits, *self.quotas, *self.prices)
        return frozenset(part.meter for part in used if part.meter is not None)

    def quota(self, meter: str) -> Quota | None:
        return next((q for q in self.quotas if q.meter == meter), None)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything `tollkeeper.toml` says, validated. Maps are keyed by the thing's key, in file order.

    `fallback`: the plan a customer is on once what was bought has ended. `write_off`: an amount in `currency`; what comes late and is worth
    less is not billed. The last three say what a checkout offers.
    """

    currency: str
    products: Mapping[str, Product]
    meters: Mapping[str, Meter]
    features: Mapping[str, Feature]
    plans: Mapping[str, Plan]
    name: str = "API"
    shadow: tuple[str, ...] = ()
    fallback: str | None = None
    write_off: Decimal | None = None
    automatic_tax: bool = False
    tax_ids: bool = False
    promotion_codes: bool = False
