"""A plain reference of what is counted: a list of events and nothing clever."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tollkeeper.core.periods import period_at

METERS = {
    "api_calls": ("api.call", None),
    "tokens": ("llm.completion", "tokens"),
    "llm_calls": ("llm.completion", None),
}
"""meter → event type, property (None: counts)."""
FIRST, SECOND = ("api_calls", "tokens"), ("api_calls", "tokens", "llm_calls")
DAY_US = 86_400_000_000

Quotas = dict[str, tuple[Decimal, bool]]
"""meter → limit, hard."""


@dataclass
class Used:
    """One event: what it is (to know it again), and what it adds to each meter."""

    what: str
    environment: str
    customer: str
    subject: str | None
    at: int
    adds: dict[str, Decimal]
    type: str = ""
    meters: tuple[str, ...] = ()
    data: dict[str, Any] | None = None
    voided: bool = False
    also: set[str] = field(default_factory=set)
    """What it was amended to, which may be sent again as well."""


@dataclass
class Buyer:
    """A customer in one environment; `quotas` None: nothing bought."""

    anchor: int
    zone: str
    quotas: Quotas | None


@dataclass
class OwnKey:
    id: str
    customer: str
    environment: str
    revoked: bool = False
    expires: int | None = None
    rotated: bool = False


@dataclass
class Reference:
    version: int = 0
    buyers: dict[tuple[str, str], Buyer] = field(default_factory=dict)
    keys: dict[str, OwnKey] = field(default_factory=dict)
    events: dict[tuple[str, str, str], Used] = field(default_factory=dict)

    @property
    def meters(self) -> tuple[str, ...]:
        return (FIRST, SECOND)[self.version]

    def quotas(self, plan: str) -> Quotas:
        """What a plan of the catalog in force promises; the catalogs of `test_model` say the same."""
        if plan == "free":
            return {"api_calls": (Decimal((12, 15)[self.version]), True), "tokens": (Decimal("10.5"), True)}
        return {"api_calls": (Decimal(20), False), "tokens": (Decimal((30, 25)[self.version]), True)}

    def period(self, environment: str, customer: str, at: int) -> tuple[int, int]:
        buyer = self.buyers[environment, customer]
        return period_at(buyer.anchor, buyer.zone, at)

    def used(self, environment: str, customer: str, meter: str, now: int) -> Decimal:
        """In the current period."""
        start, end = self.period(environment, customer, now)
        return self.total(environment, meter, start, end, customer=customer)

    def total(self, environment: str, meter: str, start: int, end: int, **group: str | None) -> Decimal:
        found = (
            event.adds[meter]
            for event in self.events.values()
            if event.environment == environment
            and meter in event.adds
            and start <= event.at < end
            and all(getattr(event, name) == value for name, value in group.items())
        )
        return sum(found, Decimal(0))

    def check(self, raw: str, meter: str, cost: str, id: str | None, now: int) -> str:
        """The code that is due; `accepted`, `duplicate` or `conflict` when it is admitted and costs something. Records."""
        key = self.keys.get(raw)
        if key is None:
            return "NOT_FOUND"
        if key.revoked:
            return "DISABLED"
        where = (key.environment, key.customer)
        buyer = self.buyers[where]
        if buyer.quotas is None:
            return "PAYMENT_REQUIRED"
        if key.expires is not None and now >= key.expires:
            return "EXPIRED"
        if meter not in self.meters:
            return "no such meter"
        amount = Decimal(cost)
        limit, hard = buyer.quotas.get(meter, (Decimal(0), False))
        if hard and amount > 0 and self.used(*where, meter, now) + amount > limit:
            return "QUOTA_EXCEEDED"
        if amount == 0:
            return "VALID"
        type, property = METERS[meter]
        adds = {meter: amount}
        for other in self.meters:
            if other != meter and METERS[other] == (type, None):
                adds[other] = Decimal(1)
        what = json.dumps([type, key.id, key.customer, property, cost])
        at = now // 1000 * 1000
        sent = None if property is None else {property: amount}
        used = Used(what, key.environment, key.customer, key.id, at, adds, type, self.meters, sent)
        return self.record((key.environment, "tollkeeper:check", id or f"gate {len(self.events)}"), used)

    def event(self, environment: str, event: Any, customer: str, at: int) -> str:
        adds = self.adds(event.type, self.meters, event.data)
        what = fingerprint(event.type, event.subject, customer, event.data)
        used = Used(what, environment, customer, event.subject, at, adds, event.type, self.meters, event.data)
        return self.record((environment, event.source, event.id), used)

    @staticmethod
    def adds(type: str, meters: tuple[str, ...], data: dict[str, Any] | None) -> dict[str, Decimal]:
        found: dict[str, Decimal] = {}
        for meter in meters:
            of_type, property = METERS[meter]
            if of_type == type:
                if property is None:
                    found[meter] = Decimal(1)
                elif property in (data or {}):
                    found[meter] = Decimal((data or {})[property])
        return found

    def void(self, where: tuple[str, str, str]) -> None:
        event = self.events[where]
        event.voided, event.adds = True, {}

    def amend(self, where: tuple[str, str, str], data: dict[str, Any]) -> None:
        """Of an event from outside."""
        event = self.events[where]
        event.adds, event.data = self.adds(event.type, event.meters, data), data
        event.also.add(fingerprint(event.type, event.subject, event.customer, data))

    def record(self, where: tuple[str, str, str], used: Used) -> str:
        known = self.events.get(where)
        if known is None:
            self.events[where] = used
            return "accepted"
        return "duplicate" if used.what in {known.what, *known.also} else "conflict"


def fingerprint(type: str, subject: str | None, customer: str, data: dict[str, Any] | None) -> str:
    return json.dumps([type, subject, customer, data], sort_keys=True, default=repr)
