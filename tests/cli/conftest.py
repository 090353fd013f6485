from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tollkeeper.cli import main

from .fake_server import FakeServer, serving

TOKEN = "tk_admin_a-token-for-tests"


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as fake:
        yield fake


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("keys", "list", stdin=b"…")` in an empty directory, in the zone of Berlin, piped, with nobody there to answer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def running(*words: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(words)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return running


@pytest.fixture
def ask(run: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run`, with a server and the admin token."""
    monkeypatch.setenv("TOLLKEEPER_URL", server.url)
    monkeypatch.setenv("TOLLKEEPER_ADMIN_TOKEN", TOKEN)
    return run
