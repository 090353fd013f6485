"""What is billed: periods, how much of each was reported, adjustments, and when a report is dated. Instants µs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from tollkeeper.core.customers import Environment

PeriodState = Literal["open", "closing", "invoiced"]
AdjustmentState = Literal["pending", "sent", "nothing", "rejected"]

MINUTE_US: Final = 60_000_000
SECOND_US: Final = 1_000_000
OLDEST_US: Final = 35 * 86_400 * SECOND_US
"""The provider takes no usage that is dated before that (Stripe: 35 days)."""


@dataclass(frozen=True, slots=True)
class BillingPeriod:
    """[start, end), one plan version. closing: its `invoice` is a draft; invoiced: finalised, later changes are carried forward.

    `subscription` is the provider's, or our own without one (`provider` None). `stale`: its totals are to be looked at, whatever the
    log says.
    """

    environment: Environment
    customer: str
    start: int
    end: int
    provider: str | None
    subscription: str
    plan: str
    plan_version: int
    state: PeriodState = "open"
    invoice: str | None = None
    finalized_at: int | None = None
    stale: bool = True


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Of one meter in one period. `reported`: put into the outbox and not taken back; `carried`: billed by adjustments.

    `billed`: what the finalised invoice has, None before. `revision` counts the messages made. `seq`: the log's when it was last looked at.
    """

    environment: Environment
    customer: str
    meter: str
    period_start: int
    reported: Decimal = Decimal(0)
    carried: Decimal = Decimal(0)
    billed: Decimal | None = None
    revision: int = 0
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A signed, explained amount that goes on an invoice by itself: usage that came after finalisation, or that is rated here.

    pending: in the outbox as `outbox`; nothing: it comes to no money. `amount` in major units, rounded.
    """

    environment: Environment
    id: str
    customer: str
    amount: Decimal
    currency: str
    reason: str
    created_at: int
    state: AdjustmentState = "pending"
    meter: str | None = None
    period_start: int | None = None
    price: str | None = None
    quantity: Decimal | None = None
    outbox: str | None = None
    invoice: str | None = None


def report_time(start: int, end: int, now: int) -> int:
    """When usage of [start, end) is dated that is reported `now`: now for the running period, just before the end of an ended one.

    Always inside the period, and in a minute that lies inside it as a whole (so up to 59 s ahead right after its start): the provider
    tells what it has by whole minutes, and no minute is to hold usage of two periods. In a period without a whole minute, its first second.
    """
    first, last = whole_minutes(start, end)
    if first >= last:
        return min(-(-start // SECOND_US) * SECOND_US, end - 1)
    return max(first, min(now - now % SECOND_US, last - SECOND_US))


def cut_time(start: int, now: int) -> int:
    """When usage is dated that is reported because its period is about to be cut off: in the second before `now`.

    A period that is cut off ends in the second in which the provider does it, and what is dated later is not on its invoice.
    """
    return max(-(-start // SECOND_US) * SECOND_US, now - now % SECOND_US - SECOND_US)


def summary_window(start: int, end: int) -> tuple[int, int] | None:
    """The minutes in which usage of [start, end) is dated, and that of no other period: up to the end of the minute in which it is cut
    off, since the one after it begins with a whole minute. None for a period without a whole minute."""
    first, last = whole_minutes(start, end)
    return None if first >= last else (first, -(-end // MINUTE_US) * MINUTE_US)


def whole_minutes(start: int, end: int) -> tuple[int, int]:
    """The part of [start, end) that is whole minutes; empty when both are the same or out of order."""
    return -(-start // MINUTE_US) * MINUTE_US, end - end % MINUTE_US


def closes_late(period: BillingPeriod, now: int) -> bool:
    """Whether usage of a period can no longer be reported, because the provider takes none that is dated so far back."""
    return report_time(period.start, period.end, now) < now - OLDEST_US + 3600 * SECOND_US
