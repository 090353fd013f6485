"""What a meter keeps of its events beyond their number and sum, so that any two parts can be merged into one.

Max, min and latest keep one value and the event it came from. As a Rank two of them compare by which one stays: the larger value, the
smaller one, or the one of the later (time, sequence); of equal values the first in the log. Unique keeps each value with how many
events had it. Average needs nothing more: it is the sum divided by the number of events, when it is asked for.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, TypeAlias

from tollkeeper.core.metering import Aggregation

KEPT: Final[tuple[Aggregation, ...]] = ("max", "min", "latest")
"""Aggregations that keep one value and its event."""

AVERAGE_PLACES: Final = 9
"""Digits after the point of an average, half up; exact where it ends before."""

_ROUNDING: Final = Context(prec=100, rounding=ROUND_HALF_UP)
_STEP: Final = Decimal(1).scaleb(-AVERAGE_PLACES)

Rank: TypeAlias = tuple[int, int, int]
"""Compares by which value stays; see `rank`."""


def rank(aggregation: Aggregation, billionths: int, time: int, seq: int) -> Rank:
    """Of two kept values the one with the greater rank stays. `time` µs and `seq` are those of the event."""
    if aggregation == "max":
        return billionths, -seq, time
    if aggregation == "min":
        return -billionths, -seq, time
    return time, seq, billionths


def ranked(aggregation: Aggregation, kept: Rank) -> tuple[int, int, int]:
    """(billionths, time, seq) of a rank."""
    first, second, third = kept
    if aggregation == "max":
        return first, third, -second
    if aggregation == "min":
        return -first, third, -second
    return third, first, second


def average(total: Decimal, events: int) -> Decimal:
    """`total` / `events`, rounded half up to 9 digits after the point."""
    return _ROUNDING.quantize(_ROUNDING.divide(total, Decimal(events)), _STEP)
