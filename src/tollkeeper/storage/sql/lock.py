"""`X.lock`: one process owns the database files. flock, so the kernel gives it back when the owner dies."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from tollkeeper.core.errors import AlreadyOpen, StorageUnavailable


class OwnerLock:
    """Held from construction to `close()`. Raises AlreadyOpen when a process, this one included, holds it already."""

    def __init__(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageUnavailable(f"Cannot open the lock file {path}: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise AlreadyOpen(
                f"Process {owner or 'unknown'} has the databases of {path} open. "
                "Stop it, or talk to its server: set TOLLKEEPER_URL.",
                pid=int(owner) if owner.isdecimal() else None,
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise StorageUnavailable(f"Cannot lock {path}: {error.strerror}. Use a local disk.") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self.path = path
        self._descriptor: int | None = descriptor
        _held.add(self)

    def close(self) -> None:
        """Give the files back. The lock file stays: removing it would let two processes lock two files of one name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _held.discard(self)

    def __enter__(self) -> OwnerLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_held: weakref.WeakSet[OwnerLock] = weakref.WeakSet()


def _drop_in_child() -> None:
    # A forked child shares the lock: held there, it would outlive an owner that has died.
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_drop_in_child)
