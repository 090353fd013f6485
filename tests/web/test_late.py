"""An application made after the start: made once, waited for, and its failure told."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from tollkeeper.web.late import Late


async def test_requests_wait_until_it_is_made_once() -> None:
    made: list[str] = []
    served: list[Any] = []
    go = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope["path"])

    def make() -> Any:
        go.wait(20)
        made.append(threading.current_thread().name)
        return app

    late = Late(make)
    late.start()
    asked = [asyncio.create_task(late({"path": path}, None, None)) for path in ("/a", "/b", "/c")]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert (made, served) == ([], [])
    asked[2].cancel()  # one that gives up leaves it to the others
    go.set()
    await asyncio.gather(*asked[:2])
    await late({"path": "/d"}, None, None)  # type: ignore[arg-type]
    late.start()
    late.wait()
    assert made == ["application"]
    assert sorted(served) == ["/a", "/b", "/d"]


async def test_the_first_request_begins_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["served"] = True

    scope: dict[str, Any] = {}
    await Late(lambda: app)(scope, None, None)  # type: ignore[arg-type]
    assert scope == {"served": True}


async def test_what_making_it_raises_every_request_raises(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> Any:
        raise LookupError("no template")

    late = Late(make)
    for _ in range(2):
        with pytest.raises(LookupError, match="no template"):
            await late({}, None, None)  # type: ignore[arg-type]
    gc.collect()  # a failure that nobody asked for is told when it is collected
    assert [record.message for record in caplog.records] == ["the application could not be made"]
