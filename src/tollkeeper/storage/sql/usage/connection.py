"""Connections to the usage file. One writes; any number read. All of them apsw's SQLite, never another library's."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw

from tollkeeper.core.errors import StorageMismatch, StorageUnavailable

PAGE_SIZE = 4096  # a small group touches few pages, and each is written whole
CACHE_KIB = 64 * 1024
WAL_BYTES = 256 * 1024 * 1024
"""What a write-ahead log that a long read made grow is cut back to."""


def connect(path: Path, *, readonly: bool = False) -> apsw.Connection:
    """Open the file with the settings every connection shares: WAL, synchronous=FULL, no automatic checkpoint."""
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        if not readonly:
            _make_private(path)
        db = apsw.Connection(str(path), flags=flags)
        db.set_busy_timeout(5000)
        if not readonly:
            db.pragma("page_size", PAGE_SIZE)
            mode = db.pragma("journal_mode", "wal")
            if mode != "wal":
                raise StorageUnavailable(
                    f"{path} cannot use a write-ahead log (journal mode {mode}): is it on a network disk?"
                )
            db.pragma("synchronous", "full")
            db.pragma("wal_autocheckpoint", 0)
            db.pragma("journal_size_limit", WAL_BYTES)
            db.pragma("cache_size", -CACHE_KIB)
        else:
            db.pragma("query_only", 1)
            db.pragma("cache_size", -8 * 1024)
    except OSError as error:
        raise StorageUnavailable(f"Cannot create {path}: {error.strerror}.") from error
    except apsw.NotADBError:
        raise StorageMismatch(f"{path} is not a SQLite file.") from None
    except apsw.Error as error:
        raise StorageUnavailable(f"{path} cannot be opened: {error}.") from error
    return db


def _make_private(path: Path) -> None:
    """Make the file, if it is not there, readable by its owner alone; SQLite would ask only the umask. What is there is not touched."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
