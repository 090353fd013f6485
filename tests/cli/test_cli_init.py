"""`init` and the guide: questions, files that are never lost."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tollkeeper.cli.guide import CHOICES
from tollkeeper.cli.init import env_example
from tollkeeper.core.catalog import parse_catalog
from tollkeeper.dotenv import read_env
from tollkeeper.settings import SETTINGS, Settings

from .conftest import Run
from .fake_server import FakeServer
from .terminal_session import on_terminal, plain
from .write_docs import commands


def test_the_defaults_make_a_valid_catalog_and_a_token_that_only_the_owner_reads(run: Run, tmp_path: Path) -> None:
    result = run("init", "--yes")
    assert result.code == 0
    assert result.out.splitlines() == [
        "wrote  tollkeeper.toml",
        "wrote  .env.example",
        "wrote  .env with an admin token, readable by you alone",
    ]
    catalog = parse_catalog((tmp_path / "tollkeeper.toml").read_text())
    assert (list(catalog.meters), list(catalog.plans), catalog.currency) == (["api_calls"], ["free", "pro"], "usd")
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert Settings.load({}, tmp_path).admin_token is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", ".env.example", "tollkeeper.toml"]


def test_options_are_answers(run: Run, tmp_path: Path) -> None:
    words = ["--name", "Weather", "--meter", "forecasts", "--free", "500", "--price", "0.002", "--currency", "eur"]
    assert run("init", *words).code == 0
    catalog = parse_catalog((tmp_path / "tollkeeper.toml").read_text())
    assert (catalog.name, list(catalog.meters), catalog.currency) == ("Weather", ["forecasts"], "eur")
    assert catalog.plans["free"].quotas[0].limit == 500


def test_questions_have_defaults_and_a_bad_answer_is_asked_again(tmp_path: Path) -> None:
    code, seen = on_terminal(["init", "--currency", "eur"], "Weather\n\nmany\n500\n\n", tmp_path)
    assert code == 0
    assert "Name of the product [API]: " in plain(seen)
    assert "error: free: expected a quantity" in plain(seen)
    assert "Currency" not in plain(seen)
    catalog = parse_catalog((tmp_path / "tollkeeper.toml").read_text())
    assert (catalog.name, list(catalog.meters), catalog.currency) == ("Weather", ["api_calls"], "eur")
    assert catalog.plans["free"].quotas[0].limit == 500


def test_with_nobody_there_the_missing_answers_are_named(run: Run, tmp_path: Path) -> None:
    result = run("init", "--name", "Weather")
    assert result.code == 2
    assert "Give --meter, --free, --price, --currency, or --yes" in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["--free", "x"], ["--currency", "USD"], ["--meter", "a b"], ["--free", "0", "--price", "0"]]
)
def test_an_answer_that_cannot_be_writes_nothing(run: Run, tmp_path: Path, words: list[str]) -> None:
    assert run("init", "--yes", *words).code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tollkeeper.toml", ".env.example"])
def test_a_file_that_is_there_is_replaced_only_when_asked_for(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    result = run("init", "--yes")
    assert (result.code, result.err) == (
        1,
        f"error: {name} is there already; nothing was written\n  Replace it with --overwrite.\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert run("init", "--yes", "--overwrite").code == 0
    assert (tmp_path / name).read_text() != "mine"


def test_on_a_terminal_each_file_is_asked_about(tmp_path: Path) -> None:
    for name in ("tollkeeper.toml", ".env.example"):
        (tmp_path / name).write_text("mine")
    code, seen = on_terminal(["init"], "\n" * 5 + "n\ny\n", tmp_path)
    assert code == 0
    assert "tollkeeper.toml is there already. Replace it? [y/N]: " in plain(seen)
    assert (tmp_path / "tollkeeper.toml").read_text() == "mine"
    assert (tmp_path / ".env.example").read_text() == env_example()


def test_env_keeps_its_lines_and_its_token(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# mine\nTOLLKEEPER_ADMIN_TOKEN=a-token-of-mine-1234\nPORT=4000\n")
    result = run("init", "--yes")
    assert "kept   .env\n" in result.out
    assert (tmp_path / ".env").read_text() == "# mine\nTOLLKEEPER_ADMIN_TOKEN=a-token-of-mine-1234\nPORT=4000\n"


def test_the_example_holds_every_setting_commented_out(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(env_example())
    assert read_env(path) == {}
    path.write_text(env_example().replace("\n#", "\n").replace("\n ", "\n# "))
    assert {name: value for name, (value, _) in read_env(path).items()} == {s.name: s.default or "" for s in SETTINGS}
    assert Settings.load({}, tmp_path).port == 3000


def test_alone_on_a_terminal_it_runs_the_command_that_it_shows(server: FakeServer, tmp_path: Path) -> None:
    server.on("GET", "/health", {"status": "ok", "storage": "ok", "version": "1"})
    status = [choice.words for choice in CHOICES].index(("status",)) + 1
    code, seen = on_terminal([], f"99\n{status}\n\n", tmp_path, {"TOLLKEEPER_URL": server.url})
    text = plain(seen)
    assert code == 0
    assert f"error: '99' is not a number from 1 to {len(CHOICES)}" in text
    assert "$ tollkeeper status\n" in text
    assert f"server   {server.url}" in text
    assert text.count("What do you want to do?") == 3


def test_ctrl_d_leaves_the_guide(tmp_path: Path) -> None:
    code, seen = on_terminal([], "\x04", tmp_path)
    assert code == 0
    assert "error" not in plain(seen)


def test_the_guide_asks_for_what_the_command_needs(server: FakeServer, tmp_path: Path) -> None:
    server.on("GET", "/v1/usage", {"meter": "m", "total": "7", "data": []})
    usage = [choice.words for choice in CHOICES].index(("usage",)) + 1
    _, seen = on_terminal([], f"{usage}\nm\n\n", tmp_path, {"TOLLKEEPER_URL": server.url})
    assert "$ tollkeeper usage --meter m\n" in plain(seen)
    assert "m: 7 in all" in plain(seen)


def test_a_blank_answer_to_what_is_needed_leads_back_to_the_choices(tmp_path: Path) -> None:
    wrap = [choice.words for choice in CHOICES].index(("wrap",)) + 1
    code, seen = on_terminal([], f"{wrap}\n\n\n", tmp_path)
    text = plain(seen)
    assert (code, "error" in text, text.count("What do you want to do?")) == (0, False, 2)


def test_every_choice_of_the_guide_is_a_command() -> None:
    from tollkeeper.cli.app import build

    known = {*commands(build()), ("--help",)}
    assert [choice.words for choice in CHOICES if choice.words not in known] == []
