"""`tollkeeper backup`, `restore` and `verify`, as they are typed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from spine import Spine
from tollkeeper.cli import main, terminal

from .test_verify import busy


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(spine: Spine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """One command line, where the database of `spine` is, which has seen some weeks."""
    busy(spine, random.Random(1))
    monkeypatch.chdir(Path(spine.url).parent)
    monkeypatch.setenv("TOLLKEEPER_DATABASE_URL", f"sqlite:///{Path(spine.url).name}")

    def running(*words: str) -> Result:
        code = main(words)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return running


def test_a_week_with_the_three_commands(spine: Spine, run: Run) -> None:
    count = sum(1 for _ in spine.app.usage_file.reader.events())
    made = run("backup", "one")
    assert (made.code, made.err) == (0, "Both files are sound, and the totals equal the log.\n")
    assert made.out.startswith(f"one: {count} events, ")
    assert run("restore", "one", "--check").out.startswith(f"one is sound: {count} events, made ")
    assert run("verify").code == 0
    spine.app.close()
    refused = run("restore", "one")
    assert refused.code == 2
    assert "this needs a yes" in refused.err
    put_back = run("restore", "one", "--yes")
    assert put_back.code == 0
    assert "before-restore-" in put_back.err
    checked = run("verify", "--json")
    found = json.loads(checked.out)
    assert (checked.code, found["ok"], found["events"]) == (0, True, count)
    spine.reopen()


def test_a_restore_beside_a_running_server_says_whom_to_stop(run: Run) -> None:
    run("backup", "one")
    refused = run("restore", "one", "--yes")
    assert refused.code == 1
    assert "has the databases" in refused.err


def test_a_person_who_says_no_changes_nothing(spine: Spine, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("backup", "one")
    spine.app.close()
    before = spine.app.files.main.read_bytes()
    monkeypatch.setattr(terminal, "interactive", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question, err: False)
    refused = run("restore", "one")
    assert (refused.code, spine.app.files.main.read_bytes() == before) == (1, True)
    assert "nothing was changed" in refused.err
    spine.reopen()


def test_onto_an_empty_place_nobody_is_asked(spine: Spine, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("backup", "one")
    monkeypatch.setenv("TOLLKEEPER_DATABASE_URL", "sqlite:///fresh.db")
    assert run("restore", "one").code == 0
    assert Path("fresh.db").exists()
    assert Path("fresh-usage.db").exists()


def test_totals_that_do_not_equal_the_log_are_a_negative_answer(spine: Spine, run: Run) -> None:
    spine.app.usage_file.writer.call(lambda log: log.db.execute("UPDATE rollups SET events = events + 1"))
    found = run("verify")
    assert found.code == 1
    assert "do not equal the log" in found.out
    assert "the log has" in found.out
    assert run("backup", "one").code == 1
    assert run("backup", "one", "--quick").code == 0
    spine.app.close()
    assert "run `tollkeeper verify`" in run("restore", "one", "--yes").err
    spine.reopen()


def test_json_tells_every_figure(run: Run) -> None:
    made = json.loads(run("backup", "one", "--json").out)
    assert made["folder"] == str(Path("one").absolute())
    assert set(made["files"]) == {"tollkeeper.db", "tollkeeper-usage.db"}
    assert made["state"]["events"] > 0
    checked = json.loads(run("restore", "one", "--check", "--json").out)
    assert (checked["restored"], checked["aside"]) == (False, None)
    assert checked["files"] == made["files"]


def test_a_database_that_is_not_there_is_named(run: Run) -> None:
    for words in (("verify", "none.db"), ("restore", "none")):
        failed = run(*words)
        assert failed.code == 1
        assert "none" in failed.err
