"""Who is billed, the people who belong to them, and the contract they are on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Environment = Literal["live", "test"]
SubscriptionStatus = Literal["active", "trialing", "past_due", "unpaid", "paused", "ended"]
ENVIRONMENTS: tuple[Environment, ...] = ("live", "test")


@dataclass(frozen=True, slots=True)
class Customer:
    """Who is billed; maps to one Stripe Customer. `currency` is fixed for good; `zone` is an IANA name."""

    id: str
    name: str
    email: str | None
    currency: str
    zone: str
    created_at: int  # microseconds since 1970, as every instant in core


@dataclass(frozen=True, slots=True)
class Member:
    """A person of a customer, known by e-mail."""

    id: str
    customer: str
    email: str
    name: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """The contract: the plan at the version bought. `anchor` (µs) is the instant of purchase, from which periods are counted.

    active, trialing and past_due may call, past_due until `grace_until` (µs); unpaid, paused and ended may not.
    `carried_from` (µs): from when on usage counts against the quotas of the first period, where a change of plan cut short the one before.
    """

    id: str
    customer: str
    environment: Environment
    plan: str
    plan_version: int
    anchor: int
    zone: str
    status: SubscriptionStatus
    started_at: int
    ended_at: int | None = None
    grace_until: int | None = None
    carried_from: int | None = None
