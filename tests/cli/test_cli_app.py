"""The command line as a whole: help, versions, exit codes, errors, secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tollkeeper import __version__

from .conftest import TOKEN, Run
from .fake_server import Answer, Asked, FakeServer, problem
from .terminal_session import on_terminal, plain
from .write_docs import commands, help_text


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").out == f"tollkeeper {__version__}\n"


def test_alone_on_a_pipe_it_prints_its_help(run: Run) -> None:
    result = run()
    assert result.code == 0
    assert "Start here" in result.out
    assert result.err == ""


def test_panels_stand_in_the_order_of_a_first_week() -> None:
    text = help_text()
    places = [text.index(panel) for panel in ("Start here", "Sell", "Operate", "Look")]
    assert places == sorted(places)


def test_every_command_has_a_help_with_an_example() -> None:
    from tollkeeper.cli.app import build

    for words in commands(build()):
        text = help_text(*words)
        is_group = "COMMAND" in text.splitlines()[0]
        assert is_group or "Examples" in text, words
        assert max(map(len, text.splitlines())) <= 80, words


@pytest.mark.parametrize(
    ("words", "said", "see"),
    [
        (["keyz"], "No such command 'keyz'. Did you mean 'keys'?", "tollkeeper"),
        (["keys", "list", "--limit", "x"], "Invalid value for '--limit'", "tollkeeper keys list"),
        (["keys", "list", "--limit"], "Option '--limit' requires an argument.", "tollkeeper keys list"),
        (["usage", "--window", "week"], "'week' is not one of 'hour', 'day', 'month', 'period'.", "tollkeeper usage"),
        (
            ["usage", "--from", "yesterday"],
            "Invalid value for --from: 'yesterday' is not an instant",
            "tollkeeper usage",
        ),
        (
            ["usage", "--zone", "Mars/X"],
            "Invalid value for --zone: 'Mars/X' is not an IANA time zone",
            "tollkeeper usage",
        ),
        (["serve", "--port", "99999"], "Invalid value for '--port'", "tollkeeper serve"),
        (["customers", "create"], "Missing argument 'NAME'.", "tollkeeper customers create"),
    ],
)
def test_a_bad_argument_is_told_and_exits_with_2_before_anything_is_sent(
    ask: Run, server: FakeServer, words: list[str], said: str, see: str
) -> None:
    result = ask(*words)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert said in result.err
    assert result.err.endswith(f"See: {see} --help\n")
    assert "Value error" not in result.err
    assert result.out == ""
    assert server.asked == []


def test_an_argument_that_is_not_text_is_refused(ask: Run, server: FakeServer) -> None:
    result = ask("customers", "show", "\udcff")
    assert (result.code, result.err, server.asked) == (2, "error: argument 3 is not UTF-8 text\n", [])


def test_no_server_exits_with_3_and_says_how_to_start_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLKEEPER_URL", "http://127.0.0.1:1")
    result = run("customers", "list")
    assert result.code == 3
    assert result.err.startswith("error: http://127.0.0.1:1 refuses the connection; nothing listens there.\n")
    assert "tollkeeper serve" in result.err


def test_a_setting_that_cannot_be_exits_with_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "no")
    monkeypatch.setenv("TOLLKEEPER_LOG_FORMAT", "xml")
    result = run("customers", "list")
    assert result.code == 2
    assert [line[:13] for line in result.err.splitlines()] == ["error: PORT: ", "error: TOLLKE"]


def test_an_unknown_setting_is_a_warning(ask: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLKEEPER_PROT", "1")
    server.on("GET", "/health", {"status": "ok", "storage": "ok", "version": "1"})
    result = ask("status")
    assert (result.code, result.err) == (
        0,
        "warning: TOLLKEEPER_PROT in the environment is not a setting; did you mean PORT?\n",
    )


@pytest.mark.parametrize(
    ("status", "code", "exits"),
    [
        (401, "unauthorized", 1),
        (404, "not_found", 1),
        (409, "conflict", 1),
        (500, "internal_error", 1),
        (400, "invalid_request", 2),
    ],
)
def test_a_problem_is_shown_with_its_code_and_request(
    ask: Run, server: FakeServer, status: int, code: str, exits: int
) -> None:
    server.on("GET", "/v1/customers/acme", problem(status, code, "What is wrong."))
    result = ask("customers", "show", "acme")
    assert result.code == exits
    assert result.err.startswith(f"error: What is wrong. ({code})\n")
    assert result.err.endswith("  request req_01\n")
    assert ("TOLLKEEPER_ADMIN_TOKEN" in result.err) == (status == 401)


def test_several_faults_of_one_request_are_shown_one_by_one(ask: Run, server: FakeServer) -> None:
    answer = problem(400, "invalid_request", "2 fields are not valid.")
    answer.body["errors"] = [{"field": "name", "message": "too long"}, {"field": "zone", "message": "no zone"}]
    server.on("POST", "/v1/customers", answer)
    result = ask("customers", "create", "A")
    assert (result.code, result.err) == (
        2,
        "error: 2 fields are not valid. (invalid_request)\n  name: too long\n  zone: no zone\n  request req_01\n",
    )


def test_openapi_prints_the_document_without_a_server(run: Run) -> None:
    result = run("openapi")
    assert result.code == 0
    assert "/v1/check" in json.loads(result.out)["paths"]


def test_verbose_shows_the_exchange_without_any_secret(ask: Run, server: FakeServer) -> None:
    secret = "tk_live_" + "0" * 32 + "1bXk"
    server.on("POST", "/v1/check", {"code": "VALID", "status": 200, "request_id": "req_01", "echo": TOKEN})
    result = ask("check", secret, "--meter", "api_calls", "--verbose")
    assert f"> POST {server.url}/v1/check" in result.err
    assert "> Authorization: Bearer ****" in result.err
    assert '"key": "tk_live_****1bXk"' in result.err
    assert "< 200 in " in result.err
    assert secret not in result.err
    assert TOKEN not in result.err
    assert "> " not in ask("check", secret, "--meter", "api_calls").err


def test_a_reader_that_leaves_early_is_no_traceback(server: FakeServer, tmp_path: Path) -> None:
    reading, writing = os.pipe()

    def leave_then_answer(asked: Asked) -> dict[str, str]:
        os.close(reading)
        return {"id": "x" * 1_000_000}

    server.on("GET", "/v1/customers/a", leave_then_answer)
    process = subprocess.Popen(
        [sys.executable, "-m", "tollkeeper", "customers", "show", "a", "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "TOLLKEEPER_URL": server.url},
    )
    os.close(writing)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (1, b"")


def test_colours_are_for_terminals_and_not_with_no_color(server: FakeServer, tmp_path: Path) -> None:
    server.on("GET", "/health", {"status": "ok", "storage": "ok", "version": "1"})
    env = {"TOLLKEEPER_URL": server.url}
    _, coloured = on_terminal(["status"], "", tmp_path, env)
    _, without = on_terminal(["status"], "", tmp_path, {**env, "NO_COLOR": "1"})
    assert "\x1b[32mok" in coloured
    assert "\x1b[32m" not in without
    assert "ok" in plain(without)


def test_status_says_whether_the_server_is_well(ask: Run, server: FakeServer) -> None:
    health = {"status": "ok", "storage": "ok", "version": "0.1.0"}
    server.on("GET", "/health", [health, Answer({**health, "status": "draining"}, 503), problem(503, "x", "No.")])
    well = ask("status")
    assert (well.code, well.out) == (0, f"server   {server.url}\nstatus   ok\nstorage  ok\nversion  0.1.0\n")
    draining = ask("status", "--json")
    assert (draining.code, json.loads(draining.out)["status"]) == (1, "draining")
    assert ask("status").code == 1


def test_only_what_a_command_needs_is_loaded(tmp_path: Path) -> None:
    code = "import sys; from tollkeeper.cli import main; main(['--version']); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    heavy = {
        "rich.console",
        "http.client",
        "fastapi",
        "sqlalchemy",
        "uvicorn",
        "tollkeeper.bootstrap",
        "tollkeeper.client",
    }
    assert heavy & set(loaded.split()) == set()
