"""What one price of a period comes to: what was charged of it, what was given away, and what another total makes of that. Pure.

total = billed units + units given away        rate(total) = what was charged + what was given away

Given away is what stood on invoices that were voided, and what was written off. Both lines hold after every change: so an adjustment is
worth rate(total) less what is accounted for, what was given away can be billed later for exactly what is missing, and nothing is given
back that was not charged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from tollkeeper.core.billing import Adjustment, AdjustmentState
from tollkeeper.core.plans import Price
from tollkeeper.core.provider_prices import charged as chargeable
from tollkeeper.core.rating import rate

STANDS: Final[tuple[AdjustmentState, ...]] = ("pending", "sent", "nothing")
GIVEN: Final[tuple[AdjustmentState, ...]] = ("voided", "written_off")
_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Given:
    """Units that were given away, and the money they were worth."""

    units: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Account:
    """`billed` units stand on invoices, or are on their way there, which charge `charged` for them. `void`: that of the period is void."""

    price: Price
    billed: Decimal
    charged: Decimal
    given: Mapping[AdjustmentState, Given] = field(default_factory=dict)
    void: bool = False

    @property
    def total(self) -> Decimal:
        """Billed or given away."""
        return self.billed + sum((one.units for one in self.given.values()), _ZERO)

    @property
    def worth(self) -> Decimal:
        """Charged or given away."""
        return self.charged + sum((one.amount for one in self.given.values()), _ZERO)

    def cost(self, units: Decimal) -> Decimal:
        """What a price asks for without any usage is not asked for by itself in a period whose invoice is void, such as a paused one."""
        if not units and self.void and not self.charged and not self.given:
            return _ZERO
        return chargeable(rate(self.price, units).amount, self.price.currency)


@dataclass(frozen=True, slots=True)
class Change:
    """What another total makes: `quantity` and `amount` of an adjustment, signed; `given`: by how much what is given away changes."""

    quantity: Decimal
    amount: Decimal
    given: Mapping[AdjustmentState, Given]


def account_of(price: Price, provided: Decimal | None, written: Iterable[Adjustment], *, void: bool = False) -> Account:
    """`provided`: units that the provider's own invoice has, None where the price is rated here; of a `void` one none are left.
    `written`: the adjustments of the period."""
    own = [one for one in written if one.price == price.key]
    standing = [one for one in own if one.state in STANDS]
    charged = _ZERO if provided is None or void else rate(price, provided).amount
    given = {state: together(rows) for state in GIVEN if (rows := [one for one in own if one.state == state])}
    stands = together(standing)
    billed = _ZERO if provided is None or void else provided
    return Account(price, billed + stands.units, charged + stands.amount, given, void)


def change(account: Account, total: Decimal) -> Change:
    """What has to be charged or given back now that the period comes to `total`.

    What falls away is taken from what was given away first, in units and in money: that was never charged.
    """
    units, amount = total - account.total, account.cost(total) - account.worth
    changed: dict[AdjustmentState, Given] = {}
    for state, given in account.given.items():
        fewer, less = _ZERO, _ZERO
        if units * given.units < 0:
            fewer = min(abs(units), abs(given.units)).copy_sign(given.units)
            units += fewer
        if amount * given.amount < 0:
            less = min(abs(amount), abs(given.amount)).copy_sign(given.amount)
            amount += less
        if fewer or less:
            changed[state] = Given(-fewer, -less)
    if not units and amount > 0 and changed:  # fewer units that cost more, none of which is billed
        state, given = next(iter(changed.items()))
        changed[state], amount = Given(given.units, given.amount + amount), _ZERO
    return Change(units, amount, changed)


def credited(account: Account) -> Change:
    """What of something voided had been given back before, on another invoice: that is charged, or it would be given away twice."""
    voided = account.given.get("voided", Given(_ZERO, _ZERO))
    amount = min(max(-account.charged, _ZERO), max(voided.amount, _ZERO))
    if not amount:
        return Change(_ZERO, _ZERO, {})
    units = min(max(-account.billed, _ZERO), max(voided.units, _ZERO))
    return Change(units, amount, {"voided": Given(-units, -amount)})


def together(rows: Iterable[Adjustment]) -> Given:
    """Units and amount of adjustments. What was given away is billed for exactly that."""
    rows = list(rows)
    return Given(sum((one.quantity or _ZERO for one in rows), _ZERO), sum((one.amount for one in rows), _ZERO))


def writes_off(least: Decimal | None, amount: Decimal, written: Iterable[Adjustment]) -> bool:
    """Whether a late amount is too small to be billed: above 0, and with all that was written off of its period below `least`."""
    before = sum((one.amount for one in written if one.state == "written_off"), _ZERO)
    return least is not None and amount > 0 and before + amount < least
