"""docs/how-to/nginx.md and caddy.md, followed with the real gateways before a real API."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateways.conftest import behind, settle
from proxy.commands import curl

FORGED = [
    f"{name}: forged"
    for name in (
        "X-Tollkeeper-Customer",
        "X-Tollkeeper-Plan",
        "X-Tollkeeper-Key",
        "X-Tollkeeper-Environment",
        "X-Tollkeeper-Reservation",
        "X-Original-Method",
        "X-Forwarded-Method",
    )
]


def settle_by_log(text: str) -> str:
    return text.replace("meter=api_calls", "meter=api_calls&settle=log")


def priced(text: str) -> str:
    return text.replace("meter=api_calls", "meter=api_calls&free=/health&price=/search=searches:3")


def test_the_page_does_what_it_says(tmp_path: Path, kind: str) -> None:
    with behind(tmp_path, kind) as up:
        commands = re.findall(r"```sh\n(curl.*?)```", up.page(), re.DOTALL)
        answers = re.findall(r"```http\n(.*?)```", up.page(), re.DOTALL)
        assert len(commands) == len(answers) == 2
        for command, expected in zip(commands, answers, strict=True):
            answer = curl(command.strip(), {"KEY": up.key})
            status, *fields = expected.splitlines()
            assert answer.status == int(status.split()[1])
            for field in fields:
                name, _, value = field.partition(": ")
                assert answer.headers[name.lower()] == value
        assert up.used() == "1"


def test_the_api_hears_who_calls_and_never_the_key_nor_what_a_caller_claims(tmp_path: Path, kind: str) -> None:
    with behind(tmp_path, kind) as up:
        assert up.allowed("/hello?q=1", *FORGED, f"X-API-Key: {up.key}").status == 200
        [(path, heard)] = up.api.seen
        assert path == "/hello?q=1"
        assert heard["x-tollkeeper-customer"] == up.customer
        assert (heard["x-tollkeeper-plan"], heard["x-tollkeeper-environment"]) == ("free", "live")
        assert heard["x-tollkeeper-key"].startswith("key_")
        assert "forged" not in {value for name, value in heard.items() if name.startswith("x-tollkeeper")}
        assert up.key not in str(heard)


def test_refusals_tell_their_true_status_and_reach_no_api(tmp_path: Path, kind: str) -> None:
    with behind(tmp_path, kind) as up:
        assert [up.allowed().status for _ in range(5)] == [200] * 5
        refused = up.allowed()
        assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
        assert refused.json()["code"] == "QUOTA_EXCEEDED"
        assert int(refused.headers["retry-after"]) >= 1
        assert "ratelimit" in refused.headers
        unknown = up.call("/hello", "X-API-Key: tk_live_nothing")
        assert (unknown.status, unknown.json()["code"]) == (401, "NOT_FOUND")
        two = up.call("/hello", f"Authorization: Bearer {up.key}", "X-API-Key: tk_live_other")
        assert two.status == 400
        assert len(up.api.seen) == 5
        assert up.used() == "5"


def test_paths_have_prices_that_no_header_of_a_caller_changes(tmp_path: Path, kind: str) -> None:
    with behind(tmp_path, kind, priced) as up:
        assert up.call("/health").status == 200
        assert up.allowed("/search").status == 200
        assert up.allowed("/hello", "X-Original-URI: /health", "X-Forwarded-Uri: /health").status == 200
        assert up.call("/hello", "X-Original-URI: /health", "X-Forwarded-Uri: /health").status == 401
        assert (up.used(), up.used("searches")) == ("1", "3")
        assert [heard.get("x-tollkeeper-customer", "") for _, heard in up.api.seen] == ["", up.customer, up.customer]


def test_a_gate_that_does_not_answer_lets_nobody_through(tmp_path: Path, kind: str) -> None:
    with behind(tmp_path, kind) as up:
        up.server.stop()
        answer = up.allowed()
        assert answer.status in (502, 503)
        assert up.api.seen == []


def test_only_successes_are_billed_when_the_access_log_settles(tmp_path: Path, kind: str) -> None:
    with behind(tmp_path, kind, settle_by_log) as up:
        for status in (200, 500, 204, 404):
            assert up.allowed(f"/status/{status}").status == status
        assert up.call("/hello").status == 401
        assert up.used() == "0"
        told = settle(up)
        assert (told["committed"], told["released"], told["rejected"]) == (2, 2, 0)
        assert up.used() == "2"
        assert settle(up)["committed"] == 0
        (tmp_path / "access.log.settled").unlink()
        assert settle(up)["before"] == 4
        assert up.used() == "2"


@pytest.mark.parametrize("settled", [False, True])
def test_callers_at_once_are_admitted_to_the_last_unit(tmp_path: Path, kind: str, settled: bool) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with behind(tmp_path, kind, settle_by_log if settled else lambda text: text) as up:
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: up.allowed().status, range(20)))
        assert sorted(statuses) == [200] * 5 + [429] * 15
        if settled:
            settle(up)
        assert up.used() == "5"
