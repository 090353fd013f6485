"""The whole command line against the whole server, as two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Run


@pytest.fixture
def started(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """`tollkeeper init`, then `tollkeeper serve` on a free port, which the command line finds."""
    assert run("init", "--yes", "--free", "3").code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "tollkeeper", "serve", "--port", "0"],
        cwd=tmp_path,
        env={**os.environ, "TOLLKEEPER_LOG_LEVEL": "warning"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "listens on" in line:
            break
    assert said[0] == "Catalog tollkeeper.toml applied as version 1.\n"
    monkeypatch.setenv("TOLLKEEPER_URL", said[-1].split()[-1])
    yield process
    process.send_signal(signal.SIGTERM)
    process.communicate()


@pytest.mark.usefixtures("started")
def test_from_an_empty_directory_to_a_refused_call_and_its_usage(run: Run) -> None:
    assert run("status").code == 0
    assert "live plan  free v1" in run("customers", "create", "Acme", "--id", "acme", "--plan", "free").out
    key = run("keys", "create", "--customer", "acme").out.strip()
    calls = [run("check", key, "--meter", "api_calls") for _ in range(4)]
    assert [call.code for call in calls] == [0, 0, 0, 1]
    assert calls[2].out.startswith("allowed  VALID (200)\n")
    assert "hard quota   3 of 3 api_calls used, 0 left\n" in calls[2].out
    assert calls[3].out.startswith("refused  QUOTA_EXCEEDED (429)\n")
    assert run("usage", "acme").out.startswith("api_calls: 3 in all\n")
    assert json.loads(run("usage", "acme", "--json", "--window", "day").out)["total"] == "3"


@pytest.mark.usefixtures("started")
def test_keys_are_rotated_and_revoked(run: Run) -> None:
    run("customers", "create", "Acme", "--id", "acme", "--plan", "free")
    old = json.loads(run("keys", "create", "--customer", "acme", "--name", "prod", "--json").out)
    new = run("keys", "rotate", old["id"], "--overlap", "1h", "--yes").out.strip()
    assert [run("check", key, "--meter", "api_calls").code for key in (old["key"], new)] == [0, 0]
    assert run("keys", "revoke", old["id"], "--yes").code == 0
    refused = run("check", old["key"], "--meter", "api_calls")
    assert (refused.code, refused.out.splitlines()[0]) == (1, "refused  DISABLED (401)")
    assert run("check", new, "--meter", "api_calls").code == 0
    states = [line.split() for line in run("keys", "list", "--customer", "acme").out.splitlines()[1:]]
    assert [(words[1], words[4], words[5]) for words in states] == [
        ("live", "prod", "revoked"),
        ("live", "prod", "active"),
    ]


@pytest.mark.usefixtures("started")
def test_customers_move_and_have_members(run: Run) -> None:
    run("customers", "create", "Acme", "--id", "acme", "--plan", "free", "--email", "ada@acme.example")
    assert "live plan  pro v1" in run("customers", "move", "acme", "pro", "--yes").out
    member = json.loads(run("customers", "members", "add", "acme", "bob@acme.example", "--json").out)
    assert run("customers", "members", "remove", "acme", member["id"], "--yes").code == 0
    assert [one["email"] for one in json.loads(run("customers", "members", "list", "acme", "--json").out)] == [
        "ada@acme.example"
    ]
    assert run("customers", "show", "acme/../b").code == 1
    assert run("customers", "move", "acme", "nope", "--yes").code == 2
    listed = json.loads(run("customers", "list", "--json").out)
    assert ([one["id"] for one in listed["data"]], listed["more"]) == (["acme"], False)


@pytest.mark.usefixtures("started")
def test_the_same_file_of_events_counts_once(run: Run) -> None:
    run("customers", "create", "Acme", "--id", "acme", "--plan", "pro")
    lines = b"".join(b'{"id": "e%d", "type": "api.call", "customer": "acme"}\n' % n for n in range(2500))
    assert run("events", "send", stdin=lines).out == "2,500 accepted\n"
    assert run("events", "send", stdin=lines).out == "0 accepted, 2,500 duplicate\n"
    misspelt = run("events", "send", "--type", "api.cal", "--customer", "acme")
    assert "1 accepted event matches no meter" in misspelt.err
    unknown = run("events", "send", "--type", "api.call", "--customer", "nope")
    assert (unknown.code, unknown.out) == (1, "0 accepted, 1 rejected\n")
    assert run("usage", "acme", "--meter", "api_calls").out.startswith("api_calls: 2,500 in all\n")


@pytest.mark.usefixtures("started")
def test_a_catalog_is_compared_and_applied(run: Run, tmp_path: Path) -> None:
    assert run("catalog", "apply").out == "Nothing to change: tollkeeper.toml is in force as version 1.\n"
    path = tmp_path / "tollkeeper.toml"
    path.write_text(path.read_text().replace('limit = "3"', 'limit = "5"'))
    assert run("catalog", "diff").out == "~ plans.free.quotas[api_calls].limit: 3 → 5\n"
    assert run("catalog", "apply", "--yes").out.endswith("Version 2 is in force.\n")
    path.write_text(path.read_text().replace('event_type = "api.call"', 'event_type = "api.other"'))
    refused = run("catalog", "apply", "--yes")
    assert refused.code == 1
    assert "meters.api_calls.event_type" in refused.err


def test_a_stranger_is_refused_and_told_how(run: Run, started: object, tmp_path: Path) -> None:
    (tmp_path / ".env").unlink()
    result = run("customers", "list")
    assert result.code == 1
    assert "Set TOLLKEEPER_ADMIN_TOKEN" in result.err


def test_a_second_server_on_the_same_files_is_refused(started: subprocess.Popen[str], tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tollkeeper", "serve", "--port", "0"]
    second = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith("error: ")
    assert "Traceback" not in second.stderr
    assert started.poll() is None
