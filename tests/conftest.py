"""Settings every test shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tollkeeper", deadline=None)  # a slow machine is no failure
settings.load_profile("tollkeeper")


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[object]:
    """A Tollkeeper on fresh files (tests/spine.py)."""
    from spine import Spine

    made = Spine(tmp_path)
    yield made
    made.app.close()
