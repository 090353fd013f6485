"""Exports: whole or not at all, exact, safe in a spreadsheet; and what is exported and imported counts nothing twice."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.conftest import Run
from cli.fake_server import FakeServer
from cli.test_cli_events import counting
from inout.conftest import Served
from inout.test_events_import import event, ndjson, used, write
from pages import Page
from proxy.commands import free_port, running
from proxy.commands import run as command
from tollkeeper.cli.events_import import _open
from tollkeeper.cli.export import _event, _writing
from tollkeeper.cli.export_shape import EVENT_COLUMNS, escaped, unescaped
from tollkeeper.core.events import UsageEvent
from web.site import Site

HOSTILE = ["=1+1", "'=1+1", "''", "+a", "-1", "@x", "\t=1", '"q"', "a,b", "two\nlines", "é✓", "a'b", "="]


def fill(served: Served) -> None:
    served.ok("customers", "create", "Bolt", "--id", "bolt", "--plan", "pro")
    tokens = '{"tokens": %s, "note": "=x\\n\\"y\\""}'
    rows = [event(id, subject=f"{id}!") for id in HOSTILE]
    exact = [event(f"n{n}", type="llm.call", customer="bolt") for n in range(3)]
    text = ndjson(*rows)
    for one, number in zip(exact, ("1.10", "0.000000001", "123456789012345.000000005"), strict=True):
        text += (json.dumps(one)[:-1] + f', "data": {tokens % number}}}\n').encode()
    write(served.folder, "given.ndjson", text)
    assert served.ok("events", "import", "given.ndjson") == "16 accepted\n"


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_what_is_exported_and_imported_again_counts_nothing_twice(served: Served, kind: str) -> None:
    fill(served)
    total = served.ok("usage", "bolt", "--meter", "tokens", "--from", "2d")
    served.ok("export", "events", f"x.{kind}")
    assert served.ok("events", "import", f"x.{kind}") == "0 accepted, 16 duplicate\n"
    assert used(served) == "13"
    assert (
        served.ok("usage", "bolt", "--meter", "tokens", "--from", "2d").split(" in all")[0] == total.split(" in all")[0]
    )
    served.ok("export", "events", f"y.{kind}", "--customer", "bolt")
    served.ok("export", "events", "y.ndjson", "--customer", "bolt", "--yes")
    assert [json.loads(line)["id"] for line in (served.folder / "y.ndjson").read_text().splitlines()] == [
        "n0",
        "n1",
        "n2",
    ]
    assert '"tokens":123456789012345.000000005' in (served.folder / "y.ndjson").read_text()
    assert not list(served.folder.glob("*.new"))


def test_what_the_gate_itself_counted_is_not_imported_again(served: Served) -> None:
    key = json.loads(served.ok("keys", "create", "--customer", "acme", "--json"))["key"]
    served.ok("check", key, "--meter", "api_calls")
    served.ok("export", "events", "x.csv")
    told = served.tell("events", "import", "x.csv")
    assert (told.code, told.out) == (1, "0 accepted, 1 rejected\n")
    assert used(served) == "1"


def test_no_text_of_others_begins_a_formula_in_csv(served: Served) -> None:
    fill(served)
    served.ok("export", "events", "x.csv")
    with (served.folder / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [unescaped(row["id"]) for row in rows[:13]] == HOSTILE
    assert not [cell for row in rows for name, cell in row.items() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@given(st.text(max_size=6) | st.text("'=+-@\t\r\na", max_size=6))
def test_escaping_is_undone_exactly_and_leaves_nothing_active(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert not escaped(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_usage_is_exported_by_customer_meter_and_window(served: Served, kind: str) -> None:
    fill(served)
    served.ok("export", "usage", f"u.{kind}", "--from", "2d", "--window", "day", "--by-key")
    path = served.folder / f"u.{kind}"
    if kind == "csv":
        rows: list[dict[str, Any]] = list(csv.DictReader(path.read_text().splitlines()))
    elif kind == "ndjson":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(path).to_pylist()
    totals = {
        who: sum(Decimal(str(row["value"])) for row in rows if (row["customer"], row["meter"]) == who)
        for who in (("acme", "api_calls"), ("bolt", "tokens"))
    }
    assert totals == {("acme", "api_calls"): 13, ("bolt", "tokens"): Decimal("123456789012346.100000006")}
    assert {row["state"] for row in rows} == {"known"}
    assert len({row["key"] for row in rows if row["customer"] == "acme"}) == 13


def test_a_file_that_is_there_is_replaced_only_when_told(ask: Run, server: FakeServer, tmp_path: Path) -> None:
    server.on("GET", "/v1/events/log", {"data": [], "next_cursor": None})
    write(tmp_path, "x.csv", b"mine")
    assert ask("export", "events", "x.csv").code == 2
    assert (tmp_path / "x.csv").read_bytes() == b"mine"
    assert ask("export", "events", "x.csv", "--yes").code == 0
    assert (tmp_path / "x.csv").read_text().split() == [",".join(EVENT_COLUMNS)]
    assert ask("export", "events", "-", "--format", "csv").out.split() == [",".join(EVENT_COLUMNS)]
    assert ask("export", "events", "-", "--format", "parquet").code == 2
    assert ask("export", "events", "x.txt").code == 2


def test_an_export_that_breaks_leaves_no_file(ask: Run, server: FakeServer, tmp_path: Path) -> None:
    assert ask("export", "events", "x.parquet").code == 1
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_the_extra_is_named(tmp_path: Path) -> None:
    write(tmp_path, "x.parquet", b"PAR1")
    script = "import sys; sys.modules['pyarrow'] = None; from tollkeeper.cli import main; sys.exit(main(sys.argv[1:]))"
    for words in (["events", "import", "x.parquet"], ["export", "events", "y.parquet"]):
        done = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2
        assert "pip install 'tollkeeper[parquet]'" in done.stderr


def test_a_parquet_import_goes_on_by_rows_and_tells_its_faults(
    ask: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow
    import pyarrow.parquet

    from cli.fake_server import Answer
    from tollkeeper.cli import events_import

    monkeypatch.setattr(events_import, "BATCH", 2)
    at = pyarrow.array([1_790_000_000_000_000_001] * 7, pyarrow.timestamp("ns", "UTC"))
    found = {"type": ["t"] * 6 + [None], "time": at, "data.n": [1.5, 2.0, float("nan"), None, 1.0, 2.0, 3.0]}
    pyarrow.parquet.write_table(pyarrow.table(found), tmp_path / "x.parquet", row_group_size=3)
    server.on(
        "POST", "/v1/events", [counting, Answer(hang_up=True), Answer(hang_up=True), counting, counting, counting]
    )
    assert ask("events", "import", "x.parquet").code == 3
    told = ask("events", "import", "x.parquet")
    assert (told.code, told.out) == (1, "5 accepted, 2 rejected\n")
    assert "x.parquet:3: rejected: data.n: nan is no number" in told.err
    assert 'x.parquet:7: rejected: expected a "type"' in told.err
    sent = [[int(one["id"].split("-")[1]) for one in body] for body in server.bodies("POST", "/v1/events")]
    assert sent == [[1, 2], [4], [4], [4], [5, 6]]
    assert server.bodies("POST", "/v1/events")[0][0]["data"] == {"n": 1.5}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 64 + b"PAR1"])
def test_a_damaged_parquet_file_is_refused(ask: Run, server: FakeServer, tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "x.parquet", content)
    told = ask("events", "import", "x.parquet")
    assert (told.code, told.out, server.asked) == (2, "", [])
    assert "cannot be read" in told.err


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.text(
    "'=+-@\t\r\n\"\0,", min_size=1
)
data = st.dictionaries(names, names | st.integers() | st.decimals(allow_nan=False, allow_infinity=False), max_size=3)
logged = st.fixed_dictionaries(
    {
        "id": names,
        "source": names,
        "type": names,
        "customer": names,
        "subject": names | st.none(),
        "data": st.none() | data,
        "amended": st.none() | data,
    }
)


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
@given(found=st.lists(logged, max_size=5))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_import_reads_every_event_as_the_export_was_given_it(tmp_path: Path, kind: Any, found: list[Any]) -> None:
    more = {"environment": "live", "time": "2026-11-21T10:00:00.000001Z", "received_at": "2026-11-21T10:00:01Z"}
    events = [{**event, **more, "quantity": "1", "seq": seq, **corrected(event)} for seq, event in enumerate(found, 1)]
    path = tmp_path / f"x.{kind}"
    with _writing(str(path), None, EVENT_COLUMNS, True) as add:
        add([_event(event) for event in events])
    with _open(path, None, "live", lambda done, of: None) as rows:
        read = list(rows.rows(0, 1))
    assert [row.fault for row in read] == [""] * len(events)
    for row, given_event in zip(read, events, strict=True):
        assert row.event is not None
        for name in ("id", "source", "type", "customer", "subject"):
            assert json.loads(row.event.get(name, "null")) == given_event[name]
        assert datetime.fromisoformat(json.loads(row.event["time"])) == datetime.fromisoformat(more["time"])
        assert json.loads(row.event.get("data", "null"), parse_float=Decimal) == (
            given_event["data"] if given_event["amended"] is None else given_event["amended"]
        )


def corrected(event: dict[str, Any]) -> dict[str, str | None]:
    return {"state": "active" if event["amended"] is None else "amended", "correction": "=1"}


async def test_the_log_comes_in_pages_and_a_customer_sees_only_its_own(site: Site, api: httpx.AsyncClient) -> None:
    for name in ("acme", "bolt"):
        await api.post("/v1/customers", json={"id": name, "name": name, "plan": "pro"})
    site.toll.ingest.ingest_wait("live", [UsageEvent(f"e{n}", "x", customer=("acme", "bolt")[n % 2]) for n in range(5)])
    key = site.toll.keys.create("bolt").key
    async with site.client(key) as own:
        first = (await own.get("/v1/events/log?limit=3")).json()
        rest = (await own.get(f"/v1/events/log?limit=3&cursor={first['next_cursor']}")).json()
        assert [one["id"] for one in first["data"] + rest["data"]] == ["e1", "e3"]
        assert rest["next_cursor"] is None
        assert (await own.get("/v1/events/log?customer=acme")).status_code == 403
        assert (await own.get("/v1/events/log?environment=test")).status_code == 403
    assert (await api.get("/v1/events/log?environment=test")).json() == {"data": [], "next_cursor": None}


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    ports = {"3000": str(free_port())}
    page = Page("export.md", ports)
    where = {"TOLLKEEPER_URL": f"http://127.0.0.1:{ports['3000']}"}

    def do(begins: str) -> str:
        done = command(tmp_path, *page.next("sh", begins).split()[1:], **where)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    do("tollkeeper init")
    with running(tmp_path, "serve", PORT=ports["3000"]) as server:
        server.until("listens on")
        do("tollkeeper customers create")
        do("tollkeeper events send")
        do("tollkeeper export events events.csv")
        assert do("tollkeeper events import") == page.next("text")
        do("tollkeeper export events events.parquet")
        do("tollkeeper export usage")
        assert (tmp_path / "usage.csv").read_text().splitlines()[0] == page.next("csv")
        assert page.left() == {}
        assert server.stop() == 0
        assert server.troubles() == []
