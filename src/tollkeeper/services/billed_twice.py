"""Several subscriptions of one customer with prices of one meter: the provider's meters know customers alone, so each bills all usage.

None is sold here beside another; they are made by hand at the provider. Which is to go is told, and what was billed meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from tollkeeper.core.billing import BillingPeriod, UsageReport
from tollkeeper.core.ports import Repositories
from tollkeeper.core.provider import ProviderLine
from tollkeeper.core.provider_prices import rated_here
from tollkeeper.core.subscriptions import GRANTS, KnownSubscription


def billing_too(rows: Repositories, period: BillingPeriod, meter: str) -> list[KnownSubscription]:
    """All running subscriptions of the customer with a price of the meter, and the period's own, the first made first; none where there
    is no other."""
    known = rows.provider_subscriptions.of(period.environment, period.customer)
    own = [one for one in known if one.id == period.subscription]
    others = [
        one
        for one in known
        if one.id != period.subscription
        and one.ended_at is None
        and one.status in GRANTS
        and one.created_at < period.end
        and (plan := rows.catalog.plan(one.plan, one.plan_version or 0) if one.plan else None) is not None
        and any(price.meter == meter and rated_here(price) is None for price in plan.prices)
    ]
    return sorted([*own, *others], key=lambda one: (one.created_at, one.id)) if own and others else []


def advice(twice: Sequence[KnownSubscription]) -> str:
    """What to do about subscriptions that bill the same usage: the first one has all of it on its next invoice."""
    first, *later = (one.id for one in twice)
    return (
        f"{first} and {', '.join(later)} bill the same usage: cancel {', '.join(later)} at Stripe, at once and without a last invoice, "
        f"and refund what it has charged; {first} bills all of the usage, that of the time between too"
    )


def beside(rows: Repositories, report: UsageReport, lines: Sequence[ProviderLine]) -> Decimal:
    """Usage of other periods that lines are for too: another contract was in the place of theirs for a while."""
    if not lines:
        return Decimal(0)
    start, end = min(line.period_start for line in lines), max(line.period_end for line in lines)
    total = Decimal(0)
    for period in rows.periods.of(report.environment, report.customer):
        if period.start != report.period_start and start <= period.start and period.end <= end:
            other = rows.reports.get(report.environment, report.customer, report.meter, period.start)
            if other is not None:
                total += other.reported if other.billed is None else other.billed
    return total
