"""Fixtures of the tests of operation."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from .collector import Collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield collector
    collector.answers.set()
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()
