"""What was voided and amended, out and in again."""

from __future__ import annotations

import json

import pytest

from inout.conftest import CATALOG, TOKEN, Served
from inout.test_events_import import event, ndjson, write
from proxy.commands import free_port, running


def sent(served: Served) -> None:
    served.ok("customers", "create", "Bolt", "--id", "bolt", "--plan", "pro")
    rows = [event(f"n{n}", type="llm.call", customer="bolt", data={"tokens": n}) for n in range(1, 4)]
    write(served.folder, "given.ndjson", ndjson(*rows))
    assert served.ok("events", "import", "given.ndjson") == "3 accepted\n"
    why = ("--reason", "=a test", "--yes")
    served.ok("events", "void", "n1", *why)
    served.ok("events", "amend", "n2", "--data", '{"tokens": 0.50, "note": "=1+1"}', *why)


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_an_export_tells_what_became_of_an_event_and_imported_again_counts_nothing_twice(
    served: Served, kind: str
) -> None:
    sent(served)
    served.ok("export", "events", f"x.{kind}")
    told = served.tell("events", "import", f"x.{kind}")
    assert (told.code, told.out) == (1, "0 accepted, 2 duplicate, 1 rejected\n")
    assert "voided" in told.err
    served.ok("export", "events", "y.ndjson")
    rows = [json.loads(line) for line in (served.folder / "y.ndjson").read_text().splitlines()]
    assert [(row["id"], row["state"]) for row in rows] == [("n1", "voided"), ("n2", "amended"), ("n3", "active")]
    assert [row["data"]["tokens"] for row in rows] == [1, 2, 3]
    assert [row["amended"] for row in rows] == [None, {"note": "=1+1", "tokens": 0.5}, None]
    assert [row["correction"] is None for row in rows] == [False, False, True]


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_imported_elsewhere_an_export_counts_what_counted_there(
    served: Served, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(served)
    served.ok("export", "events", f"x.{kind}")
    elsewhere, port = served.folder / "elsewhere", str(free_port())
    elsewhere.mkdir()
    (elsewhere / "tollkeeper.toml").write_text(CATALOG)
    monkeypatch.setenv("TOLLKEEPER_URL", f"http://127.0.0.1:{port}")
    with running(elsewhere, "serve", PORT=port, TOLLKEEPER_ADMIN_TOKEN=TOKEN) as server:
        server.until("listens on")
        served.ok("customers", "create", "Bolt", "--id", "bolt", "--plan", "pro")
        told = served.tell("events", "import", f"x.{kind}", "--state", "elsewhere.import")
        assert (told.code, told.out) == (1, "2 accepted, 1 rejected\n")
        used = json.loads(served.ok("usage", "bolt", "--meter", "tokens", "--from", "2d", "--json"))
        assert used["total"] == "3.5"
