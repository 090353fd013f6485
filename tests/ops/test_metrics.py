from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tollkeeper.core.stats import LATENCY_BOUNDS, Histogram, RequestStats
from tollkeeper.integrations.metrics import MetricsApp, Sources, from_this_machine, make_registry
from tollkeeper.services.runner import Step

from .parts import promtool
from .write_metrics_docs import PAGE, page


class FakeHolds:
    lapsed = 4

    def __len__(self) -> int:
        return 6


class FakeGate:
    early_lost, early_repeated, cached = 1, 2, 3
    holds = FakeHolds()

    def __init__(self) -> None:
        self.decisions = {"live": {"VALID": 5, "RATE_LIMITED": 1}, "test": {"VALID": 7}}


class FakeIngest:
    def __init__(self) -> None:
        self.counts = {"accepted": 4, "duplicate": 3, "conflict": 2, "rejected": 1, "unmatched": 1}
        self.rejected = {"too_old": 1}


class FakeRetention:
    removed = 8


class FakeWriter:
    commits, rows, failed_commits, wal_pages, queued = 9, 90, 1, 17, 2

    def __init__(self) -> None:
        self.commit_seconds = Histogram()
        self.commit_seconds.observe(0.0003)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    requests = RequestStats()
    for seconds in (0.0004, 0.4, 0.41, 60):
        requests.route("POST", "/v1/check").observe(200, seconds)
    (tmp_path / "x.db").write_bytes(b"12345")
    step = Step("retention", lambda: False, 60)
    step.runs, step.failures, step.succeeded_at = 4, 1, 1_795_000_000_500_000
    return Sources(
        "1.2.3",
        requests,
        FakeGate(),
        FakeIngest(),
        FakeWriter(),
        FakeRetention(),
        lambda: [step],
        {"main": tmp_path / "x.db", "usage": tmp_path / "missing.db"},
        lambda: 4096,
        lambda: {"allowed": 6},
    )


async def get(app: Any, **changes: Any) -> tuple[int, dict[bytes, bytes], str]:
    asked = {
        "type": "http",
        "method": "GET",
        "path": "/metrics",
        "headers": [(b"host", b"localhost:3000")],
        "client": ("127.0.0.1", 5),
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(asked | changes, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"].decode()


def refuse(scope: Any) -> bool:
    return False


async def test_every_number_kept_is_shown(sources: Sources) -> None:
    status, headers, text = await get(MetricsApp(make_registry(sources), refuse))
    assert status == 200
    assert headers[b"content-type"].startswith(b"text/plain; version=")
    shown = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    check = (("method", "POST"), ("route", "/v1/check"), ("status", "2xx"))
    bucket = "tollkeeper_http_request_duration_seconds_bucket"
    assert shown[bucket, ("le", "0.4"), *check] == 2
    assert shown[bucket, ("le", "1"), *check] == 3
    assert shown[bucket, ("le", "+Inf"), *check] == 4
    assert shown["tollkeeper_http_request_duration_seconds_sum", *check] == pytest.approx(60.8104)
    assert shown["tollkeeper_decisions_total", ("code", "VALID"), ("environment", "test")] == 7
    assert shown["tollkeeper_events_total", ("answer", "duplicate")] == 3
    assert shown["tollkeeper_events_rejected_total", ("code", "too_old")] == 1
    assert shown[("tollkeeper_events_unmatched_total",)] == 1
    assert shown[("tollkeeper_usage_commits_total",)] == 9
    assert shown[("tollkeeper_usage_failed_commits_total",)] == 1
    assert shown[("tollkeeper_usage_rows_total",)] == 90
    assert shown["tollkeeper_usage_commit_duration_seconds_bucket", ("le", "0.0005")] == 1
    assert shown[("tollkeeper_usage_queued",)] == 2
    assert shown[("tollkeeper_usage_wal_pages",)] == 17
    assert shown[("tollkeeper_early_lost_total",)] == 1
    assert shown[("tollkeeper_early_repeated_total",)] == 2
    assert shown[("tollkeeper_reservations_held",)] == 6
    assert shown[("tollkeeper_reservations_lapsed_total",)] == 4
    assert shown[("tollkeeper_cached_keys",)] == 3
    assert shown["tollkeeper_proxy_requests_total", ("outcome", "allowed")] == 6
    assert shown["tollkeeper_build_info", ("version", "1.2.3")] == 1
    assert shown["tollkeeper_background_failures_total", ("step", "retention")] == 1
    assert shown["tollkeeper_background_last_success_timestamp_seconds", ("step", "retention")] == 1795000000.5
    assert shown[("tollkeeper_usage_free_bytes",)] == 4096
    assert shown[("tollkeeper_retention_removed_events_total",)] == 8
    assert shown["tollkeeper_file_size_bytes", ("file", "main")] == 5
    assert ("tollkeeper_file_size_bytes", ("file", "usage")) not in shown  # unknown, so not zero
    assert shown[("process_resident_memory_bytes",)] > 0


def test_promtool_finds_nothing_to_say(sources: Sources) -> None:
    text = generate_latest(make_registry(sources))
    checked = subprocess.run([promtool(), "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_the_page_lists_every_metric() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "run: python tests/ops/write_metrics_docs.py"


def test_a_value_on_a_boundary_belongs_to_it() -> None:
    histogram = Histogram()
    for bound in LATENCY_BOUNDS:
        histogram.observe(bound)
    assert histogram.cumulative() == [*range(1, len(LATENCY_BOUNDS) + 1), len(LATENCY_BOUNDS)]
    assert 0.4 in LATENCY_BOUNDS


LOCAL = {"client": ("127.0.0.1", 5), "headers": [(b"host", b"127.0.0.1:3000")]}


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, True),
        ({"client": ("::1", 5), "headers": [(b"host", b"[::1]:3000")]}, True),
        ({"headers": [(b"host", b"[::1]")]}, True),
        ({"headers": [(b"host", b"localhost")]}, True),
        ({"client": ("10.0.0.2", 5)}, False),
        ({"client": None}, False),
        ({"client": ("unix", 0)}, False),
        ({"headers": [(b"host", b"api.example.com")]}, False),
        ({"headers": []}, False),
        ({"headers": [(b"host", b"localhost"), (b"x-forwarded-for", b"127.0.0.1")]}, False),
        ({"headers": [(b"forwarded", b"for=127.0.0.1"), (b"host", b"localhost")]}, False),
    ],
)
async def test_only_this_machine_reads_without_a_token(sources: Sources, changes: Any, free: bool) -> None:
    assert from_this_machine(LOCAL | changes) is free
    status, headers, text = await get(MetricsApp(make_registry(sources), refuse), **(LOCAL | changes))
    assert status == (200 if free else 401)
    assert free or (headers[b"www-authenticate"].startswith(b"Bearer") and "tollkeeper_" not in text)


async def test_a_token_that_may_reads_from_anywhere(sources: Sources) -> None:
    app = MetricsApp(make_registry(sources), lambda scope: (b"authorization", b"Bearer right") in scope["headers"])
    for token, status in ((b"right", 200), (b"wrong", 401)):
        headers = [(b"authorization", b"Bearer " + token)]
        assert (await get(app, client=("10.0.0.2", 5), headers=headers))[0] == status


async def test_only_reading_is_answered(sources: Sources) -> None:
    app = MetricsApp(make_registry(sources), refuse)
    assert (await get(app, method="POST"))[0] == 405
    status, headers, body = await get(app, method="HEAD")
    assert (status, body) == (200, "")
    assert int(headers[b"content-length"]) > 1000
