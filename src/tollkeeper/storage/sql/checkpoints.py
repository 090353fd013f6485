"""Copies the main database's write-ahead log into its file on a thread of its own, so that no writer waits for it."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Final

logger = logging.getLogger("tollkeeper.storage")

EVERY: Final = 32
"""Commits from one copy to the next, at most."""
ROWS: Final = 160
"""Rows written from one copy to the next, at most. While the disk writes what was copied the next commit waits: with 1,000 webhooks
copied at once that was 25 ms, and p99 at full load twice as high. Copying a little more often than that costs small commits more."""
ANEW_PAGES: Final = 8 * 1024
"""32 MiB of log: then the thread keeps writers out while it copies the last few pages, so that the log can begin anew."""
BACKSTOP_PAGES: Final = 16 * 1024
"""64 MiB of log: then the writer itself copies what the thread has left over."""


class Checkpoints:
    """`committed` is called after each commit; the thread starts with the first that is due. `writer`: held by whoever writes.

    `copied`: how often; `changed` tells of it.
    """

    def __init__(self, path: Path, writer: threading.Lock) -> None:
        self._path = path
        self._writer = writer
        self._commits = self._rows = 0
        self._wanted = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self.copied = 0
        self.changed = threading.Condition()

    def committed(self, rows: int) -> None:
        """For the one writer at a time. `rows`: how many the commit wrote."""
        self._commits += 1
        self._rows += rows
        if (self._commits < EVERY and self._rows < ROWS) or self._closing:
            return
        self._commits = self._rows = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="main-checkpoint", daemon=True)
            self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        """Idempotent."""
        self._closing = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            while True:
                self._wanted.wait()
                self._wanted.clear()
                if self._closing:
                    return
                try:
                    if _copy(connection) >= ANEW_PAGES:
                        _copy(connection)  # what was written meanwhile, so that writers wait for few pages
                        with self._writer:
                            _copy(connection)
                except sqlite3.Error as error:
                    logger.error("checkpoint of the main database failed: %s", error)
                    continue
                with self.changed:
                    self.copied += 1
                    self.changed.notify_all()


def _copy(connection: sqlite3.Connection) -> int:
    """Copy all that is committed and nobody still reads around; the pages in the log."""
    [(_, pages, _)] = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return int(pages)
