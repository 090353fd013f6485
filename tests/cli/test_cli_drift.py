"""`tollkeeper drift`: what its exit code tells a scheduled job."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Run
from .fake_server import FakeServer

CHECK: dict[str, Any] = {
    "customer": "acme",
    "meter": "api_calls",
    "period_start": "2026-11-01T00:00:00Z",
    "ledger": "12",
    "provider": "12",
    "difference": "0",
    "state": "equal",
    "explanation": "",
    "messages": [],
    "adjustments": [],
}
UNKNOWN = {**CHECK, "state": "unknown", "provider": None, "difference": None, "explanation": "the provider did not say"}
DRIFTED = {**CHECK, "state": "unexplained", "provider": "2", "difference": "10", "explanation": "10 are missing"}


@pytest.mark.parametrize(
    ("checks", "alarming", "code"),
    [
        ([], False, 0),
        ([CHECK], False, 0),
        ([{**CHECK, "state": "pending"}], False, 0),
        ([CHECK, UNKNOWN], False, 3),
        ([DRIFTED], True, 1),
        ([DRIFTED, UNKNOWN], True, 1),
    ],
)
def test_drift_is_1_and_what_could_not_be_asked_is_not_0(
    ask: Run, server: FakeServer, checks: list[dict[str, Any]], alarming: bool, code: int
) -> None:
    server.on("POST", "/v1/drift/check", {"data": checks, "alarming": alarming})
    told = ask("drift")
    assert told.code == code
    if UNKNOWN in checks:
        assert "acme api_calls: the provider did not say" in told.out
