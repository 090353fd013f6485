"""The first `tollkeeper.toml`: written by `tollkeeper init` and `tollkeeper wrap`, and meant to be edited by hand."""

from __future__ import annotations

import json
import re
from decimal import Decimal

from tollkeeper.core import catalog_keys as keys
from tollkeeper.core.catalog_kinds import Unfit, text
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.money import exponent_of


def example_catalog(
    *,
    free: str = "1000",
    price: str = "0.001",
    fee: str = "0",
    currency: str = "usd",
    name: str = "API",
    meter: str = "api_calls",
) -> str:
    """TOML with a free plan of `free` calls a month and a plan that charges `fee` a month and `price` for each call beyond, on `meter`.

    `free` "0" leaves the free plan out; `price` "0" leaves the paid one out. Raises InvalidRequest, CurrencyInvalid.
    """
    allowance, amount, monthly = _decimal("free", free, 9), _decimal("price", price, 12), _decimal("fee", fee, 12)
    exponent_of(currency)
    if not allowance and not amount:
        raise InvalidRequest("With no free calls and no price there is nothing to sell: give --free or --price.")
    try:
        text(200).read(name)
    except Unfit:
        raise InvalidRequest(f"name: expected {text(200).expected}.") from None
    if not re.fullmatch(keys.KEY_PATTERN, meter):
        raise InvalidRequest(f"meter: expected {keys.KEY_EXPECTED}, found {json.dumps(meter[:60])}.")
    fallback = _FALLBACK if allowance and amount else ""
    named = json.dumps(name, ensure_ascii=False)
    parts = [_HEAD.format(name=named, currency=currency, fallback=fallback, meter=meter)]
    if allowance:
        parts.append(_FREE.format(meter=meter, free=format_quantity(allowance)))
    if amount:
        tiers = _TIERS if allowance else _PER_UNIT
        billed = tiers.format(meter=meter, free=format_quantity(allowance), price=format_quantity(amount))
        parts.append(_PRO + (_FEE.format(fee=format_quantity(monthly)) if monthly else _NO_FEE) + billed)
    return "\n".join(parts)


def _decimal(option: str, value: str, places: int) -> Decimal:
    kind = keys.AMOUNT if places == 12 else keys.QUANTITY
    try:
        number: Decimal = kind.read(value)
    except Unfit:
        raise InvalidRequest(
            f"{option}: expected {kind.expected.replace(', in quotes', '')}, found {json.dumps(value[:60])}."
        ) from None
    return number


_HEAD = """\
# The catalog: what you sell, to whom it is open, and what it costs.
# `tollkeeper catalog check` reads it, `… diff` shows what would change, `… apply` puts it in force.
# Customers stay on the version of a plan that they bought until you move them. Every key is explained in docs/catalog.md.

name = {name}
currency = "{currency}"        # decimals stand in quotes, so that 0.1 stays 0.1
{fallback}
# A meter counts events. The gate writes one of this type for each call it lets through.
[meters.{meter}]
event_type = "api.call"
aggregation = "count"
count_on = "success"    # a call that fails is not counted; "attempt" counts every call
unit = "call"
"""

_FALLBACK = """\
fallback = "free"       # the plan of a customer whose paid one has ended
"""

_FREE = """\
# A hard quota refuses the call after the last one, until the next month begins.
# A rate limit refuses calls that come too fast: at most 10 at once, and 10 in a second.
[plans.free]
name = "Free"
limits = [{{ name = "burst", limit = 10, window_seconds = 1 }}]
quotas = [{{ meter = "{meter}", limit = "{free}", kind = "hard" }}]
"""

_PRO = """\
[plans.pro]
name = "Pro"
limits = [{ name = "burst", limit = 100, window_seconds = 1 }]

"""

_TIERS = """\
# Graduated: the first {free} calls of a month cost nothing, each one after them {price}.
[[plans.pro.prices]]
key = "calls"
meter = "{meter}"
model = "graduated"
tiers = [
  {{ up_to = "{free}", unit_amount = "0" }},
  {{ up_to = "inf", unit_amount = "{price}" }},
]
"""

_NO_FEE = """\
# To add a monthly fee, add a second price: key = "fee", model = "flat", flat_amount = "9".
"""

_FEE = """\
# Paid at the beginning of each month.
[[plans.pro.prices]]
key = "fee"
model = "flat"
flat_amount = "{fee}"

"""

_PER_UNIT = """\
[[plans.pro.prices]]
key = "calls"
meter = "{meter}"
model = "per_unit"
unit_amount = "{price}"
"""
