"""What the gate reads on a cache miss: a key with everything its customer has bought, in one value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tollkeeper.core.customers import Customer, Subscription
from tollkeeper.core.keys import ApiKey
from tollkeeper.core.plans import Plan, Quota, RateLimit


@dataclass(frozen=True, slots=True)
class CustomerGrant:
    """A customer in one environment. `subscription` and `plan` are None when nothing is bought there.

    `limits` and `quotas` are the plan's with the customer's overrides applied; enforce these, not the plan's own.
    """

    customer: Customer
    subscription: Subscription | None
    plan: Plan | None
    limits: tuple[RateLimit, ...]
    quotas: tuple[Quota, ...]

    @property
    def calendar(self) -> tuple[int, str]:
        """Anchor (µs) and zone of the customer's periods: of what was bought, or else counted from the day the customer was made."""
        if self.subscription is None:
            return self.customer.created_at, self.customer.zone
        return self.subscription.anchor, self.subscription.zone

    @property
    def counting(self) -> tuple[int, str, int | None]:
        """`calendar`, and from when on usage counts against the quotas of its first period (µs; None: from its start)."""
        return *self.calendar, None if self.subscription is None else self.subscription.carried_from

    @property
    def moved(self) -> bool:
        """Whether earlier usage may have been counted in other periods than `calendar` has: nothing was bought at first."""
        return self.subscription is None or self.subscription.anchor != self.customer.created_at


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """A stored key, valid or not (expiry and revocation are the gate's to judge), and what its customer has.

    `grant` is None for a server key.
    """

    key: ApiKey
    grant: CustomerGrant | None


def override_limits(limits: Iterable[RateLimit], overrides: Iterable[RateLimit]) -> tuple[RateLimit, ...]:
    """`limits` with those of the same name replaced, in place; an override of another name is added at the end."""
    return tuple(({limit.name: limit for limit in limits} | {limit.name: limit for limit in overrides}).values())


def override_quotas(quotas: Iterable[Quota], overrides: Iterable[Quota]) -> tuple[Quota, ...]:
    """`quotas` with those of the same meter replaced, in place; an override of another meter is added at the end."""
    return tuple(({quota.meter: quota for quota in quotas} | {quota.meter: quota for quota in overrides}).values())
