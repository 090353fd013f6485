"""The one thread that writes the usage file: group commit without a timer, checkpoints on a thread of their own.

The next commit begins when the last has ended, with all that has queued up meanwhile. A submission is answered after its commit, each in
its own try, so that a caller who went away never holds up the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter
from typing import Any

import apsw

from tollkeeper.core.corrections import Applied, Batch
from tollkeeper.core.errors import InvalidRequest, StorageUnavailable
from tollkeeper.core.events import LogRow, Outcome, Submission
from tollkeeper.core.stats import Histogram
from tollkeeper.storage.sql.usage.connection import connect
from tollkeeper.storage.sql.usage.corrections import apply
from tollkeeper.storage.sql.usage.log import UsageLog

logger = logging.getLogger("tollkeeper.usage")

GROUP_ROWS = 4000
LINGER_SECONDS = 0.005
COMMIT_BOUNDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.4, 1.0, 5.0)
CHECKPOINT_PAGES = 1024
RESTART_PAGES = 16 * 1024  # 64 MiB


class Call:
    """Something else for the writer thread to do between two commits, on its connection."""

    __slots__ = ("_event", "error", "function", "result")

    def __init__(self, function: Callable[[UsageLog], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self._event = threading.Event()

    def wait(self) -> Any:
        self._event.wait()
        if self.error is not None:
            raise self.error
        return self.result

    def run(self, log: UsageLog) -> None:
        try:
            self.result = self.function(log)
        except BaseException as error:
            self.error = error
        self._event.set()


def _finish(submissions: list[Submission]) -> None:
    for submission in submissions:
        try:
            submission.done()
        except Exception:
            logger.exception("after a usage commit")


class UsageWriter:
    """Owns the log and its thread. `submit` may be called from any thread; `close` drains what was submitted."""

    def __init__(self, log: UsageLog, path: Path) -> None:
        self.log = log
        self.path = path
        self.failed: str | None = None
        self.commits = 0
        self.failed_commits = 0
        self.commit_seconds = Histogram(COMMIT_BOUNDS)
        self.rows = 0
        self._queue: SimpleQueue[list[Submission] | Call | None] = SimpleQueue()
        self._turns: dict[asyncio.AbstractEventLoop, list[Submission]] = {}
        self.wal_pages = 0
        self._checkpoint_at = CHECKPOINT_PAGES
        self._restart_at = RESTART_PAGES
        self._checkpoint_wanted = threading.Event()
        self._checkpointing = threading.Lock()
        self._closing = False
        log.db.set_wal_hook(self._after_commit)
        self._thread = threading.Thread(target=self._run, name="usage-writer", daemon=True)
        self._checkpointer = threading.Thread(target=self._run_checkpoints, name="usage-checkpoint", daemon=True)
        self._thread.start()
        self._checkpointer.start()

    def put(self, submission: Submission) -> None:
        """Queue rows for the next commit. Raises StorageUnavailable once it is closing."""
        if self._closing:
            raise StorageUnavailable("Tollkeeper is shutting down; nothing was recorded. Try again.")
        loop = asyncio._get_running_loop() if submission.early else submission.loop
        if loop is None:
            self._queue.put([submission])
            return
        turn = self._turns.get(loop)
        if turn is None:
            self._turns[loop] = [submission]
            loop.call_soon(self._end_turn, loop)
        else:
            turn.append(submission)

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """What one turn of a loop submitted goes to the writer at once: one wake-up a turn, not one a request."""
        turn = self._turns.pop(loop, None)
        if turn is not None:
            self._queue.put(turn)

    @property
    def queued(self) -> int:
        """Submissions that wait for the next commit; approximate while others submit."""
        return self._queue.qsize()

    def call(self, function: Callable[[UsageLog], Any]) -> Any:
        """Run `function(log)` on the writer thread, outside any transaction, and return what it returns."""
        if self._closing:
            raise StorageUnavailable("Tollkeeper is shutting down.")
        call = Call(function)
        self._queue.put(call)
        return call.wait()

    def known(self, row: LogRow) -> Outcome | None:
        """What the log would answer to a row whose id it has; None when the id is new. After all that was put before."""
        outcome: Outcome | None = self.call(lambda log: log.known(row))
        return outcome

    def seq_of(self, environment: int, source: str, id: str) -> int | None:
        """The sequence of an event by its id, of those that the gate did not make. Raises StorageUnavailable."""
        try:
            seq: int | None = self.call(lambda log: log.seq_of(environment, source, id))
        except apsw.Error as error:
            raise StorageUnavailable(
                f"The usage log cannot be read ({error}). Nothing was changed; try again."
            ) from error
        return seq

    def correct(self, batch: Batch) -> Applied:
        """Commit a batch of a correction, between two commits of usage, or raise StorageUnavailable or InvalidRequest and nothing of it."""
        try:
            applied: Applied = self.call(lambda log: apply(log, batch))
        except (OverflowError, apsw.ConstraintError) as error:
            raise InvalidRequest(
                f"The total of this meter would no longer fit in 64 bits ({error}); nothing was corrected."
            ) from None
        except apsw.Error as error:
            logger.error("correction failed: %s", error)
            raise StorageUnavailable(
                f"The usage log did not take the write ({error}). Send the same correction again, by its id."
            ) from error
        return applied

    def close(self) -> None:
        """Commit what is queued, checkpoint, close. Idempotent."""
        if self._closing:
            return
        self._closing = True
        for loop in list(self._turns):
            self._end_turn(loop)
        self._queue.put(None)
        self._thread.join()
        self._checkpoint_wanted.set()
        self._checkpointer.join()
        _checkpoint(self.log.db, apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self.log.db.close()

    # the writer's thread

    def _run(self) -> None:
        get, get_nowait = self._queue.get, self._queue.get_nowait
        while True:
            item = get()
            submissions: list[Submission] = []
            calls: list[Call] = []
            count = 0
            stop = waited = False
            linger_until: float | None = None
            while True:
                if item is None:
                    stop = True
                elif isinstance(item, list):
                    submissions += item
                    for submission in item:
                        count += len(submission.rows)
                else:
                    calls.append(item)
                if count >= GROUP_ROWS or stop or calls:
                    break
                try:
                    item = get_nowait()
                except Empty:
                    if waited or (linger_until is None and not all(submission.early for submission in submissions)):
                        break
                    # all were answered already: nobody waits, so a larger group is cheaper
                    now = monotonic()
                    if linger_until is None:
                        linger_until = now + LINGER_SECONDS
                    if now >= linger_until:
                        break
                    try:
                        item = get(timeout=linger_until - now)
                    except Empty:
                        break
                    waited = not isinstance(item, list) or not all(submission.early for submission in item)
            if submissions:
                self._commit(submissions)
                if self.wal_pages >= self._restart_at:
                    self._finish_checkpoint()
            for call in calls:
                call.run(self.log)
            if stop:
                return

    def _commit(self, submissions: list[Submission]) -> None:
        began = perf_counter()
        try:
            answers = self.log.append([submission.rows for submission in submissions])
        except (OverflowError, UnicodeError, apsw.ConstraintError, apsw.TooBigError) as error:
            if len(submissions) > 1:
                for submission in submissions:  # one of them is at fault: find it, the others are not to suffer
                    self._commit([submission])
                return
            fault = "The total of this meter would no longer fit in 64 bits"
            if isinstance(error, UnicodeError):
                fault = "A text of this event cannot be written as UTF-8"
            submissions[0].error = InvalidRequest(f"{fault} ({error}); nothing was recorded.")
            logger.warning("usage refused: %s", fault)
        except BaseException as error:
            self.failed = str(error)
            self.failed_commits += 1
            logger.error("usage commit failed: %s", error)
            failure = StorageUnavailable(
                f"The usage log did not take the write ({error}). Nothing was recorded; try again."
            )
            for submission in submissions:
                submission.error = failure
        else:
            self.failed = None
            self.commits += 1
            self.commit_seconds.observe(perf_counter() - began)
            for submission, outcomes in zip(submissions, answers, strict=True):
                submission.outcomes = outcomes
                self.rows += len(submission.rows)
        self._answer(submissions)

    @staticmethod
    def _answer(submissions: list[Submission]) -> None:
        ours: list[Submission] = []
        loops: dict[asyncio.AbstractEventLoop, list[Submission]] = {}
        for submission in submissions:
            loop = submission.loop
            if loop is None:
                ours.append(submission)
            else:
                loops.setdefault(loop, []).append(submission)
        for loop, theirs in loops.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_finish, theirs)
        _finish(ours)

    # checkpoints

    def _after_commit(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        if pages >= self._checkpoint_at:
            self._checkpoint_wanted.set()
        return int(apsw.SQLITE_OK)

    def _run_checkpoints(self) -> None:
        db = connect(self.path)
        try:
            while True:
                self._checkpoint_wanted.wait()
                self._checkpoint_wanted.clear()
                if self._closing:
                    return
                with self._checkpointing:
                    pages, left = _checkpoint(db)
                    # while a long read (a backup) holds pages back, not at every commit: each try sorts all that is left
                    self._checkpoint_at = CHECKPOINT_PAGES if left <= CHECKPOINT_PAGES else pages + CHECKPOINT_PAGES
        finally:
            db.close()

    def _finish_checkpoint(self) -> None:
        """Copy what little is left, so that the next write begins the write-ahead log anew.

        The other thread copies beside the writer, which always adds more: under constant load the file would grow for ever.
        """
        with self._checkpointing:
            pages, left = _checkpoint(self.log.db)
            self._checkpoint_at = CHECKPOINT_PAGES if left == 0 else pages + CHECKPOINT_PAGES
        self._restart_at = RESTART_PAGES if left == 0 else pages + RESTART_PAGES // 4


def _checkpoint(db: apsw.Connection, mode: int = apsw.SQLITE_CHECKPOINT_PASSIVE) -> tuple[int, int]:
    """Pages in the write-ahead log, and how many of them could not be copied yet."""
    try:
        pages, copied = db.wal_checkpoint(mode=mode)
    except apsw.BusyError:
        return 0, 0
    except apsw.Error as error:
        logger.error("usage checkpoint failed: %s", error)
        return 0, 0
    return max(pages, 0), max(pages - copied, 0)
