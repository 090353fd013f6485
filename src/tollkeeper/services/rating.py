"""What a customer has cost so far: the usage of the running period at the prices of the plan version that was bought."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import NotFound
from tollkeeper.core.grants import CustomerGrant
from tollkeeper.core.periods import period_at
from tollkeeper.core.plans import Price
from tollkeeper.core.ports import Grants
from tollkeeper.core.rating import Rated, rate, total
from tollkeeper.services.clock import Clock
from tollkeeper.services.usage import Usage

State = Literal["known", "unknown"]


@dataclass(frozen=True, slots=True)
class PriceCost:
    """One price in its own interval [start, end), µs. `quantity` and `rated` are None where the usage is unknown: that is no zero."""

    price: Price
    start: int
    end: int
    quantity: Decimal | None
    rated: Rated | None

    @property
    def state(self) -> State:
        return "unknown" if self.rated is None else "known"


@dataclass(frozen=True, slots=True)
class Total:
    """The prices of one currency in one interval. Amounts are None as soon as one of them is unknown."""

    currency: str
    start: int
    end: int
    amount: Decimal | None
    exact_amount: Decimal | None

    @property
    def state(self) -> State:
        return "unknown" if self.amount is None else "known"


@dataclass(frozen=True, slots=True)
class Cost:
    """`start` and `end` bound the running month. `left_out`: prices in another currency than the customer's, which are not charged."""

    customer: str
    environment: Environment
    plan: str | None
    plan_version: int | None
    currency: str
    start: int
    end: int
    prices: tuple[PriceCost, ...]
    totals: tuple[Total, ...]
    left_out: tuple[Price, ...]


class Rating:
    """Rates what the usage file holds; nothing is stored."""

    def __init__(self, grants: Grants, usage: Usage, clock: Clock) -> None:
        self._grants = grants
        self._usage = usage
        self._clock = clock

    def cost(self, customer: str, environment: Environment = "live") -> Cost:
        """Cost to date of the running interval of each price; without a plan, of nothing. Raises NotFound.

        The plan version that the customer is on now counts for the whole interval, also when it was moved there within it.
        """
        grant = self._grants.by_customer(environment, customer)
        if grant is None:
            raise NotFound(f"There is no customer {customer[:80]!r}.")
        now = self._clock.now_us()
        start, end = period_at(*grant.calendar, now)
        prices = grant.plan.prices if grant.plan else ()
        charged = tuple(
            self._price(grant, environment, price, *interval)
            for price in prices
            if price.currency == grant.customer.currency
            for interval in _interval(grant, price, now)
        )
        return Cost(
            customer,
            environment,
            grant.plan.key if grant.plan else None,
            grant.plan.version if grant.plan else None,
            grant.customer.currency,
            start,
            end,
            charged,
            tuple(_totals(charged)),
            tuple(price for price in prices if price.currency != grant.customer.currency),
        )

    def _price(self, grant: CustomerGrant, environment: Environment, price: Price, start: int, end: int) -> PriceCost:
        if price.meter is None:
            return PriceCost(price, start, end, None, rate(price, 0))
        try:
            used = self._usage.query(
                price.meter, environment=environment, customer=grant.customer.id, start=start, end=end
            ).data
        except NotFound:  # a meter that was never put in force has counted nothing, and that is not known to be 0
            used = []
        if not used or used[0].state == "unknown":
            return PriceCost(price, start, end, None, None)
        quantity = Decimal(used[0].value or 0)  # known, and no value: no event to take a maximum or a latest value of
        return PriceCost(price, start, end, quantity, rate(price, quantity))


def _interval(grant: CustomerGrant, price: Price, now: int) -> Iterator[tuple[int, int]]:
    """The month or year that `now` is in. A price that is charged once belongs to the month in which the plan was bought."""
    start, end = period_at(*grant.calendar, now, "year" if price.interval == "year" else "month")
    if price.interval != "once" or (grant.subscription and start <= grant.subscription.started_at < end):
        yield start, end


def _totals(costs: tuple[PriceCost, ...]) -> Iterator[Total]:
    """Never across currencies, never across intervals."""
    groups: dict[tuple[str, int, int], list[Rated | None]] = {}
    for cost in costs:
        groups.setdefault((cost.price.currency, cost.start, cost.end), []).append(cost.rated)
    for (currency, start, end), rated in groups.items():
        known = [one for one in rated if one is not None]
        if len(known) < len(rated):
            yield Total(currency, start, end, None, None)
        else:
            yield Total(currency, start, end, *total(known))
