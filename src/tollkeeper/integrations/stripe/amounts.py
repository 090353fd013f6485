"""Amounts as Stripe writes them: whole numbers, or decimals of at most 12 places, in the currency's smallest unit.

Stripe's smallest unit is that of ISO 4217 but for three currencies (https://docs.stripe.com/currencies#special-cases): ISK and UGX are
written with two digits, the last two always 00, and MGA with none.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from tollkeeper.core.money import exponent_of
from tollkeeper.core.provider import ProviderRefused
from tollkeeper.core.provider_prices import charged

PLACES: Final = 12
_DIGITS: Final = {"isk": 2, "ugx": 2, "mga": 0}


def exponent(currency: str) -> int:
    """Digits that Stripe writes after the point of a major unit."""
    return _DIGITS.get(currency, exponent_of(currency))


def minor(amount: Decimal, currency: str) -> int:
    """A rounded amount in Stripe's unit. Raises ProviderRefused when it is one that Stripe does not charge."""
    scaled = amount.scaleb(exponent(currency))
    if scaled != scaled.to_integral_value() or charged(amount, currency) != amount:
        raise ProviderRefused(
            f"Stripe does not charge {amount} {currency}: it is no whole number of what {currency} is charged in."
        )
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
