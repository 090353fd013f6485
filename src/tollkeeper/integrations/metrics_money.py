"""Metrics of the money: what came in from the payment provider, and what waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tollkeeper.core.inbox import InboxState
from tollkeeper.integrations.metrics_usage import (
    DispatchCounts,
    DriftCounts,
    OutboxCounts,
    ReportCounts,
    billed_usage_metrics,
)


class InboxCounts(Protocol):
    """`refused`: reason → webhooks. `state()` reads the database and may fail."""

    received: int
    repeated: int

    @property
    def refused(self) -> Mapping[str, int]: ...

    def state(self) -> InboxState: ...


class EffectCounts(Protocol):
    """`outcomes`: outcome → attempts."""

    @property
    def outcomes(self) -> Mapping[str, int]: ...


class PollCounts(Protocol):
    """`caught`: events that no webhook had brought."""

    caught: int


class SellingCounts(Protocol):
    """`activated`: purchases that were paid; `lapsed`: customers refused since their grace ended."""

    activated: int
    lapsed: int


class InvoicingCounts(Protocol):
    issued: int


class MoneyCounts(Protocol):
    """What keeps numbers of the money. None: there is no payment provider."""

    @property
    def inbox(self) -> InboxCounts: ...
    @property
    def inbox_effects(self) -> EffectCounts | None: ...
    @property
    def event_poll(self) -> PollCounts | None: ...
    @property
    def subscriptions(self) -> SellingCounts | None: ...
    @property
    def invoicing(self) -> InvoicingCounts: ...
    @property
    def outbox(self) -> OutboxCounts: ...
    @property
    def dispatcher(self) -> DispatchCounts | None: ...
    @property
    def reports(self) -> ReportCounts: ...
    @property
    def drift(self) -> DriftCounts | None: ...


def money_metrics(money: MoneyCounts) -> Iterator[Metric]:
    yield from inbox_metrics(money)
    yield from billed_usage_metrics(money.outbox, money.dispatcher, money.reports, money.drift)


def inbox_metrics(money: MoneyCounts) -> Iterator[Metric]:
    """Counts of this process, and what the database has now."""
    inbox, effects, poll = money.inbox, money.inbox_effects, money.event_poll
    yield CounterMetricFamily(
        "tollkeeper_webhooks_received", "Webhooks stored for the first time.", value=inbox.received
    )
    yield CounterMetricFamily(
        "tollkeeper_webhooks_repeated", "Webhooks that had been stored before.", value=inbox.repeated
    )
    refused = CounterMetricFamily(
        "tollkeeper_webhooks_refused", "Webhooks that were not stored, by reason.", labels=["reason"]
    )
    for reason, count in sorted(dict(inbox.refused).items()):
        refused.add_metric([reason], count)
    yield refused
    yield CounterMetricFamily(
        "tollkeeper_provider_events_caught",
        "Events found in the provider's list before a webhook brought them.",
        value=0 if poll is None else poll.caught,
    )
    outcomes = CounterMetricFamily(
        "tollkeeper_inbox_attempts", "Attempts to apply an event, by outcome.", labels=["outcome"]
    )
    for outcome, count in sorted(({} if effects is None else dict(effects.outcomes)).items()):
        outcomes.add_metric([outcome], count)
    yield outcomes
    selling = money.subscriptions
    yield CounterMetricFamily(
        "tollkeeper_purchases_activated",
        "Purchases that were paid and took effect.",
        value=0 if selling is None else selling.activated,
    )
    yield CounterMetricFamily(
        "tollkeeper_grace_lapsed",
        "Customers refused because they did not pay within their grace.",
        value=0 if selling is None else selling.lapsed,
    )
    yield CounterMetricFamily(
        "tollkeeper_own_invoices_issued", "Invoices issued here, without a provider.", value=money.invoicing.issued
    )
    try:
        state = inbox.state()
    except Exception:  # unknown is not zero: no sample
        return
    yield GaugeMetricFamily(
        "tollkeeper_inbox_pending", "Events whose effect is still to be applied.", value=state.pending
    )
    yield GaugeMetricFamily("tollkeeper_inbox_dead", "Events whose effect failed too often.", value=state.dead)
    yield GaugeMetricFamily(
        "tollkeeper_inbox_oldest_pending_seconds",
        "For how long the oldest pending event has waited.",
        value=state.oldest_seconds,
    )
