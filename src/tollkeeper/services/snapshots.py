"""What the gate keeps in memory: accounts that are counted on, and snapshots of keys that point into them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from tollkeeper.core.customers import Environment
from tollkeeper.core.events import LogRow
from tollkeeper.core.gate import NO_TERMS, Allowance, Bucket, Terms, Total, Who
from tollkeeper.core.grants import CustomerGrant, KeyGrant
from tollkeeper.core.metering import NANOS, SUMMED, Filter, format_quantity, join_quantity
from tollkeeper.core.plans import DEFAULT_WEIGHT, RateLimit
from tollkeeper.services.meters import ExtraEntry, MeterEntry, MeterSet

FOREVER = 1 << 62


class Account:
    """What is counted for one customer in one environment. It outlives snapshots: a new plan keeps the buckets and what is used."""

    __slots__ = (
        "anchor",
        "buckets",
        "carried_from",
        "customer",
        "end",
        "end_ns",
        "environment",
        "flag",
        "following",
        "stale",
        "start",
        "start_ns",
        "start_s",
        "totals",
        "zone",
    )

    def __init__(
        self, environment: Environment, customer: str, anchor: int, zone: str, carried_from: int | None = None
    ) -> None:
        self.environment = environment
        self.customer = customer
        self.anchor = anchor
        self.zone = zone
        self.carried_from = carried_from
        self.stale = False
        self.flag = 1 if environment == "test" else 0
        self.buckets: dict[tuple[str, str, int, int], Bucket] = {}
        self.totals: dict[int, Total] = {}
        self.following: dict[int, int] = {}
        self.start = self.end = self.start_s = self.start_ns = self.end_ns = 0

    @property
    def counting(self) -> tuple[int, str, int | None]:
        return self.anchor, self.zone, self.carried_from

    def since(self, start: int) -> int:
        """From when on usage counts against the quotas of a period: earlier than its start where a change of plan cut one short."""
        first = start == self.anchor - self.anchor % 1_000_000
        return self.carried_from if first and self.carried_from is not None else start

    def total(self, meter: int) -> Total:
        total = self.totals.get(meter)
        if total is None:
            total = self.totals[meter] = Total()
        return total

    def begin(self, start: int, end: int, used: Mapping[int, int], following: Mapping[int, int]) -> None:
        """Make [start, end) the current period. Totals keep their identity, since snapshots hold them."""
        self.start, self.end = start, end
        self.start_s, self.start_ns, self.end_ns = start // 1_000_000, start * 1000, end * 1000
        for total in self.totals.values():
            total.used = 0
        for meter, value in used.items():
            self.total(meter).used = value
        self.following = dict(following)


class MeterView(Terms):
    """All that a check of one meter by one key needs, looked up once."""

    __slots__ = ("account", "entry", "epoch", "event_type", "extras", "others", "property", "total", "unit_data")

    def __init__(
        self, account: Account, entry: MeterEntry, buckets: list[Bucket], allowance: Allowance | None, epoch: int
    ) -> None:
        super().__init__(buckets, allowance)
        self.epoch = epoch
        self.account = account
        self.entry = entry
        self.total = account.total(entry.number)
        self.event_type = entry.meter.event_type
        self.property = None if entry.by_count else entry.property
        self.unit_data = None if self.property is None else f'{{"{self.property}":1}}'
        self.others: tuple[Other, ...] = ()
        self.extras: tuple[ExtraEntry, ...] = ()


class Other:
    """Another meter that counts the events of checks of the first."""

    __slots__ = ("entry", "filters", "number", "total")

    def __init__(self, entry: MeterEntry, total: Total, filters: tuple[Filter, ...]) -> None:
        self.entry = entry
        self.number = entry.number
        self.total = total
        self.filters = filters

    def adds(self, amount: int, property: str | None) -> int | None:
        """Billionths that a check of `amount` adds, when its quantity stands in `property` of the event's data; None: it does not count."""
        if self.filters:
            text = format_quantity(join_quantity(0, amount))
            if not all(one.passes(text) for one in self.filters):
                return None
        if self.entry.meter.aggregation not in SUMMED:
            return 0
        return NANOS if self.entry.by_count and property is not None else amount


def other_of(entry: MeterEntry, property: str | None, total: Callable[[int], Total]) -> Other | None:
    """How a meter counts the checks of a meter of the same event type whose quantity stands in `property`; None: it never does."""
    if not entry.by_count and entry.property != property:
        return None  # the events of these checks do not carry its value
    if not all(one.property == property or one.passes(None) for one in entry.meter.filters):
        return None
    filters = tuple(one for one in entry.meter.filters if one.property == property)
    return Other(entry, total(entry.number), filters)


class Snapshot:
    """One key as the gate sees it. Dropped whenever the key, its customer, their plan or the catalog changes."""

    __slots__ = ("expires", "key", "last_used", "meters", "networks", "refusal", "scopes", "terms", "who")

    def __init__(self, grant: KeyGrant, account: Account | None) -> None:
        key = grant.key
        customer = grant.grant
        plan = customer.plan.key if customer is not None and customer.plan is not None else None
        self.key = key
        self.who = Who(key.customer, key.id, key.environment, plan)
        self.expires = FOREVER if key.expires_at is None else key.expires_at * 1000
        self.scopes = frozenset(key.scopes)
        self.networks = tuple(ipaddress.ip_network(ip, strict=False) for ip in key.ips)
        self.last_used = 0
        self.meters: dict[str, MeterView] = {}
        self.terms = NO_TERMS
        self.refusal: tuple[Any, str | None] | None = None
        if key.revoked_at is not None:
            self.refusal = ("DISABLED", None)
        elif key.kind == "server" or customer is None or account is None:
            self.refusal = ("FORBIDDEN", "This is a server key: it may call Tollkeeper, it is not a customer's key.")
        elif customer.subscription is None or customer.subscription.status in ("ended", "unpaid", "paused"):
            self.refusal = ("PAYMENT_REQUIRED", None)


def fill(snapshot: Snapshot, account: Account, grant: CustomerGrant, meters: MeterSet, shadow: bool) -> None:
    """All that checks by this key need of the customer's limits, quotas and meters. `shadow`: what they refuse is let through."""

    def bucket(limit: RateLimit) -> Bucket:
        holder = snapshot.key.id if limit.per == "key" else ""
        where = (holder, limit.name, limit.limit, limit.window_seconds)
        found = account.buckets.get(where)
        if found is None:
            found = account.buckets[where] = Bucket(
                limit.name, limit.limit, limit.window_seconds, limit.meter is not None
            )
        return found

    limits = [(limit.meter, bucket(limit)) for limit in grant.limits]
    snapshot.terms = Terms([b for meter, b in limits if meter is None])
    snapshot.terms.shadow = shadow
    snapshot.terms.weight = weight = DEFAULT_WEIGHT if grant.plan is None else grant.plan.weight
    quotas = {quota.meter: quota for quota in grant.quotas}
    for key, entry in meters.by_key.items():
        if not entry.meter.checkable:
            continue
        quota = quotas.get(key)
        view = snapshot.meters[key] = MeterView(
            account,
            entry,
            [b for meter, b in limits if meter is None or meter == key],
            None if quota is None else Allowance(key, quota.limit, quota.kind == "hard"),
            meters.epoch,
        )
        view.shadow, view.weight = shadow, weight
        type = entry.meter.event_type
        others = (other_of(o, view.property, account.total) for o in meters.by_type[type] if o is not entry)
        view.others = tuple(other for other in others if other is not None)
        view.extras = meters.extra.get(type, ())


def count_cell(account: Account, meter: int, cell: int, billionths: int) -> None:
    """Add to what a cell (its start in seconds) of a meter holds, where it is of the current period or a later one."""
    at = cell * 1_000_000
    if account.start <= at < account.end:
        account.total(meter).used += billionths
    elif at >= account.end:
        account.following[meter] = account.following.get(meter, 0) + billionths


def count_row(account: Account, row: LogRow, sign: int) -> None:
    """Count (sign 1) or take back (-1) a row of the log in the totals of its period, where it is the current one or a later one."""
    at = row[7]
    if account.start <= at < account.end:
        totals = account.totals
        for meter, _, units, nanos in row[10]:
            total = totals.get(meter) or account.total(meter)
            total.used += sign * (units * NANOS + nanos)
    elif at >= account.end:
        following = account.following
        for meter, _, units, nanos in row[10]:
            following[meter] = following.get(meter, 0) + sign * (units * NANOS + nanos)


def count_others(view: MeterView, amount: int, sign: int) -> None:
    """Count (sign 1) or give back (-1) what a check adds to the other meters of its event type."""
    for other in view.others:
        adds = other.adds(amount, view.property)
        if adds is not None:
            other.total.used += sign * adds
