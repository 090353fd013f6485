"""The usage file, opened: its writer, its reader and its meters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from tollkeeper.core.errors import StorageMismatch, StorageUnavailable
from tollkeeper.storage.sql.usage.connection import connect
from tollkeeper.storage.sql.usage.cuts import Cuts
from tollkeeper.storage.sql.usage.log import UsageLog
from tollkeeper.storage.sql.usage.meters import MeterRegistry
from tollkeeper.storage.sql.usage.read import UsageReader
from tollkeeper.storage.sql.usage.schema import migrate
from tollkeeper.storage.sql.usage.writer import UsageWriter


class UsageFile:
    """`X-usage.db`. Hold the owner lock before opening it. `pair_id` ties it to its `X.db`."""

    def __init__(self, path: Path, pair_id: str, now_us: Callable[[], int]) -> None:
        self.path = path
        db = connect(path)
        try:
            migrate(db, path, lambda: {"pair_id": pair_id, "created_at": str(now_us())})
            found = db.execute("SELECT value FROM info WHERE key = 'pair_id'").get
            if found != pair_id:
                raise StorageMismatch(
                    f"{path} belongs to another main database. Put back the pair that was backed up together, or move it away."
                )
            log = UsageLog(db, now_us=now_us)
        except apsw.Error as error:
            db.close()
            raise _explained(path, error) from error
        except BaseException:
            db.close()
            raise
        self.writer = UsageWriter(log, path)
        self.reader = UsageReader(path)
        self.meters = MeterRegistry(self.writer)
        self.cuts = Cuts(self.reader, self.writer)

    def close(self) -> None:
        """Commit what is queued, then close every connection."""
        self.reader.close()
        self.writer.close()


def _explained(path: Path, error: apsw.Error) -> StorageMismatch | StorageUnavailable:
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StorageMismatch(f"{path} is damaged or no database ({error}). Restore a backup of the pair.")
    return StorageUnavailable(f"{path} cannot be used: {error}.")
