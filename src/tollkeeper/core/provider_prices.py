"""Which prices a payment provider can bill from the usage it is told, and which are rated here and put on its invoice as a line.

The rule is Stripe's prices (https://docs.stripe.com/api/prices): tiers end at whole numbers, `transform_quantity` goes with no tiers, and
there is no minimum, no maximum, no rounding of a quantity and no credit for usage below zero.

Some currencies are not charged to their smallest unit of ISO 4217 (https://docs.stripe.com/currencies#special-cases and, on three
decimals, #minor-units): 5.124 kwd must be 5.12 or 5.13.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

from tollkeeper.core.plans import Plan, Price, Tier

CARRIER = "_plan"
"""Key of the price of 0 that a subscription holds on to where a plan has none that the provider bills each period."""

STEPS: Final[Mapping[str, Decimal]] = {
    **dict.fromkeys(("bhd", "jod", "kwd", "omr", "tnd"), Decimal("0.01")),
    **dict.fromkeys(("isk", "mga", "ugx"), Decimal(1)),
}
"""What amounts are charged in where that is not the smallest unit in which the provider works out what usage costs, or not ISO 4217's."""
_WIDE: Final = Context(prec=60, rounding=ROUND_HALF_UP)


def charged(amount: Decimal, currency: str) -> Decimal:
    """`amount` as it can be charged, half away from zero: 5.125 kwd is 5.130."""
    step = STEPS.get(currency)
    if step is None:
        return amount
    return _WIDE.plus(_WIDE.quantize(amount, step).quantize(amount, context=_WIDE))


def rated_here(price: Price) -> str | None:
    """Why a price is rated here, in a few words; None: the provider bills it."""
    if price.minimum is not None or price.maximum is not None:
        return "it has a minimum or a maximum"
    if price.discounts:
        return "it has discounts of its own"
    if price.model == "flat":
        return None
    if price.interval == "once":
        return "usage is charged once"
    if price.quantity_round != "exact":
        return "quantities are rounded"
    if price.negative == "allow":
        return "usage below zero is given back"
    if price.currency in STEPS:
        return f"{price.currency} is charged by {STEPS[price.currency]} alone"
    if price.model == "package":
        return _package(price)
    return _tiers(price)


def _package(price: Price) -> str | None:
    if price.included:
        return "packages with an included allowance"
    if price.package_size is None or price.package_size != price.package_size.to_integral_value():
        return "the package is no whole number of units"
    return None


def _tiers(price: Price) -> str | None:
    if price.included and price.model == "volume":
        return "volume tiers with an included allowance"
    first = price.tiers[0] if price.tiers else None
    if first is not None and first.flat_amount and (price.included or not price.zero_usage_flat_fee):
        return "the first tier's flat amount depends on usage"
    ends = [tier.up_to for tier in price.tiers if tier.up_to is not None]
    if any(end != end.to_integral_value() for end in (*ends, price.included)):
        return "a tier ends within a unit"
    return None


def unbillable(plan: Plan, currency: str) -> list[str]:
    """What of a plan can be billed neither by the provider nor on its invoices, each with its price's key: amounts that cannot be charged,
    and usage of another interval.

    Usage is closed once a period, and so is what is rated here: a yearly minimum in a plan whose usage is closed each month would be
    charged twelve times, and a total of the year is none of its months.
    """
    sold = [price for price in sold_prices(plan, currency) if price.interval != "once"]
    closing = {price.interval for price in [one for one in sold if one.meter is not None] or sold}
    interval = "year" if closing == {"year"} else "month"
    return [
        *_unchargeable(plan, currency),
        *(
            f"{price.key}: interval = {price.interval!r} in a plan whose usage is billed each {interval}"
            for price in plan.prices
            if price.currency == currency and price.meter is not None and price.interval != interval
        ),
    ]


def unbillable_prices(plans: Iterable[Plan]) -> Iterator[str]:
    """`unbillable` of all plans and currencies, each with its place in the catalog."""
    for plan in plans:
        for currency in sorted({price.currency for price in plan.prices}):
            yield from (f"plans.{plan.key}.prices.{fault}" for fault in unbillable(plan, currency))


def _unchargeable(plan: Plan, currency: str) -> Iterator[str]:
    for price in sold_prices(plan, currency):
        amount = price.flat_amount
        if amount is not None and charged(amount, currency) != amount:
            yield f"{price.key}: flat_amount = {amount} {currency}, which is charged by {STEPS[currency]} alone"


def tiers_with_allowance(price: Price) -> tuple[Tier, ...]:
    """The tiers by which the provider bills what `price` says, the last one without an end; () where one unit price does."""
    tiers = price.tiers
    if price.model == "per_unit":
        if not price.included:
            return ()
        tiers = (Tier(None, price.unit_amount or Decimal(0)),)
    if tiers[-1].up_to is not None:
        if price.past_last_tier == "last":
            tiers = (*tiers[:-1], Tier(None, tiers[-1].unit_amount, tiers[-1].flat_amount))
        else:
            tiers = (*tiers, Tier(None, Decimal(0)))
    if price.included:
        shifted = (
            Tier(None if t.up_to is None else t.up_to + price.included, t.unit_amount, t.flat_amount) for t in tiers
        )
        tiers = (Tier(price.included, Decimal(0)), *shifted)
    return tiers


def sold_prices(plan: Plan, currency: str) -> tuple[Price, ...]:
    """The prices of a plan that the provider bills in one currency."""
    return tuple(price for price in plan.prices if price.currency == currency and rated_here(price) is None)


def needs_carrier(plan: Plan, currency: str) -> bool:
    """Whether nothing of a plan is billed by the provider each period: a subscription needs one price at least."""
    return not any(price.interval != "once" for price in sold_prices(plan, currency))
