"""The edges of contracts: which usage belongs to one that ended, and what lies between them. Pure; instants µs.

A provider begins and ends a contract in whole seconds, and the gate learns of it later. So that no usage is left without a place:

- a contract begins with the whole second of its purchase;
- it ends for the provider at `end`; what the gate admitted under it from there until it learned of that, and to the end of that second,
  is its `tail`, and billed with it;
- a contract that follows begins at its own second and takes all from there on, so the tail ends there;
- what is left lies outside every contract, and is told as such (`gap_after`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tollkeeper.core.billing import SECOND_US, BillingPeriod


def last_usage(start: int, end: int, held_until: int | None, following: int | None) -> int:
    """Until when usage belongs to a contract of [start, end), its last period.

    `held_until`: when the gate learned of the end, None where it did not go by the contract. `following`: where the next contract begins.
    A contract that begins and ends in one second has all of that second.
    """
    until = end if start < end else end + SECOND_US
    if held_until is not None:
        until = max(until, held_until - held_until % SECOND_US + SECOND_US)
    return until if following is None else max(end, min(until, following))


def with_tails(
    ordered: Sequence[BillingPeriod], ends: Mapping[str, int], held: Mapping[str, int]
) -> list[BillingPeriod]:
    """Periods in order of time, each with its tail. `ends` and `held`: when a subscription ended, and when the gate learned of it."""
    found: list[BillingPeriod] = []
    for index, period in enumerate(ordered):
        following = ordered[index + 1].start if index + 1 < len(ordered) else None
        until = period.end
        if ends.get(period.subscription) == period.end:
            until = last_usage(period.start, period.end, held.get(period.subscription), following)
        found.append(replace(period, tail=until - period.end))
    return found


@dataclass(frozen=True, slots=True)
class Gap:
    """[start, end) without a contract, after one; `end` None while it goes on."""

    start: int
    end: int | None


def gap_after(period: BillingPeriod, periods: Sequence[BillingPeriod]) -> Gap | None:
    """What lies between the usage of a period and the next of a customer's `periods`; None where nothing does."""
    following = min((other.start for other in periods if other.start > period.start), default=None)
    if following is not None and following <= period.until:
        return None
    return Gap(period.until, following)
