"""`events send`: one from options, many from stdin; every line is checked before the first is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tollkeeper.cli import events

from .conftest import Run
from .fake_server import Answer, Asked, FakeServer
from .terminal_session import on_terminal, plain


def counting(asked: Asked) -> dict[str, Any]:
    """Accepts what has a meter, refuses ids that begin with bad, knows ids that begin with old."""
    results = []
    for index, event in enumerate(asked.json):
        status = {"bad": "rejected", "old": "duplicate", "two": "conflict"}.get(event["id"][:3], "accepted")
        meters = [] if event["type"] == "nobody" else ["api_calls"]
        detail = "Too old." if status == "rejected" else None
        results.append(
            {"index": index, "id": event["id"], "status": status, "code": status, "detail": detail, "meters": meters}
        )
    counts = {
        name: sum(r["status"] == name for r in results) for name in ("accepted", "duplicate", "conflict", "rejected")
    }
    return {"results": results, **counts}


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_one_event_from_options(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/events", counting)
    data = '{"tokens": 1250}'
    words = [
        "--type",
        "llm.call",
        "--customer",
        "acme",
        "--data",
        data,
        "--id",
        "a",
        "--source",
        "s",
        "--time",
        "2026-11-21T01:00Z",
    ]
    result = ask("events", "send", *words)
    assert (result.code, result.out, result.err) == (0, "1 accepted\n", "")
    assert server.bodies("POST", "/v1/events") == [
        [
            {
                "id": "a",
                "source": "s",
                "type": "llm.call",
                "data": {"tokens": 1250},
                "time": "2026-11-21T01:00:00Z",
                "customer": "acme",
            }
        ]
    ]


def test_an_event_without_an_id_gets_one(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/events", counting)
    for _ in range(2):
        ask("events", "send", "--type", "t", "--subject", "key_1")
    first, second = (body[0] for body in server.bodies("POST", "/v1/events"))
    assert first["id"] != second["id"]
    assert (first["subject"], "source" in first, "customer" in first) == ("key_1", False, False)


def test_an_event_is_sent_as_it_was_written_so_that_its_decimals_stay_exact(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/events", counting)
    data = '{"n": 12345678901234567.1000000001}'
    ask("events", "send", "--type", "t", "--data", data, "--environment", "test")
    ask("events", "send", stdin=b' {"id": "a", "type": "t", "data": ' + data.encode() + b"} \n")
    assert [data.encode() in asked.body for asked in server.asked] == [True, True]
    assert [asked.query for asked in server.asked] == [{"environment": "test"}, {"environment": "live"}]


def test_many_events_go_in_batches_in_their_order(
    ask: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BATCH", 2)
    server.on("POST", "/v1/events", counting)
    sent = [{"id": name, "type": "t", "customer": "c"} for name in ("a", "b", "old", "d", "e")]
    result = ask("events", "send", stdin=b"\n" + lines(*sent))
    assert (result.code, result.out) == (0, "4 accepted, 1 duplicate\n")
    batches = server.bodies("POST", "/v1/events")
    assert [[event["id"] for event in batch] for batch in batches] == [["a", "b"], ["old", "d"], ["e"]]


def test_a_batch_is_bounded_in_bytes(ask: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BATCH_BYTES", 200)
    server.on("POST", "/v1/events", counting)
    ask("events", "send", stdin=lines(*({"id": str(n), "type": "t", "data": {"x": "y" * 100}} for n in range(3))))
    assert [len(batch) for batch in server.bodies("POST", "/v1/events")] == [1, 1, 1]


def test_faulty_lines_are_named_and_nothing_is_sent(ask: Run, server: FakeServer) -> None:
    text = lines({"id": "a", "type": "t"}) + b'{"type": "t"}\n\n[1]\nnot json\n\xff\n' + b"[" * 100_000 + b"\n"
    text += b'{"id": "a", "n": NaN}\n{"id": "\\ud800"}\n'
    result = ask("events", "send", stdin=text)
    assert (result.code, result.out, server.asked) == (2, "", [])
    said = result.err.splitlines()
    assert said[0] == 'error: stdin:2: expected an "id", so that the event counts once when the file is sent again'
    assert said[1] == "  stdin:4: expected a JSON object"
    assert said[2].startswith("  stdin:5: expected JSON: ")
    assert said[3].startswith("  stdin:6: expected JSON: ")
    assert said[4:] == [
        "  stdin:7: expected JSON: nested too deeply",
        "  stdin:8: expected JSON: NaN is not JSON",
        "  stdin:9: expected JSON: half of a surrogate pair",
        "  Nothing was sent.",
    ]


def test_only_the_first_faults_are_shown_one_by_one(ask: Run, server: FakeServer) -> None:
    result = ask("events", "send", stdin=b"x\n" * 1200)
    assert len(result.err.splitlines()) == events.SHOWN + 2
    assert "and 1,190 more faulty lines" in result.err


def test_a_line_without_an_end_is_refused_and_not_read_whole(ask: Run, server: FakeServer) -> None:
    result = ask("events", "send", stdin=b"x" * (events.LINE_BYTES + 5))
    assert (result.code, server.asked) == (2, [])
    assert result.err.startswith("error: stdin:1: expected a line of at most 1,000,000 bytes\n")


def test_what_the_server_refuses_is_named_by_its_line_and_exits_with_1(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/events", counting)
    text = lines({"id": "a", "type": "t"}, {"id": "bad1", "type": "t"}, {"id": "two", "type": "t"})
    result = ask("events", "send", stdin=text)
    assert (result.code, result.out) == (1, "1 accepted, 1 conflict, 1 rejected\n")
    assert result.err == "error: stdin:2: bad1: rejected: Too old.\nerror: stdin:3: two: conflict: conflict\n"


def test_events_that_no_meter_counts_are_a_warning(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/events", counting)
    result = ask("events", "send", "--type", "nobody")
    assert result.code == 0
    assert "1 accepted event matches no meter, so nothing was counted" in result.err


def test_json_holds_a_result_for_each_line(ask: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BATCH", 1)
    server.on("POST", "/v1/events", counting)
    result = ask("events", "send", "--json", stdin=lines({"id": "a", "type": "t"}, {"id": "bad", "type": "t"}))
    shown = json.loads(result.out)
    assert [(one["index"], one["id"], one["status"]) for one in shown["results"]] == [
        (0, "a", "accepted"),
        (1, "bad", "rejected"),
    ]
    assert (shown["accepted"], shown["rejected"], result.code) == (1, 1, 1)


def test_a_break_in_the_middle_says_how_far_it_got(
    ask: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BATCH", 1)
    server.on("POST", "/v1/events", [counting, Answer(hang_up=True), Answer(hang_up=True)])
    result = ask("events", "send", stdin=lines({"id": "a", "type": "t"}, {"id": "b", "type": "t"}))
    assert result.code == 3
    assert result.err.startswith("1 event of 2 were answered; send the same again, each counts once.\n")


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (["--type", "t", "--data", "[1]"], b""),
        (["--type", "t", "--data", "{"], b""),
        (["--type", "t", "--data", '{"n": Infinity}'], b""),
        (["--type", "t", "--data", '{}, "id": "b"'], b""),
        (["--customer", "acme"], b'{"id": "a"}\n'),
        ([], b""),
        ([], b"\n\n"),
    ],
)
def test_what_cannot_be_an_event_sends_nothing(ask: Run, server: FakeServer, words: list[str], stdin: bytes) -> None:
    result = ask("events", "send", *words, stdin=stdin)
    assert (result.code, result.out, server.asked) == (2, "", [])


def test_on_a_terminal_it_does_not_wait_for_lines(server: FakeServer, tmp_path: Path) -> None:
    code, seen = on_terminal(["events", "send"], "", tmp_path, {"TOLLKEEPER_URL": server.url})
    assert code == 2
    assert "events on stdin: < events.ndjson" in " ".join(plain(seen).split())
