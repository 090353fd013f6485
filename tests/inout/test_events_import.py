"""Files of usage: resumed where a run ended, counted once however often, and every fault told by its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.conftest import Run
from cli.fake_server import Answer, FakeServer
from cli.terminal_session import on_terminal, plain
from cli.test_cli_events import counting
from inout.conftest import TOKEN, Served
from tollkeeper.cli import events_import
from tollkeeper.cli.csv_records import Unreadable, records
from tollkeeper.cli.import_rows import value_text

TIME = "2026-11-20T10:00:00Z"


def now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()


def event(id: str | None, **more: Any) -> dict[str, Any]:
    made = {"type": "api.call", "customer": "acme", "time": now(), **more}
    return made if id is None else {"id": id, **made}


def ndjson(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in events)


def used(served: Served, meter: str = "api_calls") -> str:
    return str(json.loads(served.ok("usage", "acme", "--meter", meter, "--from", "2d", "--json"))["total"])


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_same_file_counts_once_however_often_and_however_packed(served: Served, pack: Any) -> None:
    content = ndjson(*(event(f"a{n}") for n in range(5)), *(event(None) for _ in range(5)))
    write(served.folder, "x.ndjson", pack(content))
    assert served.ok("events", "import", "x.ndjson") == "10 accepted\n"
    assert served.ok("events", "import", "x.ndjson") == "10 accepted\n"
    assert used(served) == "10"
    assert served.ok("events", "import", "x.ndjson", "--restart") == "0 accepted, 10 duplicate\n"
    write(served.folder, "y.jsonl.gz", gzip.compress(content))
    assert served.ok("events", "import", "y.jsonl.gz", "--state", "s") == "0 accepted, 10 duplicate\n"
    assert used(served) == "10"


def test_a_table_is_imported_with_its_numbers_exact(served: Served) -> None:
    at = now()
    rows = [
        "id,type,customer,time,data.tokens,data.model",
        f"a,llm.call,acme,{at},0.000000001,m",
        f'b,llm.call,acme,{at},12345678901.5,"two\nlines, ""quoted"""',
        f"c,llm.call,acme,{at},1e2,",
    ]
    write(served.folder, "x.csv", b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    assert served.ok("events", "import", "x.csv") == "3 accepted\n"
    assert used(served, "tokens") == "12345679001.500000001"


def test_an_import_goes_on_where_it_ended(
    ask: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_import, "BATCH", 2)
    write(tmp_path, "x.csv", b"type,customer,time\n" + f"api.call,acme,{TIME}\n".encode() * 5)
    broken = Answer(hang_up=True)
    server.on("POST", "/v1/events", [counting, broken, broken, counting, counting])
    first = ask("events", "import", "x.csv")
    assert (first.code, first.out) == (3, "")
    assert "Imported up to line 3; the same command goes on from there." in first.err
    second = ask("events", "import", "x.csv")
    assert (second.code, second.out) == (0, "5 accepted\n")
    assert "Went on at line 4" in second.err
    ids = [[one["id"] for one in body] for body in server.bodies("POST", "/v1/events")]
    assert [[int(id.split("-")[1]) for id in batch] for batch in ids] == [[2, 3], [4, 5], [4, 5], [4, 5], [6]]
    asked = len(server.asked)
    assert ask("events", "import", "x.csv").out == "5 accepted\n"
    assert len(server.asked) == asked


def test_ids_are_made_of_content_and_line_and_told(ask: Run, server: FakeServer, tmp_path: Path) -> None:
    server.on("POST", "/v1/events", counting)
    content = ndjson(
        {"type": "t", "time": TIME}, {"type": "t", "time": TIME, "id": None}, {"id": "own", "type": "t", "time": TIME}
    )
    for name in ("x.ndjson", "y.ndjson"):
        write(tmp_path, name, content)
        told = ask("events", "import", name)
        assert "2 rows without an id: made of the file's fingerprint and line" in told.err
    first, second = ([one["id"] for one in body] for body in server.bodies("POST", "/v1/events"))
    assert first == second
    assert first[2] == "own"
    assert [id[32:] for id in first[:2]] == ["-1", "-2"]


def test_a_file_that_changed_is_not_gone_on_with(ask: Run, server: FakeServer, tmp_path: Path) -> None:
    server.on("POST", "/v1/events", counting)
    path = write(tmp_path, "x.ndjson", ndjson({"type": "t", "time": TIME}))
    ask("events", "import", "x.ndjson")
    path.write_bytes(path.read_bytes() * 2)
    asked = len(server.asked)
    told = ask("events", "import", "x.ndjson")
    assert (told.code, told.out, len(server.asked)) == (2, "", asked)
    assert "the file has changed" in told.err
    assert "1 ids were made from the file as it was: those rows would count a second time" in told.err
    path.write_bytes(ndjson({"type": "t", "time": TIME}))
    other = ask("events", "import", "x.ndjson", "--environment", "test")
    assert (other.code, len(server.asked)) == (2, asked)
    assert "the environment was live" in other.err
    (tmp_path / "x.ndjson.import").write_text("[]")
    assert ask("events", "import", "x.ndjson").code == 2
    assert ask("events", "import", "x.ndjson", "--restart").code == 0


def test_faulty_rows_are_told_by_line_and_spoil_no_other(ask: Run, server: FakeServer, tmp_path: Path) -> None:
    server.on("POST", "/v1/events", counting)
    good = ndjson({"id": "a", "type": "t", "time": TIME})
    bad = [
        b"not json\n",
        b"[1]\n",
        b"\xff\xfe\n",
        b'{"id": "b", "id": "c", "type": "t"}\n',
        b'{"id": "d", "type": "t", "time": "x", "n": NaN}\n',
        b'{"id": "\\ud800", "type": "t", "time": "x"}\n',
        b'{"x":' * 50_000 + b"1" + b"}" * 50_000 + b"\n",
        b'{"id": "e", "type": "t"}\n',
        b'{"id": "f", "time": "x"}\n',
        ndjson({"id": "bad1", "type": "t", "time": TIME}),
        b"\n",
    ]
    write(tmp_path, "x.ndjson", good + b"".join(bad) + good.replace(b'"a"', b'"z"'))
    told = ask("events", "import", "x.ndjson", "--faults", "faults.ndjson")
    assert (told.code, told.out) == (1, "2 accepted, 10 rejected\n")
    assert [one["id"] for one in server.bodies("POST", "/v1/events")[0]] == ["a", "bad1", "z"]
    faults = [json.loads(line) for line in (tmp_path / "faults.ndjson").read_text().splitlines()]
    assert [one["line"] for one in faults] == list(range(2, 12))
    assert faults[7]["detail"] == 'expected a "time": without one the row would count as of now'
    assert [f"x.ndjson:{one['line']}: rejected: {one['detail']}" in told.err for one in faults] == [True] * 10


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("x.csv", b"", "1: expected a header"),
        ("x.csv", b"id,type,type\n", "1: columns 2 and 3 have the same name"),
        ("x.csv", b"id,,type\n", "1: column 2 has no name"),
        ("x.csv", b"id,kind\n", "1: column 2, 'kind', is not known"),
        ("x.csv", b"id,data,data.n\n", "1: expected a column data"),
        ("x.csv", b'id,type\na,"b\n', "2: a quote opens here and is not closed"),
        ("x.csv", b'id,type\na,"' + b"b" * 2_000_000, "2: expected a record of at most 1,000,000 bytes"),
        ("x.ndjson", b"[" * 2_000_000, "1: expected a line of at most 1,000,000 bytes"),
        ("x.ndjson.gz", gzip.compress(b'{"id": "a"}\n' * 1000)[:-20], "is cut off"),
        ("x.ndjson.gz", gzip.compress(b"x" * 1000)[:10] + b"\xff" * 40, "cannot be read"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_read_is_refused_with_its_line(
    ask: Run, server: FakeServer, tmp_path: Path, name: str, content: bytes, line: str
) -> None:
    write(tmp_path, name, content)
    told = ask("events", "import", name)
    assert (told.code, told.out, server.asked) == (2, "", [])
    assert line in told.err


def test_rows_of_a_table_are_told_by_the_line_where_they_begin(ask: Run, server: FakeServer, tmp_path: Path) -> None:
    server.on("POST", "/v1/events", counting)
    rows = [
        b"id,type,time,data",
        b'a,t,x,"{""n"":',
        b' 1.10}"',
        b"b,t,x",
        b"c,t,x,[1]",
        b'd,t,x,"a"b',
        b"e,t,\rx,",
        b"f,t,\xff,",
        b"g,t,x,",
    ]
    write(tmp_path, "x.csv", b"\n".join(rows))
    told = ask("events", "import", "x.csv", "--faults", "f")
    assert (told.code, told.out) == (1, "2 accepted, 5 rejected\n")
    assert [json.loads(line)["line"] for line in (tmp_path / "f").read_text().splitlines()] == [4, 5, 6, 7, 8]
    assert b'"data":{"n":\n 1.10}' in server.asked[0].body


def test_a_state_that_cannot_be_kept_is_told_before_anything_is_sent(
    ask: Run, server: FakeServer, tmp_path: Path
) -> None:
    write(tmp_path, "x.ndjson", ndjson({"type": "t", "time": TIME}))
    told = ask("events", "import", "x.ndjson", "--state", "no/such/folder/state")
    assert (told.code, server.asked) == (2, [])
    assert "--state PATH" in told.err


def test_a_bar_is_shown_on_a_terminal_alone(served: Served) -> None:
    write(served.folder, "x.ndjson", ndjson(event("a")))
    where = {"TOLLKEEPER_URL": served.url, "TOLLKEEPER_ADMIN_TOKEN": TOKEN}
    code, seen = on_terminal(["events", "import", "x.ndjson"], "", served.folder, where)
    assert (code, "importing" in plain(seen)) == (0, True)
    assert "importing" not in served.tell("events", "import", "x.ndjson", "--restart").err


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.lists(texts, min_size=2, max_size=2), max_size=6))
def test_records_are_what_a_writer_of_csv_wrote_and_their_places_add_up(rows: list[list[str]]) -> None:
    import csv
    import io

    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(rows)
    content = out.getvalue().encode()
    found = list(records(io.BytesIO(content)))
    assert [(list(one.values), one.fault) for one in found] == [(row, "") for row in rows]
    assert ([0] + [one.end for one in found])[-1] == len(content)
    for one in found:
        rest = list(records(io.BytesIO(content[one.end :]), one.end, one.next_line))
        assert rest == found[found.index(one) + 1 :]


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_reader(content: bytes) -> None:
    import io

    try:
        for one in records(io.BytesIO(content)):
            assert one.fault or one.values
    except Unreadable:
        assert content.count(b'"') % 2


@given(texts)
def test_a_cell_becomes_the_json_of_itself(text: str) -> None:
    value = json.loads(value_text(text), parse_float=str, parse_int=str)
    assert value == text
