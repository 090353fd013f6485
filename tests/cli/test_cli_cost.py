"""`tollkeeper customers cost`: lines and totals as the server tells them."""

from __future__ import annotations

import json
from typing import Any

from .conftest import Run
from .fake_server import FakeServer

SPAN = {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
YEAR = {"start": "2026-11-01T00:00:00Z", "end": "2027-11-01T00:00:00Z"}
TIERS = [{"up_to": "1000"}, {"up_to": "inf"}]
CALLS: dict[str, Any] = {
    "key": "calls",
    **SPAN,
    "state": "known",
    "quantity": "12345",
    "amount": "22.69",
    "exact_amount": "22.69",
    "lines": [
        {"kind": "tier", "tier": 0, "quantity": "1000", "unit_amount": "0", "amount": "0.00"},
        {"kind": "tier", "tier": 1, "quantity": "11345", "unit_amount": "0.002", "amount": "22.69"},
    ],
    "price": {"tiers": TIERS, "past_last_tier": "refuse"},
}
UNKNOWN = {
    **CALLS,
    "key": "tokens",
    "state": "unknown",
    "quantity": None,
    "amount": None,
    "exact_amount": None,
    "lines": [],
}
COST: dict[str, Any] = {
    "customer": "acme",
    "environment": "live",
    "plan": "pro",
    "plan_version": 2,
    "currency": "usd",
    **SPAN,
    "prices": [CALLS],
    "totals": [{"currency": "usd", **SPAN, "state": "known", "amount": "22.69", "exact_amount": "22.694"}],
    "left_out": [],
}


def test_the_lines_of_each_price_and_the_total_are_shown(ask: Run, server: FakeServer) -> None:
    server.on("GET", "/v1/customers/acme/cost", COST)
    assert ask("customers", "cost", "acme").out == (
        "customer   acme\n"
        "live plan  pro v2\n"
        "period     2026-11-01 01:00 +01:00 to 2026-12-01 01:00 +01:00\n"
        "PRICE  LINE         QUANTITY  UNIT AMOUNT  AMOUNT\n"
        "calls  up to 1,000     1,000            0    0.00\n"
        "       above 1,000    11,345        0.002   22.69\n"
        "22.69 usd (22.694 before rounding) to date\n"
    )
    assert json.loads(ask("customers", "cost", "acme", "--json").out) == COST
    ask("customers", "cost", "acme", "--environment", "test")
    assert [asked.query for asked in server.asked] == [{}, {}, {"environment": "test"}]


def test_an_unknown_is_shown_as_unknown_and_an_interval_of_its_own_by_its_bounds(ask: Run, server: FakeServer) -> None:
    total = COST["totals"][0]
    totals = [{**total, "state": "unknown", "amount": None, "exact_amount": None}, {**total, **YEAR}]
    left_out = [{"key": "calls_eur", "currency": "eur"}]
    server.on("GET", "/v1/customers/acme/cost", {**COST, "prices": [UNKNOWN], "totals": totals, "left_out": left_out})
    result = ask("customers", "cost", "acme")
    assert result.out.splitlines()[4:] == [
        "tokens  unknown",
        "unknown to date",
        "22.69 usd (22.694 before rounding) to date, 2026-11-01 01:00 +01:00 to 2027-11-01 01:00 +01:00",
    ]
    assert result.err == "calls_eur is in eur, and acme pays in usd.\n"


def test_without_a_plan_or_a_price_that_is_said(ask: Run, server: FakeServer) -> None:
    nothing = {**COST, "prices": [], "totals": []}
    server.on("GET", "/v1/customers/acme/cost", [{**nothing, "plan": None}, nothing])
    assert ask("customers", "cost", "acme").out == "acme has no plan in live, and costs nothing.\n"
    assert ask("customers", "cost", "acme").out.endswith("Nothing is charged on this plan so far.\n")
