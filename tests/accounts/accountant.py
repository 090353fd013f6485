"""An accountant's own arithmetic: fractions and whole cents, written from Stripe's documents without a look at the code it checks.

Lines are rounded one by one, half away from zero (https://docs.stripe.com/billing/subscriptions/decimal-amounts), prorations are exact to
the second (https://docs.stripe.com/billing/subscriptions/prorations), a day that a month lacks is its last
(https://docs.stripe.com/billing/subscriptions/billing-cycle). A price is a table as in `tollkeeper.toml`. Amounts are whole minor units.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from math import ceil, floor
from typing import Any

DIGITS = {"usd": 2, "eur": 2, "jpy": 0, "kwd": 3}
Price = Mapping[str, Any]


def rounded(amount: Fraction) -> int:
    half = Fraction(1, 2)
    return floor(amount + half) if amount >= 0 else -floor(half - amount)


def minor(amount: object, currency: str) -> Fraction:
    return Fraction(str(amount)) * 10 ** DIGITS[currency]


def lines(price: Price, used: Fraction, currency: str) -> list[int]:
    """The lines of a price for what was used, those of nothing left out."""
    if price["model"] == "flat":
        return [rounded(minor(price["flat_amount"], currency))]
    units = max(used, Fraction(0))
    if price.get("quantity_round") == "up":
        units = Fraction(ceil(units))
    if price.get("quantity_round") == "down":
        units = Fraction(floor(units))
    units = max(units - Fraction(str(price.get("included", 0))), Fraction(0))
    found = [rounded(amount) for amount in _modelled(price, units, currency)]
    so_far = sum(found)
    if "minimum" in price:
        found.append(max(rounded(minor(price["minimum"], currency)) - so_far, 0))
    if "maximum" in price:
        found.append(min(rounded(minor(price["maximum"], currency)) - so_far, 0))
    return [amount for amount in found if amount]


def _modelled(price: Price, units: Fraction, currency: str) -> list[Fraction]:
    if price["model"] == "per_unit":
        return [units * minor(price["unit_amount"], currency)]
    if price["model"] == "package":
        packages = units / Fraction(str(price["package_size"]))
        whole = floor(packages) if price.get("package_round") == "down" else ceil(packages)
        return [whole * minor(price["package_amount"], currency)]
    found = []
    below = Fraction(0)
    for number, tier in enumerate(price["tiers"]):
        top = None if tier["up_to"] == "inf" else Fraction(str(tier["up_to"]))
        reached = units > below or number == 0
        last = top is None or units <= top
        if reached and (last or price["model"] == "graduated"):
            within = units if price["model"] == "volume" else (units if top is None else min(units, top)) - below
            found.append(within * minor(tier["unit_amount"], currency))
            if units or price.get("zero_usage_flat_fee", True):
                found.append(minor(tier.get("flat_amount", 0), currency))
        if last:
            break
        assert top is not None
        below = top
    return found


def cost(price: Price, used: Fraction, currency: str) -> int:
    return sum(lines(price, used, currency))


def charged(amount: int, currency: str) -> int:
    """Dinars are charged by ten of the smallest unit (https://docs.stripe.com/currencies#minor-units)."""
    return rounded(Fraction(amount, 10)) * 10 if DIGITS[currency] == 3 else amount


def part(amount: int, left: Fraction, whole: Fraction) -> int:
    """What of an amount falls on the time that is left."""
    return rounded(Fraction(amount) * left / whole)


def percent(amounts: Sequence[int], off: object) -> int:
    """A coupon in percent takes off the sum of what it holds for, rounded once."""
    return rounded(Fraction(sum(amounts)) * Fraction(str(off)) / 100)


def later(anchor: datetime, months: int) -> datetime:
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, monthrange(year, month + 1)[1]))
