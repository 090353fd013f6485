"""Metrics of usage on its way to the payment provider: what is owed, what could not be reported, what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tollkeeper.core.drift import DriftSum
from tollkeeper.core.outbox import Status


class OutboxSum(Protocol):
    @property
    def counts(self) -> Mapping[Status, int]: ...
    @property
    def oldest_seconds(self) -> float: ...


class OutboxCounts(Protocol):
    """`state()` reads the database and may fail."""

    def state(self) -> OutboxSum: ...


class DispatchCounts(Protocol):
    """`counts`: how an attempt ended → attempts."""

    @property
    def counts(self) -> Mapping[str, int]: ...


class ReportCounts(Protocol):
    """Of this process. `behind`: the log ends before what was reported of it."""

    made: int
    unknown: int
    undivided: int
    behind: bool


class DriftCounts(Protocol):
    """`sums()` reads the database and may fail."""

    def sums(self) -> Mapping[tuple[str, str], DriftSum]: ...


def billed_usage_metrics(
    outbox: OutboxCounts, dispatcher: DispatchCounts | None, reports: ReportCounts, drift: DriftCounts | None
) -> Iterator[Metric]:
    """Counts of this process, and what the database has now: what cannot be read has no sample."""
    yield CounterMetricFamily("tollkeeper_usage_reports", "Reports of usage put into the outbox.", value=reports.made)
    yield CounterMetricFamily(
        "tollkeeper_usage_reports_unknown",
        "Times that usage was not reported because its total was not known.",
        value=reports.unknown,
    )
    yield CounterMetricFamily(
        "tollkeeper_usage_reports_undivided",
        "Times that usage could not be divided at the edge of a period, its events being gone.",
        value=reports.undivided,
    )
    yield GaugeMetricFamily(
        "tollkeeper_usage_reports_behind",
        "1 while nothing is reported because the usage log is older than what was reported of it.",
        value=int(reports.behind),
    )
    attempts = CounterMetricFamily(
        "tollkeeper_outbox_attempts", "Attempts to send a message, by what it was after them.", labels=["status"]
    )
    for ended, count in sorted(({} if dispatcher is None else dict(dispatcher.counts)).items()):
        attempts.add_metric([ended], count)
    yield attempts
    try:
        state = outbox.state()
    except Exception:  # unknown is not zero: no sample
        state = None
    if state is not None:
        messages = GaugeMetricFamily(
            "tollkeeper_outbox_messages", "Messages that are not delivered, by status.", labels=["status"]
        )
        for status, count in sorted(state.counts.items()):
            messages.add_metric([status], count)
        yield messages
        yield GaugeMetricFamily(
            "tollkeeper_outbox_oldest_seconds",
            "For how long the oldest message that is neither delivered nor given up has been owed.",
            value=state.oldest_seconds,
        )
    if drift is not None:
        yield from _drift(drift)


def _drift(drift: DriftCounts) -> Iterator[Metric]:
    try:
        sums = drift.sums()
    except Exception:
        return
    comparisons = GaugeMetricFamily(
        "tollkeeper_drift_comparisons",
        "Customers' periods compared with the provider, by meter and what came of it.",
        labels=["meter", "state"],
    )
    units = GaugeMetricFamily(
        "tollkeeper_drift_units",
        "By how many units they differ, added up without signs. None where the provider did not answer.",
        labels=["meter", "state"],
    )
    for (meter, status), one in sorted(sums.items()):
        comparisons.add_metric([meter, status], one.comparisons)
        if one.units is not None:
            units.add_metric([meter, status], float(one.units))
    yield comparisons
    yield units
