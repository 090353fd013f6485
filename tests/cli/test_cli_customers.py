"""`customers`: create, list, show, move, members."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import Run
from .fake_server import Answer, FakeServer
from .terminal_session import on_terminal, plain


def subscription(environment: str) -> dict[str, Any]:
    return {
        "id": "sub_1",
        "environment": environment,
        "plan": "pro",
        "plan_version": 2,
        "status": "active" if environment == "live" else "past_due",
        "anchor": "2026-11-21T01:00:00Z",
        "zone": "UTC",
        "started_at": "2026-11-21T01:00:00Z",
        "ended_at": None,
    }


CUSTOMER: dict[str, Any] = {
    "id": "acme",
    "name": "Acme [red]",
    "email": None,
    "plan": "pro",
    "plan_version": 2,
    "currency": "usd",
    "zone": "UTC",
    "created_at": "2026-11-21T01:00:00Z",
    "subscriptions": [subscription("live"), subscription("test")],
}
SHOWN = (
    "customer   acme\n"
    "name       Acme [red]\n"
    "currency   usd\n"
    "zone       UTC\n"
    "created    2026-11-21 02:00 +01:00\n"
    "live plan  pro v2 since 2026-11-21 02:00 +01:00\n"
    "test plan  pro v2 since 2026-11-21 02:00 +01:00, past_due\n"
)
MEMBER = {
    "id": "mem_1",
    "customer": "acme",
    "email": "ada@acme.example",
    "name": "Ada",
    "created_at": "2026-11-21T01:00:00Z",
}


def test_a_customer_is_created_with_what_was_given(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/customers", Answer(CUSTOMER, 201))
    result = ask("customers", "create", "Acme", "--id", "acme", "--plan", "pro", "--zone", "Europe/Berlin")
    assert (result.code, result.out, result.err) == (0, SHOWN, "")
    ask("customers", "create", "B", "--currency", "eur", "--email", "b@b.example")
    assert server.bodies("POST", "/v1/customers") == [
        {"id": "acme", "name": "Acme", "email": None, "plan": "pro", "zone": "Europe/Berlin"},
        {"id": None, "name": "B", "email": "b@b.example", "plan": None, "zone": "UTC", "currency": "eur"},
    ]


def test_a_customer_is_shown_and_json_is_the_answer(ask: Run, server: FakeServer) -> None:
    server.on("GET", "/v1/customers/acme", CUSTOMER)
    assert ask("customers", "show", "acme").out == SHOWN
    assert json.loads(ask("customers", "show", "acme", "--json").out) == CUSTOMER


def test_customers_are_listed(ask: Run, server: FakeServer) -> None:
    none = {**CUSTOMER, "id": "b", "plan": None, "plan_version": None}
    server.on("GET", "/v1/customers", {"data": [CUSTOMER, none], "next_cursor": None})
    assert ask("customers", "list").out == (
        "CUSTOMER  NAME        PLAN    CREATED\n"
        "acme      Acme [red]  pro v2  2026-11-21 02:00 +01:00\n"
        "b         Acme [red]          2026-11-21 02:00 +01:00\n"
    )


def test_no_customer_yet_is_said_on_stderr(ask: Run, server: FakeServer) -> None:
    server.on("GET", "/v1/customers", {"data": [], "next_cursor": None})
    result = ask("customers", "list")
    assert (result.code, result.out) == (0, "")
    assert "no customers yet" in result.err


def test_a_move_asks_first(ask: Run, server: FakeServer, tmp_path: Path) -> None:
    server.on("POST", "/v1/customers/acme/plan", CUSTOMER)
    command = ["customers", "move", "acme", "team", "--version", "3", "--environment", "live"]
    assert (ask(*command).code, server.asked) == (2, [])
    code, seen = on_terminal(command, "y\n", tmp_path, {"TOLLKEEPER_URL": server.url})
    assert code == 0
    assert "Move acme to plan team version 3 in live? [y/N]: " in plain(seen)
    assert ask("customers", "move", "acme", "team", "--yes").out == SHOWN
    assert server.bodies("POST", "/v1/customers/acme/plan") == [
        {"plan": "team", "version": 3, "environment": "live"},
        {"plan": "team", "version": None, "environment": None},
    ]


def test_members_are_added_listed_and_removed(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/customers/acme/members", Answer(MEMBER, 201))
    server.on("GET", "/v1/customers/acme/members", [[MEMBER], []])
    server.on("DELETE", "/v1/customers/acme/members/mem_1", Answer(status=204))
    added = ask("customers", "members", "add", "acme", "ada@acme.example", "--name", "Ada")
    assert added.out == "member  mem_1\ne-mail  ada@acme.example\nname    Ada\n"
    assert ask("customers", "members", "list", "acme").out == (
        "MEMBER  E-MAIL            NAME\nmem_1   ada@acme.example  Ada\n"
    )
    assert "has no members" in ask("customers", "members", "list", "acme").err
    assert ask("customers", "members", "remove", "acme", "mem_1").code == 2
    assert server.asked[-1].method == "GET"
    removed = ask("customers", "members", "remove", "acme", "mem_1", "--yes")
    assert (removed.code, removed.out, removed.err) == (0, "", "mem_1 is removed from acme.\n")
