"""Who is billed, the people who belong to them, and the contract they are on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Environment = Literal["live", "test"]
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
    """The contract: the plan at the version bought. `anchor` (µs) is the instant of purchase, from which periods are counted."""

    id: str
    customer: str
    environment: Environment
    plan: str
    plan_version: int
    anchor: int
    zone: str
    status: Literal["active", "past_due", "ended"]
    started_at: int
    ended_at: int | None = None
