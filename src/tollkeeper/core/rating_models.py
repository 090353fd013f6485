"""The models: which parts of a quantity cost how much. Run under the exact context of `rating.rate`.

Usage below 0 counts as none, or (`negative = "allow"`) gives back what as much usage above 0 would have cost, flat amounts of tiers
left out: those are owed for reaching a tier, or for the period.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final, Literal

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.plans import Price, Tier

LineKind = Literal["included", "tier", "flat", "package"]

_ZERO: Final = Decimal(0)
_ONE: Final = Decimal(1)


class UnpricedUsage(InvalidRequest):
    """The quantity goes past the price's last tier, and the price does not say what it costs there."""


@dataclass(frozen=True, slots=True)
class Part:
    """`quantity` at `unit_amount` each, not yet rounded. `tier` None: of no tier."""

    kind: LineKind
    tier: int | None
    quantity: Decimal
    unit_amount: Decimal


def parts_of(price: Price, quantity: Decimal) -> Iterator[Part]:
    """What `quantity` consists of at `price`, minimum, maximum and discounts left out. At least one part."""
    if price.model == "flat":
        yield Part("flat", None, _ONE, price.flat_amount or _ZERO)
        return
    credit = quantity < 0 and price.negative == "allow"
    size = -quantity if credit else max(quantity, _ZERO)
    if price.quantity_round != "exact":
        size = size.to_integral_value(ROUND_CEILING if price.quantity_round == "up" else ROUND_FLOOR)
    included = min(size, price.included)
    if included:
        yield Part("included", None, -included if credit else included, _ZERO)
    for part in _model(price, size - included, credit):
        yield replace(part, quantity=-part.quantity) if credit and part.kind != "flat" and part.quantity else part


def _model(price: Price, size: Decimal, credit: bool) -> Iterator[Part]:
    match price.model:
        case "per_unit":
            yield Part("tier", 0, size, price.unit_amount or _ZERO)
        case "package":
            yield Part("package", None, _packages(price, size), price.package_amount or _ZERO)
        case "graduated":
            yield from _graduated(price, size, credit)
        case _:
            yield from _volume(price, size, credit)


def _packages(price: Price, size: Decimal) -> Decimal:
    """Whole packages; one that is begun counts with `package_round` "up"."""
    assert price.package_size is not None
    whole, begun = divmod(size, price.package_size)
    return whole + 1 if begun and price.package_round == "up" else whole


def _graduated(price: Price, size: Decimal, credit: bool) -> Iterator[Part]:
    """Each unit at the price of its own tier: the integral of the unit price from 0 to `size`."""
    below = _ZERO
    for index, tier in enumerate(price.tiers):
        end = _end(price, index)
        if index and size <= below:
            return
        yield Part("tier", index, (size if end is None else min(size, end)) - below, tier.unit_amount)
        yield from _flat(price, index, tier, reached=size > below and not credit)
        if end is None:
            return
        below = end
    if size > below:
        yield _past(price, size, below)


def _volume(price: Price, size: Decimal, credit: bool) -> Iterator[Part]:
    """All units at the price of the tier that the last of them is in."""
    last = len(price.tiers) - 1
    index = next(i for i in range(last + 1) if i == last or size <= (_end(price, i) or _ZERO))
    tier, end = price.tiers[index], _end(price, index)
    priced = size if end is None else min(size, end)
    yield Part("tier", index, priced, tier.unit_amount)
    yield from _flat(price, index, tier, reached=size > 0 and not credit)
    if size > priced:
        yield _past(price, size, priced)


def _past(price: Price, size: Decimal, end: Decimal) -> Part:
    """Units past the last tier, which cost nothing. Raises UnpricedUsage where that is not what the price says."""
    if price.past_last_tier != "free":
        raise UnpricedUsage
    return Part("tier", None, size - end, _ZERO)


def _end(price: Price, index: int) -> Decimal | None:
    """The last unit of a tier; None when it goes on for ever."""
    if index == len(price.tiers) - 1 and price.past_last_tier == "last":
        return None
    return price.tiers[index].up_to


def _flat(price: Price, index: int, tier: Tier, *, reached: bool) -> Iterator[Part]:
    """The flat amount of a tier, owed once. That of the first is owed without usage too, unless the price says otherwise."""
    if tier.flat_amount and (reached or (index == 0 and price.zero_usage_flat_fee)):
        yield Part("flat", index, _ONE, tier.flat_amount)
