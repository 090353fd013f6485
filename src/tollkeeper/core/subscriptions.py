"""What a provider's subscription means here: decided from everything that is known, never from the order in which it became known.

Each thing the provider has is kept as it was last read (`newer`). What a customer may do is then a function of all that is kept
(`govern`), and so are the periods that are billed (`timeline`). An end is for good, and a read that began before the one that is kept
is no news, so that any order, any number and any overlap of events comes to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

from tollkeeper.core.billing import BillingPeriod, PeriodState
from tollkeeper.core.customers import Environment, SubscriptionStatus
from tollkeeper.core.ends import with_tails
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.periods import SECOND_US, Interval, period_at
from tollkeeper.core.provider import ProviderItem, ProviderSubscription
from tollkeeper.core.purchases import Purchase

DAY_US: Final = 86_400 * SECOND_US
ENDED: Final = frozenset({"canceled", "incomplete_expired"})
GRANTS: Final[Mapping[str, SubscriptionStatus]] = {
    "active": "active",
    "trialing": "trialing",
    "past_due": "past_due",
    "unpaid": "unpaid",
    "paused": "paused",
}
"""Our status by the provider's. `incomplete` is a purchase that was not paid: it gives nothing and takes nothing."""
STATUSES: Final = frozenset({*GRANTS, *ENDED, "incomplete"})
OPEN_DISPUTES: Final = frozenset({"needs_response", "under_review"})
CLOSED_DISPUTES: Final = frozenset({"won", "lost", "warning_closed", "prevented"})
_MOST_MISSED: Final = 120
_AT_ONCE_US: Final = 60 * SECOND_US
_RANK: Final[Mapping[SubscriptionStatus, int]] = {"active": 5, "trialing": 5, "past_due": 4, "paused": 3, "unpaid": 2}


@dataclass(frozen=True, slots=True)
class KnownSubscription:
    """A provider's subscription as it was last read. `read_at`: when that read began. `ended_at` never goes away again.

    `subscription` is ours, as long as it is the one that governs. `held_until`: when the gate that went by it learned of its end.
    `paused_at` and `resumed_at`: when the last pause was seen first, and when it was seen to be over.
    """

    provider: str
    environment: Environment
    id: str
    customer: str
    status: str
    anchor: int
    period_start: int
    period_end: int
    read_at: int
    created_at: int
    subscription: str | None = None
    plan: str | None = None
    plan_version: int | None = None
    cancel_at: int | None = None
    ended_at: int | None = None
    held_until: int | None = None
    grace_until: int | None = None
    trial_start: int | None = None
    trial_end: int | None = None
    paused: bool = False
    paused_at: int | None = None
    resumed_at: int | None = None
    latest_invoice: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    items: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Contract:
    """What a customer has bought. `source`: the provider's subscription, or the purchase. Its months count from `anchor`, in UTC."""

    source: str
    status: SubscriptionStatus
    plan: str
    plan_version: int
    anchor: int
    grace_until: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """[start, end) on a plan version, as the provider told it."""

    start: int
    end: int
    subscription: str
    plan: str
    plan_version: int


def newer(
    have: KnownSubscription | None, read: KnownSubscription, now: int, *, held: bool = False
) -> KnownSubscription | None:
    """What is to be kept of a read; None when it is no news. `held`: the gate goes by it until now.

    A change at the provider is followed by an event, and so by a read that begins after it: a read that began before the one that is
    kept can only be older. Should the clock have been set back, what is kept from the future is no bar.
    """
    if have is None:
        return read
    if have.ended_at is not None or read.read_at < have.read_at <= now:
        return None
    if read.status not in STATUSES:  # a status that nobody foresaw changes nothing of what the customer may
        read = replace(read, status=have.status)
    if read.plan is None and read.items == have.items:
        read = replace(read, plan=have.plan, plan_version=have.plan_version)
    held_until = now if held and read.ended_at is not None else None
    begun = have.paused_at if have.paused or not read.paused else read.read_at
    over = None if read.paused else read.read_at if have.paused else have.resumed_at
    kept = replace(read, subscription=have.subscription, grace_until=have.grace_until, held_until=held_until)
    return replace(kept, paused_at=begun, resumed_at=over)


def known(
    provider: str,
    environment: Environment,
    customer: str,
    plan: tuple[str, int] | None,
    read: ProviderSubscription,
    read_at: int,
    ours: Sequence[ProviderItem] = (),
) -> KnownSubscription:
    """A subscription as it was read from `read_at` on. The period is that of its usage: the shortest of metered items, else of all.

    `ours`: the items of prices of ours, when there are any; what is sold beside them has no part in the period.
    """
    start, end = span_of(ours or read.items) or (read.created_at, read.created_at + 1)
    ended = None
    if read.status in ENDED:
        ended = read.ended_at if read.ended_at is not None else min(read.cancel_at or read_at, read_at)
    return KnownSubscription(
        provider=provider,
        environment=environment,
        id=read.id,
        customer=customer,
        status=read.status,
        anchor=read.anchor,
        period_start=start,
        period_end=end,
        read_at=read_at,
        created_at=read.created_at,
        plan=plan[0] if plan else None,
        plan_version=plan[1] if plan else None,
        cancel_at=read.cancel_at,
        ended_at=ended,
        trial_start=read.trial_start,
        trial_end=read.trial_end,
        paused=read.paused,
        paused_at=read_at if read.paused else None,
        latest_invoice=read.latest_invoice,
        metadata=dict(read.metadata),
        items=[item_to_dict(item) for item in read.items],
    )


def item_to_dict(item: ProviderItem) -> dict[str, Any]:
    return {name: getattr(item, name) for name in ProviderItem.__slots__}


def span_of(items: Sequence[ProviderItem]) -> tuple[int, int] | None:
    spans = [(i.period_start, i.period_end) for i in items if i.metered and i.period_start < i.period_end] or [
        (i.period_start, i.period_end) for i in items if i.period_start < i.period_end
    ]
    return min(spans, key=lambda span: (span[1] - span[0], -span[0])) if spans else None


def voided_by_pause(one: KnownSubscription | None, finalized_at: int | None, voided_at: int | None) -> bool:
    """Whether an invoice of a contract is void because it was paused: while it was, and in the moment in which it was made final.

    A person voids an invoice later than that. The pause may have begun up to a day before it was seen.
    """
    if one is None or one.paused_at is None or voided_at is None:
        return False
    at_once = finalized_at is None or voided_at - finalized_at <= _AT_ONCE_US
    return at_once and one.paused_at - DAY_US <= voided_at and (one.resumed_at is None or voided_at <= one.resumed_at)


def held(known: Iterable[KnownSubscription]) -> bool:
    """Whether every contract of a customer that runs is paused: what would go on the next invoice has to wait."""
    running = [one for one in known if one.ended_at is None and one.status in GRANTS]
    return bool(running) and all(one.paused for one in running)


def calendar_anchor(have: KnownSubscription) -> int:
    """From where to count months, in UTC, so that they are the provider's: its own anchor, when its period ends on that calendar.

    A trial ends at the anchor and began some days before it: the allowance of a trial counts from its beginning.
    """
    if have.status != "trialing" and period_at(have.anchor, "UTC", have.period_end - 1)[1] == have.period_end:
        return have.anchor
    return have.period_start


def in_trial(one: KnownSubscription | None, start: int, end: int) -> bool:
    """Whether [start, end) of a contract is part of its trial, in which nothing is charged, usage neither."""
    if one is None or one.trial_start is None or one.trial_end is None:
        return False
    return one.trial_start <= start and end <= one.trial_end


def grace_end(have: KnownSubscription, invoices: Iterable[Invoice], days: int) -> int | None:
    """Until when a customer who did not pay may go on: counted from the oldest invoice that is still owed."""
    if have.status != "past_due":
        return None
    owed = [i.finalized_at or i.created_at for i in invoices if i.subscription == have.id and i.status == "open"]
    if owed:
        return min(owed) + days * DAY_US
    return have.grace_until if have.grace_until is not None else have.read_at + days * DAY_US


def disputed(invoices: Sequence[Invoice]) -> bool:
    """Whether a payment was taken back: the dispute is open, or it was lost and nothing was paid since."""
    for invoice in invoices:
        for status in invoice.disputes.values():
            if status in OPEN_DISPUTES:
                return True
            later = (other for other in invoices if other.created_at > invoice.created_at)
            if status == "lost" and not any(other.status == "paid" and not other.disputes for other in later):
                return True
    return False


def dispute_after(have: str | None, read: str) -> str:
    """A dispute that is closed stays closed."""
    return have if have in CLOSED_DISPUTES else read


def refunded_in_full(invoice: Invoice) -> bool:
    return invoice.status == "paid" and invoice.amount_paid > 0 and invoice.refunded >= invoice.amount_paid


def govern(
    subscriptions: Sequence[KnownSubscription],
    purchases: Sequence[Purchase],
    invoices: Sequence[Invoice],
    now: int,
) -> Contract | None:
    """The contract that holds: the best standing, then the newest. None: nothing that was bought gives a right to anything.

    `subscriptions` carry their `grace_until` (`grace_end`); `purchases` and `invoices` are all of the customer.
    """
    found: list[tuple[int, int, str, Contract]] = []
    for one in subscriptions:
        status = GRANTS.get(one.status)
        if status is None or one.ended_at is not None or one.plan is None or one.plan_version is None:
            continue
        own = [invoice for invoice in invoices if invoice.subscription == one.id]
        if one.paused:
            status = "paused"
        elif disputed(own) or (status == "past_due" and one.grace_until is not None and one.grace_until <= now):
            status = "unpaid"
        contract = Contract(
            one.id,
            status,
            one.plan,
            one.plan_version,
            calendar_anchor(one),
            one.grace_until if status == "past_due" else None,
        )
        found.append((_RANK[status], one.created_at, one.id, contract))
    for purchase in purchases:
        paid = [
            i
            for i in invoices
            if purchase.document.get("payment") and i.document.get("payment") == purchase.document["payment"]
        ]
        if purchase.kind != "payment" or purchase.status != "completed" or any(refunded_in_full(i) for i in paid):
            continue
        if purchase.plan is None or purchase.plan_version is None or purchase.completed_at is None:
            continue
        status = "unpaid" if disputed(paid) else "active"
        bought = Contract(purchase.id, status, purchase.plan, purchase.plan_version, purchase.completed_at)
        found.append((_RANK[status], purchase.completed_at, purchase.id, bought))
    return max(found, key=lambda entry: entry[:3])[3] if found else None


def carried_from(periods: Sequence[BillingPeriod], one: KnownSubscription) -> int | None:
    """Where the month of quota began that a change of plan cut short at the start of the running period; None when none was.

    A hard quota then is the new limit less what was used since.
    """
    own = sorted(
        (p for p in periods if p.subscription == one.id and p.start <= one.period_start), key=lambda p: -p.start
    )
    since = None
    for later, before in pairwise(own):
        if before.end != later.start or (before.plan, before.plan_version) == (later.plan, later.plan_version):
            break
        month, end = period_at(
            before.start, "UTC", before.start if before.end <= before.start + 31 * DAY_US else later.start
        )
        if later.start >= end or month == later.start:
            break
        since = month
    return since


def timeline(
    have: Sequence[BillingPeriod],
    running: Iterable[Span],
    billed: Iterable[Span],
    ends: Mapping[str, int],
    held: Mapping[str, int],
    invoices: Sequence[Invoice],
    provider: str,
    environment: Environment,
    customer: str,
    silent: Set[str] = frozenset(),
) -> list[BillingPeriod]:
    """The periods of a customer at one provider, in order of time, none overlapping another.

    `running` is what the subscriptions say now, and holds above everything; `billed` is what lines of invoices say, the oldest first, and
    holds above what is there. Each period ends where the next begins, and where its subscription ended (`ends`; `held`: when the gate
    learned of that). Whole periods that were missed between two of a subscription are filled in by its calendar. `silent` are subscriptions
    that ended so long ago that a last invoice would have come.
    """
    found = {period.start: period for period in have}

    def put(span: Span, least: int = 0) -> None:
        contract = (span.subscription, span.plan, span.plan_version)
        before = found.get(span.start)
        if before is None:
            found[span.start] = BillingPeriod(environment, customer, span.start, span.end, provider, *contract)
        else:
            subscription, plan, version = contract
            end = max(least, span.end)
            if before.subscription != subscription:  # two contracts that began in one second: the later one has it
                before = replace(before, state="open", invoice=None, finalized_at=None)
            found[span.start] = replace(before, end=end, subscription=subscription, plan=plan, plan_version=version)

    for span in billed:
        before = found.get(span.start)  # a longer end was seen running: what is cut short is cut again below
        put(span, before.end if before is not None and before.subscription == span.subscription else 0)
    spans = list(running)
    for span in spans:
        put(span)
    ordered: list[BillingPeriod] = []
    for period in sorted(found.values(), key=lambda p: p.start):
        end = min(period.end, ends.get(period.subscription, period.end))
        before = ordered[-1] if ordered else None
        goes_on = before is not None and (before.subscription, before.end) == (period.subscription, period.start)
        if period.start > end or (period.start == end and goes_on):
            continue  # it began after the end: the provider never lived it
        period = replace(period, end=end)
        if ordered:
            last = ordered[-1]
            if last.end > period.start:
                ordered[-1] = last = replace(last, end=period.start)
            ordered += _missed(last, period)
        ordered.append(period)
    for span in spans:
        ordered = _resumed(ordered, span, ends)
    return [
        _billed(period, invoices, period.subscription in silent and ends.get(period.subscription) == period.end)
        for period in with_tails(ordered, ends, held)
    ]


def _resumed(ordered: list[BillingPeriod], span: Span, ends: Mapping[str, int]) -> list[BillingPeriod]:
    """With what is left of a running contract's period, when another that was in its place has ended meanwhile."""
    before = next((period for period in reversed(ordered) if period.start < span.end), None)
    if before is None or span.subscription in ends or before.subscription not in ends:
        return ordered
    if not span.start < before.end < span.end:
        return ordered
    contract = (span.subscription, span.plan, span.plan_version)
    left = BillingPeriod(before.environment, before.customer, before.end, span.end, before.provider, *contract)
    return sorted([*ordered, left], key=lambda period: period.start)


def _missed(last: BillingPeriod, following: BillingPeriod) -> list[BillingPeriod]:
    """Whole periods between two of one subscription, when both lie on one calendar."""
    if last.subscription != following.subscription or last.end >= following.start:
        return []
    interval: Interval = "month" if following.end - following.start <= 31 * DAY_US else "year"
    filled: list[BillingPeriod] = []
    at = last.end
    while at < following.start and len(filled) < _MOST_MISSED:
        start, end = period_at(following.start, "UTC", at, interval)
        if start != at:
            return []
        filled.append(replace(last, start=start, end=end, state="open", invoice=None, finalized_at=None, stale=True))
        at = end
    return filled if at == following.start else []


def _billed(period: BillingPeriod, invoices: Sequence[Invoice], over: bool) -> BillingPeriod:
    """With its invoice: the first of its subscription that was made at its end or later.

    `over`: none will come, since the provider had nothing to bill when the contract ended. The period is invoiced then, by none, and so is
    one of no length, and one that a person had billed without it.
    """
    made = [
        invoice
        for invoice in invoices
        if invoice.subscription == period.subscription and invoice.created_at > period.end - SECOND_US
    ]
    own = [
        one for one in made if one.status != "void" or one.finalized_at is not None
    ]  # not a draft that was thrown away
    if not own:
        over = (over and not made) or period.start == period.end
        over = over or (period.state == "invoiced" and period.invoice is None)
        return replace(period, state="invoiced" if over else "open", invoice=None)
    invoice = min(own, key=lambda i: (i.created_at, i.id))
    state: PeriodState = "closing" if invoice.status == "draft" else "invoiced"
    return replace(period, state=state, invoice=invoice.id)
