"""Stripe's arithmetic: prices to lines, proration, discounts, taxes, balance. Amounts are integers of the smallest unit.

Written from Stripe's documents (docs.stripe.com: products-prices/pricing-models, billing/subscriptions/prorations,
billing/customer/balance, billing/subscriptions/coupons) and on purpose not from Tollkeeper's own rating: the two are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any

_WIDE = Context(prec=80, rounding=ROUND_HALF_UP)
_MINIMUM = {
    "aed": 200, "aud": 50, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250, "eur": 50, "gbp": 30, "hkd": 400, "huf": 17500,
    "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300, "nzd": 50, "pln": 200, "ron": 200, "sek": 300, "sgd": 50, "thb": 1000,
    "usd": 50,
}  # fmt: skip
"""Smallest amounts that can be charged (https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts)."""

_STEP = {**dict.fromkeys(("bhd", "jod", "kwd", "omr", "tnd"), 10), "isk": 100, "ugx": 100}
"""By how many of the smallest unit amounts are charged (https://docs.stripe.com/currencies, three decimals and special cases)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one line of an invoice says of a price. `tier` counts from zero; `flat` is true for a tier's flat amount."""

    quantity: Decimal
    unit_amount: Decimal
    amount: int
    tier: int | None = None
    flat: bool = False


def half_up(amount: Decimal | Fraction) -> int:
    """Whole smallest units, half away from zero."""
    if isinstance(amount, Fraction):
        sign = -1 if amount < 0 else 1
        return sign * int(abs(amount) + Fraction(1, 2))
    return int(amount.quantize(Decimal(1), context=_WIDE))


def times(quantity: Decimal, unit_amount: Decimal) -> int:
    """The amount of a line: quantity times unit amount, rounded once."""
    return half_up(_WIDE.multiply(quantity, unit_amount))


def rated(price: Mapping[str, Any], quantity: Decimal) -> list[Piece]:
    """The lines of a price for a quantity.

    Args:
        price: a price object, with "tiers" when its scheme is tiered.
        quantity: of a metered price what was used; below zero counts as nothing.

    A tiered price whose first tier has a flat amount owes it without any usage too.
    """
    quantity = max(quantity, Decimal(0))
    if price["billing_scheme"] == "tiered":
        tiers = price["tiers"]
        return _volume(tiers, quantity) if price["tiers_mode"] == "volume" else _graduated(tiers, quantity)
    transform = price.get("transform_quantity")
    if transform:
        rounding = ROUND_CEILING if transform["round"] == "up" else ROUND_FLOOR
        quantity = (quantity / transform["divide_by"]).to_integral_value(rounding)
    unit = decimal_of(price, "unit_amount")
    return [Piece(quantity, unit, times(quantity, unit))]


def decimal_of(row: Mapping[str, Any], name: str) -> Decimal:
    """`unit_amount_decimal` where it stands, else `unit_amount`; nothing is zero."""
    exact = row.get(f"{name}_decimal")
    return Decimal(str(exact if exact is not None else row.get(name) or 0))


def _pieces(tier: Mapping[str, Any], place: int, quantity: Decimal) -> list[Piece]:
    unit, flat = decimal_of(tier, "unit_amount"), decimal_of(tier, "flat_amount")
    found = [Piece(quantity, unit, times(quantity, unit), place)]
    if flat:
        found.append(Piece(Decimal(1), flat, half_up(flat), place, flat=True))
    return found


def _bound(tier: Mapping[str, Any]) -> Decimal | None:
    up_to = tier["up_to"]
    return None if up_to in (None, "inf") else Decimal(up_to)


def _graduated(tiers: Sequence[Mapping[str, Any]], quantity: Decimal) -> list[Piece]:
    found: list[Piece] = []
    below = Decimal(0)
    for place, tier in enumerate(tiers):
        bound = _bound(tier)
        inside = (quantity if bound is None else min(quantity, bound)) - below
        if inside <= 0 and place > 0:
            break
        found += _pieces(tier, place, inside)
        if bound is None:
            break
        below = bound
    return found


def _volume(tiers: Sequence[Mapping[str, Any]], quantity: Decimal) -> list[Piece]:
    for place, tier in enumerate(tiers):
        bound = _bound(tier)
        if bound is None or quantity <= bound:
            return _pieces(tier, place, quantity)
    raise ValueError("the last tier of a price has no bound")


def share(amount: int, part: int, whole: int) -> int:
    """The part of an amount that `part` of `whole` seconds costs."""
    return half_up(Fraction(amount * part, whole)) if whole else 0


def spread(amount: int, weights: Sequence[int]) -> list[int]:
    """`amount` in whole units over weights that are not negative; what is left over goes to the largest remainders, the first of equals."""
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    parts = [divmod(amount * weight, whole) for weight in weights]
    found = [quotient for quotient, _ in parts]
    by_remainder = sorted(range(len(parts)), key=lambda place: (-parts[place][1], place))
    for place in by_remainder[: amount - sum(found)]:
        found[place] += 1
    return found


def discounted(amounts: Sequence[int], coupons: Sequence[tuple[Mapping[str, Any], Sequence[bool]]]) -> list[list[int]]:
    """What each coupon takes off each line, one coupon after the other from what is left.

    Args:
        amounts: of the lines.
        coupons: each with the lines that it applies to.

    A coupon's amount is rounded once for the invoice, spread over its lines in proportion, and never takes more than there is.
    """
    left = list(amounts)
    found = []
    for coupon, applies in coupons:
        weights = [amount if fits and amount > 0 else 0 for amount, fits in zip(left, applies, strict=True)]
        if coupon.get("percent_off"):
            off = half_up(_WIDE.multiply(Decimal(sum(weights)), Decimal(str(coupon["percent_off"]))) / 100)
        else:
            off = int(coupon.get("amount_off") or 0)
        parts = spread(min(off, sum(weights)), weights)
        left = [amount - part for amount, part in zip(left, parts, strict=True)]
        found.append(parts)
    return found


def tax(amount: int, percentage: float | str | Decimal, *, inclusive: bool) -> int:
    """The tax of a line: on top of its amount, or inside it."""
    rate = Decimal(str(percentage))
    if inclusive:
        return half_up(_WIDE.divide(_WIDE.multiply(Decimal(amount), rate), 100 + rate))
    return half_up(_WIDE.multiply(Decimal(amount), rate) / 100)


def due(total: int, balance: int, currency: str, *, charged: bool = True) -> tuple[int, int]:
    """What an invoice asks for, and the customer's balance after it.

    A negative balance is credit. What is below nothing becomes credit; what is below the smallest charge is owed with the next invoice,
    and so is (or becomes credit) what rounding to an amount that can be charged leaves.

    Args:
        charged: false for an invoice that is sent and paid otherwise, for which no charge is too small.
    """
    owed = total + balance
    if owed <= 0 or (charged and owed < _MINIMUM.get(currency, 50)):
        return 0, owed
    asked = share(1, owed, step(currency)) * step(currency)
    return asked, owed - asked


def step(currency: str) -> int:
    """The smallest amount that can be charged."""
    return _STEP.get(currency, 1)
