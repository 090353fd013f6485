"""Which prices a payment provider can bill from the usage it is told, and which are rated here and put on its invoice as a line.

The rule is Stripe's prices (https://docs.stripe.com/api/prices): tiers end at whole numbers, `transform_quantity` goes with no tiers, and
there is no minimum, no maximum, no rounding of a quantity and no credit for usage below zero.
"""

from __future__ import annotations

from decimal import Decimal

from tollkeeper.core.plans import Plan, Price, Tier

CARRIER = "_plan"
"""Key of the price of 0 that a subscription holds on to where a plan has none that the provider bills each period."""


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
    """What of a plan can be billed neither by the provider nor on its invoices, each with its price's key.

    Usage is closed once a period, and so is what is rated here: a yearly minimum in a plan whose usage is closed each month would be
    charged twelve times, and a total of the year is none of its months.
    """
    sold = [price for price in sold_prices(plan, currency) if price.interval != "once"]
    closing = {price.interval for price in [one for one in sold if one.meter is not None] or sold}
    interval = "year" if closing == {"year"} else "month"
    return [
        f"{price.key}: interval = {price.interval!r} in a plan whose usage is billed each {interval}"
        for price in plan.prices
        if price.currency == currency and price.meter is not None and price.interval != interval
    ]


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
