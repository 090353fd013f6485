"""Work on the files from outside the server: verify, backup, restore. Wired here, apart from what a server needs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tollkeeper import __version__
from tollkeeper.core.errors import StorageMismatch
from tollkeeper.core.periods import period_at
from tollkeeper.core.refold import MOVED
from tollkeeper.core.refold_extras import DataInvalid
from tollkeeper.services.backup import Backups
from tollkeeper.services.verify import Periods, Verification, verify
from tollkeeper.storage.sql.backup import SqlitePair, digest_of, pair_in, sync
from tollkeeper.storage.sql.engine import open_database
from tollkeeper.storage.sql.files import DatabaseFiles, database_files, require_restored
from tollkeeper.storage.sql.usage.scan import LogScan

Progress = Callable[[int, int], None]


def _quiet(done: int, of: int) -> None: ...


def verify_files(files: DatabaseFiles, progress: Progress = _quiet) -> Verification:
    """Refold the log of a pair of files and compare it with the rollups; a server may be writing.

    Raises StorageMismatch, StorageUnavailable.
    """
    require_restored(files)
    with _periods(files) as periods, LogScan(files.usage) as scan:
        try:
            return verify(scan, periods, progress)
        except DataInvalid as error:
            raise StorageMismatch(f"{files.usage} is damaged: {error}.") from error


def verify_database(url: str, progress: Progress = _quiet) -> Verification:
    """`verify_files` by the database's URL."""
    return verify_files(database_files(url), progress)


def backups(url: str, progress: Progress = _quiet) -> Backups:
    """Backups of the installation at `url`; `progress` tells how far refolding is."""

    def refold(folder: Path) -> Verification:
        return verify_files(pair_in(folder), progress)

    def now() -> str:
        return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    return Backups(SqlitePair(database_files(url)), refold, digest_of, sync, now, __version__)


@contextlib.contextmanager
def _periods(files: DatabaseFiles) -> Iterator[Periods]:
    """The customers' calendars, each read once, from the main file."""
    database = open_database(str(files.main), read_only=True)
    known: dict[tuple[str, str], tuple[int, str] | tuple[()] | None] = {}

    def period(environment: str, customer: str, at: int) -> tuple[int, int] | None:
        where = (environment, customer)
        if where not in known:
            grant = database.grants.by_customer(environment, customer)  # type: ignore[arg-type]
            known[where] = None if grant is None else () if grant.moved else grant.calendar
        calendar = known[where]
        if calendar is None:
            return None
        return period_at(*calendar, at) if calendar else MOVED

    try:
        yield period
    finally:
        database.close()
