"""Prometheus metrics: a collector that reads, when asked, the plain numbers other parts keep; nothing is called per request.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tollkeeper.core.stats import Histogram, RequestStats
from tollkeeper.integrations.metrics_money import MoneyCounts, money_metrics

Scope = MutableMapping[str, Any]


class HoldCounts(Protocol):
    """Reservations: how many are held, and how many lapsed."""

    lapsed: int

    def __len__(self) -> int: ...


class GateCounts(Protocol):
    """`decisions`: environment → code → how many. `cached`: snapshots of keys in memory."""

    early_lost: int
    early_repeated: int

    @property
    def decisions(self) -> Mapping[str, Mapping[str, int]]: ...
    @property
    def cached(self) -> int: ...
    @property
    def holds(self) -> HoldCounts: ...


class IngestCounts(Protocol):
    """`counts`: answer → events (accepted, duplicate, conflict, rejected; and unmatched, part of accepted).

    `rejected`: code → events.
    """

    counts: dict[str, int]
    rejected: dict[str, int]


class WriterCounts(Protocol):
    """The usage log's writer. `queued`: submissions that wait for the next commit."""

    commits: int
    rows: int
    failed_commits: int
    wal_pages: int
    commit_seconds: Histogram

    @property
    def queued(self) -> int: ...


class RetentionCounts(Protocol):
    """`removed`: events taken out of the log by age."""

    removed: int


class StepCounts(Protocol):
    """One background step. `succeeded_at` in µs since 1970, None before the first time."""

    name: str
    runs: int
    failures: int
    succeeded_at: int | None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers are. `proxy`: outcome → requests, of the proxies in this process; `unread`: their answers without a size;
    `files`: role → path.

    `free_bytes`: what of the usage file later events will use again.
    """

    version: str
    requests: RequestStats
    gate: GateCounts
    ingest: IngestCounts
    writer: WriterCounts
    retention: RetentionCounts
    steps: Callable[[], Iterable[StepCounts]]
    files: Mapping[str, Path]
    free_bytes: Callable[[], int]
    proxy: Callable[[], Mapping[str, int]] = dict
    money: MoneyCounts | None = None
    unread: Callable[[], int] = int


class TollkeeperCollector(Collector):
    """Everything about this process that is Tollkeeper's own."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not collect

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("tollkeeper_build_info", "The version that runs; always 1.", labels=["version"])
        build.add_metric([self._sources.version], 1)
        yield build
        yield from self._gate()
        yield from self._requests()
        yield from self._events()
        yield from self._log()
        yield from self._background()
        if self._sources.money is not None:
            yield from money_metrics(self._sources.money)

    def _gate(self) -> Iterator[Metric]:
        gate = self._sources.gate
        decisions = CounterMetricFamily(
            "tollkeeper_decisions", "Answers of the gate, by code and environment.", labels=["code", "environment"]
        )
        for environment, by_code in gate.decisions.items():
            for code, count in sorted(by_code.items()):
                decisions.add_metric([code, environment], count)
        yield decisions
        yield _counter(
            "tollkeeper_early_lost", "Checks answered before their commit that then failed.", gate.early_lost
        )
        yield _counter(
            "tollkeeper_early_repeated",
            "Checks answered before their commit whose id had been counted already.",
            gate.early_repeated,
        )
        yield GaugeMetricFamily(
            "tollkeeper_reservations_held",
            "Reservations neither committed, released nor lapsed.",
            value=len(gate.holds),
        )
        yield _counter(
            "tollkeeper_reservations_lapsed", "Reservations that nobody settled within an hour.", gate.holds.lapsed
        )
        yield GaugeMetricFamily("tollkeeper_cached_keys", "Keys whose snapshot is in memory.", value=gate.cached)
        outcomes = self._sources.proxy()
        proxied = CounterMetricFamily("tollkeeper_proxy_requests", "Proxied requests, by outcome.", labels=["outcome"])
        for outcome, count in sorted(outcomes.items()):
            proxied.add_metric([outcome], count)
        yield proxied
        yield _counter(
            "tollkeeper_proxy_sizes_unread",
            "Proxied calls whose size could not be read; what was reserved was counted.",
            self._sources.unread(),
        )

    def _requests(self) -> Iterator[Metric]:
        durations = HistogramMetricFamily(
            "tollkeeper_http_request_duration_seconds",
            "Time from a request's arrival to the end of its answer.",
            labels=["method", "route", "status"],
        )
        for method, route, status, histogram in self._sources.requests.all():
            durations.add_metric([method, route, status], _buckets(histogram), histogram.sum)
        yield durations

    def _events(self) -> Iterator[Metric]:
        ingest = self._sources.ingest
        answers = CounterMetricFamily(
            "tollkeeper_events", "Usage events sent to the API, by answer.", labels=["answer"]
        )
        for answer in ("accepted", "duplicate", "conflict", "rejected"):
            answers.add_metric([answer], ingest.counts.get(answer, 0))
        yield answers
        rejected = CounterMetricFamily("tollkeeper_events_rejected", "Rejected events, by code.", labels=["code"])
        for code, count in sorted(ingest.rejected.items()):
            rejected.add_metric([code], count)
        yield rejected
        yield _counter(
            "tollkeeper_events_unmatched",
            "Events that were accepted and that no meter counts.",
            ingest.counts.get("unmatched", 0),
        )

    def _log(self) -> Iterator[Metric]:
        writer = self._sources.writer
        yield _counter("tollkeeper_usage_commits", "Transactions of the usage log.", writer.commits)
        yield _counter("tollkeeper_usage_failed_commits", "Transactions the usage log refused.", writer.failed_commits)
        yield _counter("tollkeeper_usage_rows", "Rows answered by those transactions.", writer.rows)
        yield HistogramMetricFamily(
            "tollkeeper_usage_commit_duration_seconds",
            "Time of one transaction of the usage log, fsync included.",
            buckets=_buckets(writer.commit_seconds),
            sum_value=writer.commit_seconds.sum,
        )
        yield GaugeMetricFamily(
            "tollkeeper_usage_queued", "Submissions that wait for the next commit.", value=writer.queued
        )
        yield GaugeMetricFamily(
            "tollkeeper_usage_wal_pages", "Pages of the usage log's write-ahead log.", value=writer.wal_pages
        )
        sizes = GaugeMetricFamily("tollkeeper_file_size_bytes", "Size of a database file.", labels=["file"])
        for role, path in self._sources.files.items():
            try:
                sizes.add_metric([role], path.stat().st_size)
            except OSError:
                continue  # unknown is not zero: no sample
        yield sizes
        yield GaugeMetricFamily(
            "tollkeeper_usage_free_bytes",
            "Space inside the usage file that removed events left and later ones use again.",
            value=self._sources.free_bytes(),
        )
        yield _counter(
            "tollkeeper_retention_removed_events",
            "Events taken out of the usage log by age.",
            self._sources.retention.removed,
        )

    def _background(self) -> Iterator[Metric]:
        runs = CounterMetricFamily("tollkeeper_background_runs", "Runs of a background step.", labels=["step"])
        failures = CounterMetricFamily(
            "tollkeeper_background_failures", "Runs of a background step that failed.", labels=["step"]
        )
        last = GaugeMetricFamily(
            "tollkeeper_background_last_success_timestamp_seconds",
            "When a background step last succeeded.",
            labels=["step"],
        )
        for step in self._sources.steps():
            runs.add_metric([step.name], step.runs)
            failures.add_metric([step.name], step.failures)
            if step.succeeded_at is not None:
                last.add_metric([step.name], step.succeeded_at / 1e6)
        yield from (runs, failures, last)


def make_registry(sources: Sources) -> CollectorRegistry:
    """Tollkeeper's metrics and the process's own (CPU, memory, descriptors, start)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(TollkeeperCollector(sources))
    ProcessCollector(registry=registry)
    return registry


class MetricsApp:
    """`/metrics` as an ASGI application. `allowed(scope)` says whether the caller's token may read it.

    No token is needed from this machine itself, unless a reverse proxy on it speaks for somebody else.
    """

    def __init__(self, registry: CollectorRegistry, allowed: Callable[[Scope], bool]) -> None:
        self._registry = registry
        self._allowed = allowed

    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        status, headers, body = 200, [], b""
        if scope["method"] not in ("GET", "HEAD"):
            status, headers, body = 405, [(b"allow", b"GET, HEAD")], b"Use GET.\n"
        elif not from_this_machine(scope) and not await asyncio.to_thread(self._allowed, scope):
            status, headers = 401, [(b"www-authenticate", b'Bearer realm="Tollkeeper"')]
            body = b"From another machine /metrics needs the admin token or a server key with the scope metrics:read.\n"
        else:
            accept = ",".join(v.decode("latin-1") for n, v in scope["headers"] if n == b"accept")
            encode, content_type = choose_encoder(accept)
            headers = [(b"content-type", content_type.encode())]
            body = await asyncio.to_thread(encode, self._registry)
        if status != 200:
            headers.append((b"content-type", b"text/plain; charset=utf-8"))
        headers += [(b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def from_this_machine(scope: Scope) -> bool:
    """A loopback peer that speaks for nobody else (no `Forwarded` or `X-Forwarded-For`) and asked for this machine by name.

    The `Host` is looked at because a web page may make a browser here resolve the page's own name to 127.0.0.1.
    """
    client = scope.get("client")
    try:
        if not client or not ipaddress.ip_address(client[0]).is_loopback:
            return False
    except ValueError:
        return False
    host = b""
    for name, value in scope["headers"]:
        if name in (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"):
            return False
        if name == b"host":
            host = value
    return host.rsplit(b":", 1)[0] in (b"127.0.0.1", b"localhost", b"[::1]") or host == b"[::1]"


def _counter(name: str, help: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(name, help, value=value)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    totals = histogram.cumulative()
    bounds = [*(format(bound, "g") for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, totals, strict=True))
