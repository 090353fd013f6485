"""A real server process: stopped under load, backed up under load, followed by another."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.upkeep import verify_database

from .collector import PARENT, Collector
from .served import TOKEN, Load, Place, make_place, serving


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def test_a_stop_under_load_loses_nothing_and_the_next_server_takes_over(place: Place) -> None:
    acknowledged: list[str] = []
    for _ in range(3):
        with serving(place) as served, Load(served, place) as load:
            load.wait_for(60)
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(30) == 0
        assert load.refused == []
        acknowledged += [id for id in load.acknowledged if id.startswith("evt_")]
        events = [id for id in load.acknowledged if not id.startswith("evt_")]
        logged = Counter(place.logged())
        assert set(logged.values()) == {1}
        assert {id for id in [*acknowledged, *events] if id not in logged} == set()
    assert verify_database(place.url).ok


def test_a_backup_under_load_holds_all_that_was_acknowledged_before_it_exactly_once(
    place: Place, tmp_path: Path
) -> None:
    with serving(place) as served, Load(served, place) as load:
        load.wait_for(100)
        before = list(load.acknowledged)
        made = place.command("backup", str(tmp_path / "backup"), "--json")
        after = len(load.acknowledged)
        load.wait_for(20)  # the server still answers
    assert made.returncode == 0, made.stderr
    assert after > len(before)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    restored = Place(elsewhere, place.customer, place.key)
    assert restored.command("restore", str(tmp_path / "backup")).returncode == 0
    logged = Counter(restored.logged())
    assert set(logged.values()) == {1}
    assert {id for id in before if id not in logged} == set()
    assert sum(logged.values()) == json.loads(made.stdout)["state"]["events"]
    assert verify_database(restored.url).ok
    with serving(restored) as again, Load(again, restored) as load:
        load.wait_for(20)


def test_a_restore_under_a_running_server_is_refused(place: Place, tmp_path: Path) -> None:
    with serving(place) as served:
        assert place.command("backup", str(tmp_path / "backup")).returncode == 0
        refused = place.command("restore", str(tmp_path / "backup"), "--yes")
        assert (refused.returncode, f"Process {served.process.pid}" in refused.stderr) == (1, True)
        assert served.request("GET", "/readyz")[0] == 200


def test_metrics_of_a_server_count_what_it_did(place: Place) -> None:
    with serving(place) as served:
        for _ in range(3):
            served.request("POST", "/v1/check", {"key": place.key, "meter": "api_calls"})
        served.request("POST", "/v1/check", {"key": "junk"})
        served.request("POST", "/v1/events", [{"id": "a", "type": "nobody.counts", "customer": place.customer}, {}])
        served.request("GET", f"/v1/customers/{place.customer}")
        served.request("GET", "/no/such/page")
        status, headers, text = served.request("GET", "/metrics", headers={})
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    for line in (
        'tollkeeper_decisions_total{code="VALID",environment="live"} 3.0',
        'tollkeeper_decisions_total{code="NOT_FOUND",environment="unknown"} 1.0',
        'tollkeeper_events_total{answer="accepted"} 1.0',
        'tollkeeper_events_total{answer="rejected"} 1.0',
        'tollkeeper_events_rejected_total{code="invalid_event"} 1.0',
        "tollkeeper_events_unmatched_total 1.0",
        "tollkeeper_usage_rows_total 4.0",
        'tollkeeper_http_request_duration_seconds_count{method="POST",route="/v1/check",status="2xx"} 4.0',
        'tollkeeper_http_request_duration_seconds_count{method="GET",route="/v1/customers/{customer}",status="2xx"} 1.0',
        'tollkeeper_http_request_duration_seconds_count{method="GET",route="unmatched",status="4xx"} 1.0',
    ):
        assert line in text.splitlines(), text


def test_metrics_seen_through_a_reverse_proxy_need_a_token_that_may_read_them(place: Place) -> None:
    with Tollkeeper(place.url) as app:
        keys = {scope: app.keys.create(kind="server", scopes=[scope]).key for scope in ("metrics:read", "usage:read")}
    through = {"x-forwarded-for": "203.0.113.9"}
    with serving(place) as served:
        answers = [
            served.request("GET", "/metrics", headers=through | {"authorization": f"Bearer {token}"})[0]
            for token in (keys["metrics:read"], TOKEN, keys["usage:read"], place.key, "junk")
        ]
        assert served.request("GET", "/metrics", headers=through)[0] == 401
    assert answers == [200, 200, 401, 401, 401]


def test_the_log_is_json_names_requests_and_holds_no_secret(place: Place) -> None:
    with serving(place) as served:
        served.request("GET", f"/v1/usage?meter=api_calls&customer={place.customer}")
        served.request("GET", "/v1/keys", headers={"authorization": "Bearer tk_admin_a-wrong-one-of-some-length"})
        served.request("GET", f"/v1/keys/{place.key}")  # a secret where an id belongs
        served.request("POST", "/v1/check", {"key": place.key, "meter": "api_calls"})
    lines = [line for line in served.log if line["logger"] == "tollkeeper.access"]
    assert [(line["method"], line["path"].partition("tk_")[0], line["status"]) for line in lines] == [
        ("GET", "/v1/usage", 200),
        ("GET", "/v1/keys", 401),
        ("GET", "/v1/keys/", 404),
    ]
    assert all(re.fullmatch(r"req_[0-9A-Z]{26}", line["request_id"]) for line in lines)
    text = served.log_path.read_text()
    for secret in (place.key, TOKEN, "a-wrong-one", "customer="):
        assert secret not in text


def test_with_the_setting_every_check_leaves_a_line_that_names_customer_and_key(place: Place) -> None:
    with serving(place, TOLLKEEPER_LOG_REQUESTS="all") as served:
        _, headers, body = served.request("POST", "/v1/check", {"key": place.key, "meter": "api_calls"})
    [line] = [line for line in served.log if line["logger"] == "tollkeeper.access"]
    told = json.loads(body)
    assert (line["path"], line["customer"], line["key_id"]) == ("/v1/check", place.customer, told["key_id"])
    assert line["request_id"] == told["request_id"] == headers["x-request-id"]


def test_without_an_endpoint_nothing_that_makes_traces_is_loaded(place: Place) -> None:
    """The framework loads OpenTelemetry's interface by itself; what costs is its SDK and the exporter."""
    code = (
        "import sys, tollkeeper.server, tollkeeper.cli.app\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter', "
        "'tollkeeper.integrations.otel'))])"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, env=place.environment(), capture_output=True, text=True, check=True).stdout == "[]\n"


def test_with_an_endpoint_a_served_request_arrives_there_before_the_server_has_ended(
    place: Place, collector: Collector
) -> None:
    with serving(place, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as served:
        headers = {"authorization": f"Bearer {TOKEN}", "traceparent": PARENT}
        served.request("POST", "/v1/check", {"key": place.key, "meter": "api_calls"}, headers)
        served.request("GET", f"/v1/customers/{place.customer}")
    spans = {span.name: span for span in collector.spans()}
    assert set(spans) == {"POST /v1/check", "GET /v1/customers/{customer}"}
    assert spans["POST /v1/check"].trace_id.hex() in PARENT
    [line] = [line for line in served.log if line.get("path", "").startswith("/v1/customers")]
    assert line["trace_id"] == spans["GET /v1/customers/{customer}"].trace_id.hex()
