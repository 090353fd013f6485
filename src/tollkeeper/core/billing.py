"""What is billed: periods, how much of each was reported, adjustments, and when a report is dated. Instants µs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from tollkeeper.core.customers import Environment

PeriodState = Literal["open", "closing", "invoiced"]
AdjustmentState = Literal["pending", "sent", "nothing", "rejected", "voided", "written_off", "carried_forward"]

MINUTE_US: Final = 60_000_000
SECOND_US: Final = 1_000_000
BACK_US: Final = 5 * MINUTE_US
"""How far back a report is dated: longer than it takes to learn that a contract was ended or changed at the provider."""
OLDEST_US: Final = 35 * 86_400 * SECOND_US
"""The provider takes no usage that is dated before that (Stripe: 35 days)."""


@dataclass(frozen=True, slots=True)
class BillingPeriod:
    """[start, end), one plan version. closing: its `invoice` is a draft; invoiced: finalised, later changes are carried forward.

    `tail`: µs after `end` whose usage is billed with it, since it was admitted under a contract that had ended (`core.ends`). An invoiced
    one without an `invoice` ended with none; all that was used in it is carried forward.

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
    tail: int = 0

    @property
    def until(self) -> int:
        """The end of the usage that is billed with it."""
        return self.end + self.tail


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Of one meter in one period. `reported`: put into the outbox and not taken back; `carried`: what adjustments account for.

    `billed`: what the finalised invoice has, None before, 0 once it was voided. `revision` counts the messages made. `seq`: the log's when
    it was last looked at.
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

    pending: in the outbox as `outbox`, or (None) held until a paused contract goes on; nothing: it comes to no money; voided: it stood on
    `invoice`, which was voided; written_off: too small to be billed; carried_forward: voided, and billed by another one since.
    `amount` in major units, rounded.
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
    """When usage of [start, end) is dated that is reported `now`: some minutes back, just before the end of an ended period.

    The provider may have cut the period short meanwhile, and bills by these dates: dated back it lies before the cut. Always inside the
    period, and in a minute that lies inside it as a whole (so up to 59 s ahead right after its start): the provider
    tells what it has by whole minutes, and no minute is to hold usage of two periods. In a period without a whole minute, its first second.
    """
    first, last = whole_minutes(start, end)
    if first >= last:
        return min(-(-start // SECOND_US) * SECOND_US, end - 1)
    return max(first, min(now - now % SECOND_US - BACK_US, last - SECOND_US))


def cut_time(start: int, end: int, now: int) -> int | None:
    """When usage is dated that is reported because its period is about to be cut off: before the second of `now`.

    A period that is cut off ends in the second in which the provider does it, and what is dated later is not on its invoice. None for
    one that begins in that second: nothing could be dated in it.
    """
    first, second = -(-start // SECOND_US) * SECOND_US, now - now % SECOND_US
    return None if second <= first else max(first, min(report_time(start, end, now), second - SECOND_US))


def ready_at(period: BillingPeriod) -> int:
    """From when on its usage is looked at: after its first minute, in which a report would be dated ahead and might then lie beyond a
    cut; once it is invoiced, when all that belongs to it is there, so that what is carried forward comes at once."""
    at = period.start + MINUTE_US
    return max(at, period.until) if period.state == "invoiced" else at


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
