"""Ways to wait for the commit of usage: in a thread, on an event loop."""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Sequence
from typing import Protocol

from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.events import LogRow, Outcome, Submission


class Log(Protocol):
    """The usage log's writer. Raises StorageUnavailable when it is closed; what was put is committed before it closes."""

    def put(self, submission: Submission) -> None: ...

    def known(self, row: LogRow) -> Outcome | None:
        """What the log would answer to a row whose id it has: duplicate or conflict; None when the id is new. Waits; for threads."""
        ...


class Waited:
    """For a thread: `wait` returns after the commit."""

    __slots__ = ("_committed", "error", "outcomes", "rows")

    loop: asyncio.AbstractEventLoop | None = None
    early = False

    def __init__(self, rows: Sequence[LogRow]) -> None:
        self.rows = rows
        self.outcomes: list[Outcome] | None = None
        self.error: TollkeeperError | None = None
        self._committed = _thread.allocate_lock()  # a tenth of the cost of threading.Event
        self._committed.acquire()

    def done(self) -> None:
        self._committed.release()

    def wait(self) -> list[Outcome] | None:
        """Raises what the log raised."""
        with self._committed:
            pass
        if self.error is not None:
            raise self.error
        return self.outcomes


class Awaited:
    """For a coroutine of the running loop: `await submission.future`, which raises what the log raised."""

    __slots__ = ("error", "future", "loop", "outcomes", "rows")

    early = False

    def __init__(self, rows: Sequence[LogRow]) -> None:
        self.rows = rows
        self.outcomes: list[Outcome] | None = None
        self.error: TollkeeperError | None = None
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()

    def done(self) -> None:
        if self.future.done():  # its caller went away
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(None)


def submit(log: Log, rows: Sequence[LogRow]) -> Waited:
    """Put rows, to be waited for in a thread."""
    submission = Waited(rows)
    log.put(submission)
    return submission
