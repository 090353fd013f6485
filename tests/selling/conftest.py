from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.conftest import Running
from selling.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.toll.close()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()
