"""`catalog check | diff | apply`: faults before anything is sent, the diff before anything is applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tollkeeper.core.catalog import example_catalog

from .conftest import Run
from .fake_server import FakeServer, problem
from .terminal_session import on_terminal, plain

CHANGED: dict[str, Any] = {
    "changed": True,
    "changes": [
        {"kind": "added", "key": "plans.team", "before": "", "after": "name Team"},
        {"kind": "changed", "key": "plans.pro.quotas[api_calls].limit", "before": "1000", "after": "2000"},
        {"kind": "removed", "key": "plans.old", "before": "", "after": ""},
    ],
    "refused": [],
    "plans_changed": ["team", "pro"],
    "plans_archived": ["old"],
}
LINES = "+ plans.team: name Team\n~ plans.pro.quotas[api_calls].limit: 1000 → 2000\n- plans.old\n"
SAME: dict[str, Any] = {"changed": False, "changes": [], "refused": [], "plans_changed": [], "plans_archived": []}
REFUSED = {**CHANGED, "refused": [{"key": "meters.a.event_type", "message": 'expected "a.b", as applied, found "c"'}]}
FAULTY = 'currency = "usd"\n[meters.calls]\nevent_type = 3\naggregation = "count"\n'


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    text = example_catalog()
    (tmp_path / "tollkeeper.toml").write_text(text)
    return text


@pytest.mark.usefixtures("catalog")
def test_a_valid_file_needs_no_server(run: Run) -> None:
    result = run("catalog", "check")
    assert (result.code, result.out, result.err) == (0, "tollkeeper.toml is valid: 1 meter, 2 plans.\n", "")
    assert json.loads(run("catalog", "check", "--json").out) == {
        "file": "tollkeeper.toml",
        "faults": [],
        "warnings": [],
        "rated_here": [],
        "refused_by_stripe": [],
    }


def test_prices_that_stripe_cannot_bill_are_named_with_the_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plans.toml").write_text(
        """currency = "usd"
[plans.least]
product = "api"
prices = [{key = "fee", model = "flat", flat_amount = "1", discounts = [{percent_off = "10"}]}]
"""
    )
    reason = "it has discounts of its own"
    assert f"least/fee: Stripe cannot bill it ({reason})" in run("catalog", "check", "plans.toml").err
    shown = json.loads(run("catalog", "check", "plans.toml", "--json").out)
    assert shown["rated_here"] == [{"price": "least/fee", "reason": reason}]


def test_a_fee_that_stripe_does_not_charge_is_named_before_stripe_refuses_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plans.toml").write_text(
        """currency = "kwd"
[plans.pro]
product = "api"
prices = [{key = "fee", model = "flat", flat_amount = "9.005"}]
"""
    )
    fault = "plans.pro.prices.fee: flat_amount = 9.005 kwd, which is charged by 0.01 alone"
    result = run("catalog", "check", "plans.toml")
    assert result.code == 0
    assert f"{fault}: Stripe cannot be made to bill it" in result.err
    assert json.loads(run("catalog", "check", "plans.toml", "--json").out)["refused_by_stripe"] == [fault]


def test_faults_are_told_by_file_line_and_key(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plans.toml").write_text(FAULTY)
    result = run("catalog", "check", "plans.toml")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: plans.toml:3: meters.calls.event_type: expected an event type")
    shown = json.loads(run("catalog", "check", "plans.toml", "--json").out)
    assert len(shown["faults"]) == len(result.err.splitlines())


@pytest.mark.parametrize("command", ["check", "diff", "apply"])
def test_a_file_that_is_not_there_says_how_to_write_one(ask: Run, server: FakeServer, command: str) -> None:
    result = ask("catalog", command)
    assert (result.code, server.asked) == (2, [])
    assert (
        result.err
        == "error: tollkeeper.toml cannot be read: No such file or directory\n  Write one with: tollkeeper init\n"
    )


@pytest.mark.parametrize("command", ["diff", "apply"])
def test_a_faulty_file_is_not_sent(ask: Run, server: FakeServer, tmp_path: Path, command: str) -> None:
    (tmp_path / "tollkeeper.toml").write_text(FAULTY)
    result = ask("catalog", command)
    assert (result.code, server.asked) == (1, [])
    assert result.err.startswith("error: tollkeeper.toml:3: meters.calls.event_type: ")


def test_diff_writes_nothing(ask: Run, server: FakeServer, catalog: str) -> None:
    server.on("POST", "/v1/catalog/diff", [CHANGED, SAME])
    result = ask("catalog", "diff")
    assert (result.code, result.out) == (0, LINES)
    assert result.err == "Plan old is kept for its subscribers and sold to nobody new.\n"
    assert ask("catalog", "diff").out == "Nothing would change: tollkeeper.toml is in force.\n"
    assert server.bodies("POST", "/v1/catalog/diff") == [{"toml": catalog}] * 2


def test_apply_shows_the_changes_and_asks(ask: Run, server: FakeServer, catalog: str, tmp_path: Path) -> None:
    server.on("POST", "/v1/catalog/diff", CHANGED)
    server.on("POST", "/v1/catalog/apply", {**CHANGED, "version": 3})
    assert ask("catalog", "apply").code == 2
    env = {"TOLLKEEPER_URL": server.url}
    code, _ = on_terminal(["catalog", "apply"], "n\n", tmp_path, env)
    assert (code, server.bodies("POST", "/v1/catalog/apply")) == (1, [])
    code, seen = on_terminal(["catalog", "apply"], "y\n", tmp_path, env)
    assert (code, server.bodies("POST", "/v1/catalog/apply")) == (0, [{"toml": catalog}])
    assert LINES in plain(seen)
    assert "Apply tollkeeper.toml? [y/N]: " in plain(seen)
    assert ask("catalog", "apply", "--yes").out == f"{LINES}Version 3 is in force.\n"


@pytest.mark.usefixtures("catalog")
def test_an_apply_that_changes_nothing_asks_nothing(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/catalog/diff", SAME)
    server.on("POST", "/v1/catalog/apply", {**SAME, "version": 2})
    result = ask("catalog", "apply")
    assert (result.code, result.out) == (0, "Nothing to change: tollkeeper.toml is in force as version 2.\n")
    assert json.loads(ask("catalog", "apply", "--json").out) == {**SAME, "version": 2}


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize("command", ["diff", "apply"])
def test_what_must_not_change_is_told_and_not_applied(ask: Run, server: FakeServer, command: str) -> None:
    server.on("POST", "/v1/catalog/diff", REFUSED)
    result = ask("catalog", command)
    assert result.code == 1
    assert 'error: tollkeeper.toml: meters.a.event_type: expected "a.b", as applied, found "c"\n' in result.err
    assert server.bodies("POST", "/v1/catalog/apply") == []


@pytest.mark.usefixtures("catalog")
def test_what_only_the_server_can_refuse_exits_with_1(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/catalog/diff", problem(422, "catalog_invalid", "one\ntwo"))
    result = ask("catalog", "apply", "--yes")
    assert (result.code, result.err) == (1, "error: one (catalog_invalid)\n  two\n  request req_01\n")
