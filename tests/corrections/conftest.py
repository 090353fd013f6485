from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import ask, run, server
from web.conftest import api, site

from .world import World

__all__ = ["api", "ask", "run", "server", "site", "world"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.app.close()
