"""`check` and `keys`: decisions and secrets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run
from .fake_server import Answer, FakeServer
from .terminal_session import on_terminal, plain

SECRET = "tk_live_4fQz0000000000000000000000000000001bXk"
KEY: dict[str, Any] = {
    "id": "key_01JD3V5E6QN8Z4V9W1T7B2X3YA",
    "kind": "customer",
    "customer": "acme",
    "environment": "live",
    "name": "prod",
    "prefix": "tk_live_4fQz",
    "last4": "1bXk",
    "scopes": ["read"],
    "ips": [],
    "created_at": "2026-11-21T01:00:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
    "replaced_by": None,
}
ALLOWED: dict[str, Any] = {
    "code": "VALID",
    "status": 200,
    "request_id": "req_01",
    "event_id": "evt_01",
    "reservation": None,
    "customer": "acme",
    "key_id": KEY["id"],
    "environment": "live",
    "plan": "pro",
    "rate_limits": [{"name": "burst", "limit": 1000, "remaining": 999, "reset_seconds": 1}],
    "quota": {
        "meter": "api_calls",
        "kind": "hard",
        "limit": "12000",
        "used": "3412",
        "remaining": "8588",
        "resets_at": "2026-12-21T09:00:00Z",
    },
    "problem": None,
}
REFUSED = {
    **ALLOWED,
    "code": "QUOTA_EXCEEDED",
    "status": 429,
    "event_id": None,
    "retry_after": 3600,
    "problem": {"type": "https://toll/docs/quota-exceeded", "detail": "The quota of [api_calls] is used up."},
}


def test_an_allowed_call_is_shown_and_exits_with_0(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/check", ALLOWED)
    result = ask("check", SECRET, "--meter", "api_calls", "--cost", "2.5", "--scope", "read", "--ip", "10.0.0.1")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "allowed  VALID (200)\n"
        "customer     acme (pro, live)\n"
        "key          key_01JD3V5E6QN8Z4V9W1T7B2X3YA\n"
        "hard quota   3,412 of 12,000 api_calls used, 8,588 left\n"
        "resets       2026-12-21 10:00 +01:00\n"
        "limit burst  999 of 1,000 left, full again in 1 s\n"
        "event        evt_01\n"
        "request      req_01\n"
    )
    (sent,) = server.bodies("POST", "/v1/check")
    assert (sent["key"], sent["meter"], sent["cost"], sent["scope"], sent["ip"]) == (
        SECRET,
        "api_calls",
        "2.5",
        "read",
        "10.0.0.1",
    )


def test_a_refused_call_says_why_and_exits_with_1(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/check", REFUSED)
    result = ask("check", SECRET, "--meter", "api_calls")
    assert (result.code, result.err) == (1, "")
    assert result.out.startswith("refused  QUOTA_EXCEEDED (429)\nThe quota of [api_calls] is used up.\n")
    assert "try again    in 3,600 s\n" in result.out
    assert "about        https://toll/docs/quota-exceeded\n" in result.out


def test_json_is_the_answer_of_the_server(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/check", REFUSED)
    result = ask("check", SECRET, "--meter", "api_calls", "--json")
    assert (result.code, json.loads(result.out)) == (1, REFUSED)


def test_the_key_may_come_from_stdin(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/check", ALLOWED)
    assert ask("check", "-", "--meter", "m", stdin=SECRET.encode() + b"\n").code == 0
    assert server.bodies("POST", "/v1/check")[0]["key"] == SECRET
    nothing = ask("check", "-", "--meter", "m", stdin=b"")
    assert (nothing.code, len(server.asked)) == (2, 1)


def test_a_new_secret_stands_alone_on_a_pipe(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/keys", Answer({**KEY, "key": SECRET}, 201))
    result = ask(
        "keys", "create", "--customer", "acme", "--environment", "test", "--scope", "a", "--scope", "b", "--ip", "::1"
    )
    assert (result.code, result.out) == (0, SECRET + "\n")
    assert result.err == f"{KEY['id']}; the secret is not shown again.\n"
    assert server.bodies("POST", "/v1/keys") == [
        {
            "environment": "test",
            "name": "",
            "scopes": ["a", "b"],
            "expires_at": None,
            "ips": ["::1"],
            "customer": "acme",
        }
    ]


def test_a_new_secret_is_shown_once_on_a_terminal_and_a_key_may_expire(server: FakeServer, tmp_path: Path) -> None:
    server.on("POST", "/v1/keys", Answer({**KEY, "key": SECRET, "expires_at": "2026-12-01T00:00:00Z"}, 201))
    words = ["keys", "create", "--customer", "acme", "--expires", "2026-12-01T00:00Z"]
    code, seen = on_terminal(words, "", tmp_path, {"TOLLKEEPER_URL": server.url})
    assert code == 0
    assert plain(seen).count(SECRET) == 1
    assert "expires      2026-12-01 00:00 +00:00" in plain(seen)
    assert "not shown again" in plain(seen)
    assert server.bodies("POST", "/v1/keys")[0]["expires_at"] == "2026-12-01T00:00:00Z"


def test_a_server_key_belongs_to_no_customer(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/keys", Answer({**KEY, "customer": None, "key": SECRET}, 201))
    assert ask("keys", "create", "--server", "--scope", "check").code == 0
    sent = server.bodies("POST", "/v1/keys")[0]
    assert (sent["kind"], "customer" in sent) == ("server", False)
    both = ask("keys", "create", "--server", "--customer", "acme")
    neither = ask("keys", "create")
    assert (both.code, neither.code, len(server.asked)) == (2, 2, 1)


def test_keys_are_listed_with_their_state(ask: Run, server: FakeServer) -> None:
    now = datetime.now(UTC)
    soon = (now + timedelta(days=30, minutes=1)).isoformat()
    past = (now - timedelta(minutes=25, seconds=1)).isoformat()
    first = {"data": [KEY, {**KEY, "expires_at": soon, "last_used_at": past}], "next_cursor": "c"}
    second = {
        "data": [{**KEY, "expires_at": past}, {**KEY, "customer": None, "name": "", "revoked_at": past}],
        "next_cursor": None,
    }
    server.on("GET", "/v1/keys", [first, second])
    result = ask("keys", "list", "--environment", "live", "--server", "--customer", "acme")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "KEY ID                          SECRET      OF          STATE         LAST USED\n"
        "key_01JD3V5E6QN8Z4V9W1T7B2X3YA  live …1bXk  acme: prod  active        never\n"
        "key_01JD3V5E6QN8Z4V9W1T7B2X3YA  live …1bXk  acme: prod  30 days left  25 min ago\n"
        "key_01JD3V5E6QN8Z4V9W1T7B2X3YA  live …1bXk  acme: prod  expired       never\n"
        "key_01JD3V5E6QN8Z4V9W1T7B2X3YA  live …1bXk  server      revoked       never\n"
    )
    asked = {"customer": "acme", "environment": "live", "kind": "server"}
    assert [a.query for a in server.asked] == [{**asked, "limit": "100"}, {**asked, "limit": "98", "cursor": "c"}]


def test_a_list_that_is_cut_says_so(ask: Run, server: FakeServer) -> None:
    server.on("GET", "/v1/keys", {"data": [KEY], "next_cursor": "c"})
    result = ask("keys", "list", "--limit", "1")
    assert "The first 1 key; there are more: --limit 10" in result.err
    assert json.loads(ask("keys", "list", "--limit", "1", "--json").out) == {"data": [KEY], "more": True}


def test_an_empty_list_says_what_to_do(ask: Run, server: FakeServer) -> None:
    server.on("GET", "/v1/keys", {"data": [], "next_cursor": None})
    result = ask("keys", "list")
    assert (result.code, result.out) == (0, "")
    assert "keys create" in result.err


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (["revoke"], "/v1/keys/key_1/revoke", {}),
        (["rotate"], "/v1/keys/key_1/rotate", {"overlap_seconds": 86400}),
        (["rotate", "--overlap", "0"], "/v1/keys/key_1/rotate", {"overlap_seconds": 0}),
    ],
)
def test_nothing_is_revoked_or_rotated_without_a_yes(
    ask: Run, server: FakeServer, tmp_path: Path, words: list[str], path: str, body: dict[str, Any]
) -> None:
    server.on("POST", path, {**KEY, "key": SECRET})
    command = ["keys", words[0], "key_1", *words[1:]]
    piped = ask(*command)
    assert piped.code == 2
    assert "Nobody is there to ask; give --yes." in piped.err
    env = {"TOLLKEEPER_URL": server.url}
    code, seen = on_terminal(command, "\n", tmp_path, env)
    assert (code, server.asked) == (1, [])
    assert "stopped; nothing was changed" in plain(seen)
    code, _ = on_terminal(command, "y\n", tmp_path, env)
    assert (code, server.bodies("POST", path)) == (0, [body])
    assert ask(*command, "--yes").code == 0
    assert len(server.asked) == 2


def test_a_rotated_secret_stands_alone_on_a_pipe(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/keys/key_1/rotate", {**KEY, "key": SECRET})
    assert ask("keys", "rotate", "key_1", "--yes").out == SECRET + "\n"


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_a_secret_given_as_an_id_is_not_sent(ask: Run, server: FakeServer, command: str) -> None:
    result = ask("keys", command, SECRET, "--yes")
    assert (result.code, server.asked) == (2, [])
    assert SECRET not in result.err


def test_an_id_with_a_slash_stays_one_segment(ask: Run, server: FakeServer) -> None:
    assert ask("keys", "revoke", "../customers", "--yes").code == 1
    assert server.asked[0].path == "/v1/keys/..%2Fcustomers/revoke"
