"""Amounts as Stripe writes them: whole numbers, or decimals of at most 12 places, in the currency's smallest unit.

Stripe's smallest unit is that of ISO 4217 but for two currencies (https://docs.stripe.com/currencies#special-cases): ISK and UGX are
written with two digits, the last two always 00.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from tollkeeper.core.money import exponent_of

PLACES: Final = 12
_TWO_DIGITS: Final = frozenset({"isk", "ugx"})


def exponent(currency: str) -> int:
    """Digits that Stripe writes after the point of a major unit."""
    return 2 if currency in _TWO_DIGITS else exponent_of(currency)


def minor(amount: Decimal, currency: str) -> int:
    """A rounded amount in Stripe's unit. Raises ValueError when it is no whole number of them."""
    scaled = amount.scaleb(exponent(currency))
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{amount} {currency} is no whole number of its smallest unit")
    return int(scaled)


def minor_decimal(amount: Decimal, currency: str) -> Decimal:
    """A price of one unit in Stripe's unit, exact. Raises ValueError when it takes more than 12 places."""
    scaled = amount.scaleb(exponent(currency)).normalize()
    places: Any = scaled.as_tuple().exponent
    if -places > PLACES:
        raise ValueError(f"{amount} {currency} has more than {PLACES} decimal places in its smallest unit")
    return scaled


def major(amount: int | str, currency: str) -> Decimal:
    return Decimal(amount).scaleb(-exponent(currency))
