"""What an event adds to meters that keep more than a number and a sum: groups, kept values, values seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tollkeeper.core.events import Extra
from tollkeeper.core.metering import join_quantity
from tollkeeper.core.periods import cell_start, period_at
from tollkeeper.services.meters import ExtraEntry
from tollkeeper.services.snapshots import Account


def extras_of(
    account: Account, at: int, entries: tuple[ExtraEntry, ...], quantity: int, data: Mapping[str, Any] | None
) -> tuple[Extra, ...]:
    """What an event adds to its meters beyond its folds. Raises QuantityInvalid, ValueInvalid."""
    if not entries:
        return ()
    start, end = account.start, account.end
    if not start <= at < end:
        start, end = period_at(account.anchor, account.zone, at)
    cell = cell_start(at, start) // 1_000_000
    span = (start // 1_000_000, end // 1_000_000)
    found = [(entry, entry.more(quantity, data)) for entry in entries]
    return tuple(
        Extra(entry.number, cell, entry.meter.aggregation, *more, *span) for entry, more in found if more is not None
    )


def check_data(property: str | None, amount: int) -> dict[str, Any] | None:
    """The data of the event of a check of `amount` billionths."""
    return None if property is None else {property: join_quantity(0, amount)}
