"""Usage between two contracts of a customer, and after the last one: on no invoice, so it is told (`core.ends`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tollkeeper.core.billing import BillingPeriod
from tollkeeper.core.drift import DriftCheck, between
from tollkeeper.core.ends import gap_after
from tollkeeper.core.plans import Plan
from tollkeeper.core.ports import Repositories
from tollkeeper.services.reports import Totals

LONGEST_US: Final = 40 * 86_400 * 1_000_000
"""Longer after the end of a contract nothing is told: who goes on for so long is on another plan."""


def outside(
    rows: Repositories,
    usage: Totals,
    period: BillingPeriod,
    periods: Sequence[BillingPeriod],
    overdue_us: int,
    now: int,
) -> list[DriftCheck]:
    """What was used after a period, up to the next of `periods`, of each meter that its plan or one held meanwhile charges for.

    `overdue_us`: after how long the next period of a contract that goes on should be known.
    """
    gap = gap_after(period, periods)
    bought = rows.provider_subscriptions.get(period.provider or "", period.environment, period.subscription)
    customer = rows.customers.get(period.customer)
    if gap is None or gap.start > now or bought is None or customer is None:
        return []
    end = min(now + 1 if gap.end is None else gap.end, gap.start + LONGEST_US)
    awaited = bought.id if gap.end is None and bought.ended_at is None else None
    held = [
        plan
        for one in rows.subscriptions.history(period.customer)
        if one.environment == period.environment
        and one.started_at < end
        and (one.ended_at is None or one.ended_at > gap.start)
        and (plan := rows.catalog.plan(one.plan, one.plan_version)) is not None
    ]
    plan = rows.catalog.plan(period.plan, period.plan_version)
    meters = dict.fromkeys(
        meter for one in (plan, *held) if one is not None for meter in _charged(one, customer.currency)
    )
    found: list[DriftCheck] = []
    for meter in meters:
        used = usage.period_total(meter, period.environment, period.customer, gap.start, end)
        if used:
            names = list(dict.fromkeys(one.key for one in held))
            charging = list(dict.fromkeys(one.key for one in held if meter in _charged(one, customer.currency)))
            where = (period.environment, period.customer, meter, gap.start, end)
            overdue = now > gap.start + overdue_us
            found.append(between(*where, used, names, charging, awaited, overdue, now))
    return found


def _charged(plan: Plan, currency: str) -> list[str]:
    """The meters that a plan has a price for."""
    return [p.meter for p in plan.prices if p.meter is not None and p.currency == currency and p.interval != "once"]
