"""An application that is made after the server has begun to answer, on a thread of its own: the hot endpoints do not need it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

logger = logging.getLogger("tollkeeper.web")


class Late:
    """`make` is called once, by `start` or by the first request; requests wait until it is there. What it raises, they raise."""

    def __init__(self, make: Callable[[], App]) -> None:
        self._make = make
        self._made: Future[App] = Future()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to make it. Idempotent."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="application", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Until it is made or has failed, when it was begun at all."""
        if self._thread is not None:
            self._thread.join()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if not self._made.done():
            self.start()
            made, _ = await asyncio.wait(
                [asyncio.wrap_future(self._made)]
            )  # one that is given up leaves it to the others
            await made.pop().result()(scope, receive, send)  # asked for here, or its failure would be told as lost
            return
        await self._made.result()(scope, receive, send)

    def _run(self) -> None:
        try:
            self._made.set_result(self._make())
        except BaseException as error:
            logger.critical("the application could not be made", exc_info=error)
            self._made.set_exception(error)
