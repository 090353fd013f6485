"""`usage`: what was counted, never rounded, an unknown never as 0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import Run
from .fake_server import FakeServer
from .terminal_session import on_terminal, plain


def row(day: int, value: str | None, group: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "start": f"2026-11-{day:02}T23:00:00Z",
        "end": f"2026-11-{day + 1:02}T23:00:00Z",
        "group": group or {},
        "value": value,
        "events": 7,
        "state": "unknown" if value is None else "known",
    }


DAYS = {
    "meter": "api_calls",
    "total": "1000002.5",
    "data": [row(14, "1000000"), row(15, None), row(16, "2.5"), row(17, "0")],
}


def test_the_question_is_sent_in_the_local_zone(ask: Run, server: FakeServer) -> None:
    server.on("GET", "/v1/usage", DAYS)
    ask("usage", "acme", "--meter", "api_calls", "--from", "2026-11-15", "--to", "2026-11-19", "--window", "day")
    ask("usage", "--meter", "m", "--key", "key_1", "--zone", "UTC", "--group-by", "customer", "--group-by", "key")
    assert [a.query for a in server.asked] == [
        {
            "customer": "acme",
            "meter": "api_calls",
            "from": "2026-11-14T23:00:00Z",
            "to": "2026-11-18T23:00:00Z",
            "window": "day",
            "zone": "Europe/Berlin",
        },
        {"meter": "m", "key": "key_1", "zone": "UTC", "group_by": "customer,key"},
    ]


def test_windows_are_lines_and_an_unknown_is_not_a_zero(ask: Run, server: FakeServer) -> None:
    server.on("GET", "/v1/usage", DAYS)
    result = ask("usage", "--meter", "api_calls", "--window", "day")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "FROM                          USED  EVENTS\n"
        "2026-11-15 00:00 +01:00  1,000,000       7\n"
        "2026-11-16 00:00 +01:00    unknown\n"
        "2026-11-17 00:00 +01:00        2.5       7\n"
        "2026-11-18 00:00 +01:00          0       7\n"
        "api_calls: 1,000,002.5 in all\n"
        "1 of 4 lines unknown, and not in the total\n"
        "from 2026-11-15 00:00 +01:00 to 2026-11-19 00:00 +01:00\n"
    )


def test_a_bar_is_drawn_for_people_only(server: FakeServer, tmp_path: Path) -> None:
    server.on("GET", "/v1/usage", DAYS)
    words = ["usage", "--meter", "api_calls", "--window", "day"]
    _, seen = on_terminal(words, "", tmp_path, {"TOLLKEEPER_URL": server.url})
    lines = plain(seen).splitlines()
    assert lines[1].endswith("7  " + "█" * 24)
    assert "▏" in lines[3]
    assert max(map(len, lines)) <= 80


def test_groups_are_columns(ask: Run, server: FakeServer) -> None:
    groups = [row(14, "3", {"customer": "acme"}), row(14, "4", {"customer": None})]
    server.on("GET", "/v1/usage", {"meter": "m", "total": "7", "data": groups})
    assert ask("usage", "--meter", "m", "--group-by", "customer").out == (
        "customer  USED  EVENTS\n"
        "acme         3       7\n"
        "             4       7\n"
        "m: 7 in all\n"
        "from 2026-11-15 00:00 +01:00 to 2026-11-16 00:00 +01:00\n"
    )


def test_the_only_meter_needs_no_name(ask: Run, server: FakeServer) -> None:
    server.on("GET", "/v1/usage", {"meter": "m", "total": "0", "data": []})
    server.on(
        "GET", "/v1/catalog", [{"catalog": {"meters": {"m": {}}}}, {"catalog": {"meters": {"m": {}, "tokens": {}}}}]
    )
    assert ask("usage").out == "m: 0 in all\n"
    several = ask("usage")
    assert several.code == 2
    assert "Invalid value for --meter: name one of m, tokens" in several.err


def test_json_is_the_answer_of_the_server(ask: Run, server: FakeServer) -> None:
    server.on("GET", "/v1/usage", DAYS)
    assert json.loads(ask("usage", "--meter", "api_calls", "--json").out) == DAYS


def test_a_window_without_events_has_no_largest_value_and_is_not_unknown(ask: Run, server: FakeServer) -> None:
    none = {**row(15, None), "state": "known", "events": 0}
    server.on("GET", "/v1/usage", {"meter": "peak", "total": "3", "data": [row(14, "3"), none]})
    result = ask("usage", "--meter", "peak", "--window", "day")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(
        "FROM                     USED  EVENTS\n"
        "2026-11-15 00:00 +01:00     3       7\n"
        "2026-11-16 00:00 +01:00  none       0\n"
        "peak: 3 in all\n"
        "from "
    )
    server.on("GET", "/v1/usage", {"meter": "peak", "total": None, "data": [none]})
    assert "peak: none in all\n" in ask("usage", "--meter", "peak").out
