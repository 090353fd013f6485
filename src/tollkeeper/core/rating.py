"""What a quantity costs at a price: the amount, and the lines that add up to it.

    included → model → (discounts) → minimum, maximum → (discounts)      where discounts stand is the price's `discount_order`

Each line is rounded once, half away from zero, to the smallest unit of the currency; the amount is the sum of the rounded lines, so
an invoice adds up by hand. Nothing else is rounded: the arithmetic raises rather than lose a digit, whatever the caller's context.
docs/rating.md works every model out, and says on which points other vendors do otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow, localcontext
from typing import Any, Final, Literal

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.metering import QuantityInvalid, format_quantity
from tollkeeper.core.money import round_money
from tollkeeper.core.plans import Discount, Price
from tollkeeper.core.rating_models import LineKind, Part, parts_of

__all__ = ["Line", "Rated", "rate", "read_quantity", "total"]

PLACES: Final = 9
DIGITS: Final = 24  # before the point; a month's sum of quantities may be longer than one of them
MOST: Final = Decimal(10) ** DIGITS
QUANTITY: Final = f"a decimal with at most {DIGITS} digits before the point and {PLACES} after it"
# A tier's line has at most DIGITS + 9 digits of quantity and 15 + 12 of price; ten discounts in percent add 6 digits each.
_EXACT: Final = Context(prec=400, Emin=-9999, Emax=9999, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
_SMALLEST: Final = Decimal(1).scaleb(-PLACES)
_WRITTEN: Final = re.compile(rf"-?[0-9]{{1,{DIGITS}}}(?:\.[0-9]{{1,{PLACES}}})?")
_ZERO: Final = Decimal(0)
_ONE: Final = Decimal(1)


class AmountTooLarge(InvalidRequest):
    """The amount has more digits than can be kept exactly."""


@dataclass(frozen=True, slots=True)
class Line:
    """One component. `amount` is `quantity` × `unit_amount`, rounded; `tier` counts from 0 as `tiers` does.

    quantity: units, of a package line packages, of every other component 1.
    """

    kind: LineKind | Literal["minimum", "maximum", "discount"]
    tier: int | None
    quantity: Decimal
    unit_amount: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Rated:
    """`amount` is the sum of the lines' amounts; `exact_amount` what it is before any rounding."""

    currency: str
    amount: Decimal
    exact_amount: Decimal
    lines: tuple[Line, ...]

    def as_dict(self) -> dict[str, Any]:
        """The answer of `POST /v1/rate`: decimals as strings, amounts with all digits of the currency."""
        return {
            "currency": self.currency,
            "amount": format(self.amount, "f"),
            "exact_amount": format_quantity(self.exact_amount),
            "lines": [
                {
                    "kind": line.kind,
                    "tier": line.tier,
                    "quantity": format_quantity(line.quantity),
                    "unit_amount": format_quantity(line.unit_amount),
                    "amount": format(line.amount, "f"),
                }
                for line in self.lines
            ],
        }


def rate(price: Price, quantity: Decimal | int) -> Rated:
    """What `quantity` costs; the model flat takes no account of it. `price` is one that was read by the catalog or `read_price`.

    Raises QuantityInvalid for what is no exact quantity, CurrencyInvalid, AmountTooLarge.
    """
    used = read_quantity(quantity)
    with localcontext(_EXACT):
        try:
            bill = _Bill(price.currency)
            for part in parts_of(price, used):
                bill.add(part)
            for step in (_bound, _take) if price.discount_order == "last" else (_take, _bound):
                step(bill, price)
        except (Inexact, InvalidOperation, Overflow):
            raise AmountTooLarge from None
        return Rated(price.currency, bill.amount, bill.exact, tuple(bill.lines))


def total(rated: Sequence[Rated]) -> tuple[Decimal, Decimal]:
    """The sums of the amounts and of the exact amounts, of one currency. Raises ValueError when there is another among them."""
    if len({one.currency for one in rated}) != 1:
        raise ValueError("amounts are only added up within one currency")
    with localcontext(_EXACT):
        amount, exact = rated[0].amount, rated[0].exact_amount
        for one in rated[1:]:
            amount, exact = amount + one.amount, exact + one.exact_amount
    return amount, exact


def read_quantity(value: Any) -> Decimal:
    """The exact quantity: of a Decimal, an int, or a decimal string such as "100.5". Raises QuantityInvalid for anything else."""
    try:
        if type(value) is Decimal or (type(value) is int and abs(value) < MOST):
            with localcontext(_EXACT):
                number = Decimal(value)
                if number.is_finite() and abs(number) < MOST:
                    return number.quantize(_SMALLEST)  # Inexact when there are more places
        elif type(value) is str and _WRITTEN.fullmatch(value):
            return Decimal(value).quantize(_SMALLEST, context=_EXACT)
    except (Inexact, InvalidOperation):
        pass
    raise QuantityInvalid(f"quantity: expected {QUANTITY}.", field="quantity")


class _Bill:
    """Lines so far, and both sums: of what stands on them, and of what they are before rounding."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.lines: list[Line] = []
        self.amount = round_money(_ZERO, currency)
        self.exact = _ZERO

    def add(self, part: Part) -> None:
        exact = part.quantity * part.unit_amount
        self.put(Line(part.kind, part.tier, part.quantity, part.unit_amount, round_money(exact, self.currency)))
        self.exact += exact

    def put(self, line: Line) -> None:
        self.lines.append(line)
        self.amount += line.amount


def _bound(bill: _Bill, price: Price) -> None:
    """One line makes up what is short of the minimum, one takes off what is above the maximum."""
    if price.minimum is not None:
        if bill.amount < price.minimum:
            _component(bill, "minimum", price.minimum - bill.amount)
        bill.exact = max(bill.exact, price.minimum)
    if price.maximum is not None:
        if bill.amount > price.maximum:
            _component(bill, "maximum", price.maximum - bill.amount)
        bill.exact = min(bill.exact, price.maximum)


def _take(bill: _Bill, price: Price) -> None:
    """Each discount is taken off what the ones before it left; nothing is taken off a credit."""
    for discount in price.discounts:
        _component(bill, "discount", -_off(discount, bill.amount))
        bill.exact -= _off(discount, bill.exact)


def _off(discount: Discount, left: Decimal) -> Decimal:
    left = max(left, _ZERO)
    if discount.percent_off is not None:
        return left * discount.percent_off.scaleb(-2)
    return min(left, discount.amount_off or _ZERO)


def _component(bill: _Bill, kind: Literal["minimum", "maximum", "discount"], unit_amount: Decimal) -> None:
    bill.put(Line(kind, None, _ONE, unit_amount, round_money(unit_amount, bill.currency)))
