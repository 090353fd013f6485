"""A server over real sockets on fresh files, with the command line beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Run, ask, run, server
from proxy.commands import free_port, running
from web.conftest import api, site

__all__ = ["Served", "api", "ask", "run", "served", "server", "site"]

CATALOG = """
currency = "usd"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"

[meters.tokens]
event_type = "llm.call"
aggregation = "sum"
value_property = "tokens"

[plans.pro]
product = "api"
"""
TOKEN = "tk_admin_a-token-for-the-tests-of-in-and-out"


class Served:
    """`tell` runs a command against the server; `url` and the token are in its environment."""

    def __init__(self, tell: Run, folder: Path, url: str) -> None:
        self.tell = tell
        self.folder = folder
        self.url = url

    def ok(self, *words: str) -> str:
        result = self.tell(*words)
        assert result.code == 0, result.err
        return result.out


@pytest.fixture
def served(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    port = str(free_port())
    (tmp_path / "tollkeeper.toml").write_text(CATALOG)
    monkeypatch.setenv("TOLLKEEPER_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("TOLLKEEPER_ADMIN_TOKEN", TOKEN)
    with running(tmp_path, "serve", PORT=port, TOLLKEEPER_ADMIN_TOKEN=TOKEN) as server:
        server.until("listens on")
        found = Served(run, tmp_path, f"http://127.0.0.1:{port}")
        found.ok("customers", "create", "Acme Ltd", "--id", "acme", "--plan", "pro")
        yield found
        assert server.stop() == 0
        assert server.troubles() == []
