"""Copies of the two files, made beside a running server, and a pair of copies put in the place of another.

A file is read by its own library alone (`X.db` by the standard module, `X-usage.db` by apsw), so this may run in any process. Both
snapshots are taken before anything is copied, the main file's first: an event may be newer than the main file's copy, while
nothing the main file's copy says about the log can be newer than the log's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import apsw

from tollkeeper.core.backups import PairState
from tollkeeper.core.errors import StorageMismatch, StorageUnavailable
from tollkeeper.storage.sql.engine import APPLICATION_ID as MAIN_ID
from tollkeeper.storage.sql.files import DatabaseFiles, database_files, require_restored, restoring_marker
from tollkeeper.storage.sql.lock import OwnerLock
from tollkeeper.storage.sql.usage.connection import connect
from tollkeeper.storage.sql.usage.schema import APPLICATION_ID as USAGE_ID

STEP_PAGES = 2048  # 16 MiB: how often progress is told
BLOCK = 1 << 20
COMPANIONS = ("-wal", "-shm", "-journal")

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all)."""


def pair_in(folder: Path) -> DatabaseFiles:
    """The files of a backup: always of one name, so that a backup can be opened as a database."""
    return database_files(str(folder / "tollkeeper.db"))


class SqlitePair:
    """The installation's pair of files. Raises StorageUnavailable, StorageMismatch."""

    def __init__(self, files: DatabaseFiles) -> None:
        self.files = files

    def exists(self) -> bool:
        return self.files.main.exists() or self.files.usage.exists()

    def size(self) -> int:
        """Bytes, what is still in the write-ahead logs included."""
        found = 0
        for path in (self.files.main, self.files.usage):
            for name in (path, Path(f"{path}-wal")):
                with contextlib.suppress(OSError):
                    found += name.stat().st_size
        return found

    def copy_to(self, folder: Path, progress: Progress) -> None:
        """Both files as they were at one moment, into an existing folder; on disk when this returns."""
        require_restored(self.files)
        for path in (self.files.main, self.files.usage):
            if not path.exists():
                raise StorageMismatch(f"There is no {path}; a backup needs both files of a pair.")
        target = pair_in(folder)
        with _reported("copy"), contextlib.closing(_read_main(self.files.main)) as main:
            main.execute("BEGIN")
            pair = _main_value(main, self.files.main, "pair_id")
            with contextlib.closing(connect(self.files.usage, readonly=True)) as usage, usage:
                if usage.execute("SELECT value FROM info WHERE key = 'pair_id'").get != pair:
                    raise StorageMismatch(f"{self.files.usage} and {self.files.main} do not belong together.")
                _copy_main(main, target.main)
                _copy_usage(usage, target.usage, progress)
        for path in (target.main, target.usage):
            sync(path)
        sync(folder)

    def inspect(self, folder: Path) -> PairState:
        """What a copied pair holds, each page of both files looked at. Raises StorageMismatch when one is damaged."""
        files = pair_in(folder)
        with _reported("read"), contextlib.closing(_read_main(files.main)) as main:
            _require_sound(files.main, [str(row[0]) for row in main.execute("PRAGMA integrity_check")])
            broken = main.execute("PRAGMA foreign_key_check").fetchone()
            _require_sound(files.main, [f"a row of {broken[0]} refers to nothing"] if broken else ["ok"])
            pair = _main_value(main, files.main, "pair_id")
            revision = str(main.execute("SELECT version_num FROM alembic_version").fetchone()[0])
            customers, keys = (
                int(main.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - constants
                for table in ("customers", "api_keys")
            )
        with _reported("read"), contextlib.closing(connect(files.usage, readonly=True)) as usage:
            if usage.pragma("application_id") != USAGE_ID:
                raise StorageMismatch(f"{files.usage} is not a usage log.")
            _require_sound(files.usage, [str(row[0]) for row in usage.execute("PRAGMA integrity_check")])
            return PairState(
                pair_id=pair,
                usage_pair_id=str(usage.execute("SELECT value FROM info WHERE key = 'pair_id'").get),
                revision=revision,
                schema=int(usage.pragma("user_version")),
                customers=customers,
                keys=keys,
                events=int(usage.execute("SELECT count(*) FROM events").get),
                last_seq=int(usage.execute("SELECT coalesce(max(seq), 0) FROM events").get),
                rollups=int(usage.execute("SELECT count(*) FROM rollups").get),
            )

    def place(self, folder: Path, aside: str, digests: dict[str, str]) -> Path | None:
        """Copy a pair from `folder` into this pair's place; the old one goes, whole, into a folder named `aside` beside it.

        `digests` (file name → SHA-256) are compared with what was written. Nothing is replaced before both copies are on disk and
        equal. A restore that was cut short leaves `X.restoring`, and then the files are not opened until it is done again.
        Returns where the old pair is. Raises AlreadyOpen when a process has the files open.
        """
        source, ours = pair_in(folder), self.files
        with OwnerLock(ours.lock), _reported("restore"):
            fresh: list[tuple[Path, Path]] = []
            for copy, place in ((source.usage, ours.usage), (source.main, ours.main)):
                written = place.with_name(f"{place.name}.new")
                if copy_file(copy, written) != digests[copy.name]:
                    written.unlink()
                    raise StorageMismatch(f"{copy} changed while it was copied, or the disk is failing.")
                fresh.append((written, place))
            marker = restoring_marker(ours)
            if marker.exists():
                aside = marker.read_text()  # go on where a restore was cut short
            kept = ours.main.with_name(aside) if self.exists() or marker.exists() else None
            if kept is not None:
                kept.mkdir(mode=0o700, exist_ok=marker.exists())
            marker.write_text(aside)
            sync(marker)
            sync(marker.parent)
            if kept is not None:
                self._set_aside(kept)
            owner = ours.main.parent.stat()
            for written, place in fresh:
                _give(written, owner)
                written.replace(place)
            _give(ours.lock, owner)
            sync(marker.parent)
            marker.unlink()
            sync(marker.parent)
            return kept

    def _set_aside(self, folder: Path) -> None:
        """What is in the folder already is of the old pair; what then still stands in its place came from a restore cut short."""
        for path in (self.files.main, self.files.usage):
            for found in (path, *(Path(f"{path}{end}") for end in COMPANIONS)):
                if not found.exists():
                    continue
                if (folder / found.name).exists():
                    found.unlink()
                else:
                    found.rename(folder / found.name)
        sync(folder)


def copy_file(source: Path, target: Path) -> str:
    """Copy, on disk when this returns; the SHA-256 of what was read back from the copy."""
    with source.open("rb") as reading, open(os.open(target, _NEW, 0o600), "wb") as writing:
        shutil.copyfileobj(reading, writing, BLOCK)
        writing.flush()
        os.fsync(writing.fileno())
    return digest_of(target)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give(path: Path, owner: os.stat_result) -> None:
    """Restored by root, the files are still the server's, who owns the folder."""
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


_NEW = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC


def _read_main(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=5)
    if connection.execute("PRAGMA application_id").fetchone()[0] != MAIN_ID:
        connection.close()
        raise StorageMismatch(f"{path} is not a database of Tollkeeper.")
    return connection


def _main_value(main: sqlite3.Connection, path: Path, name: str) -> str:
    row = main.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise StorageMismatch(f"{path} has lost its {name}.")
    return str(row[0])


def _copy_main(main: sqlite3.Connection, target: Path) -> None:
    os.close(os.open(target, _NEW, 0o600))
    with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
        main.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it


def _copy_usage(usage: apsw.Connection, target: Path, progress: Progress) -> None:
    """In steps, within the snapshot the caller holds: a step that found a newer state would begin again."""
    os.close(os.open(target, _NEW, 0o600))
    page = int(usage.pragma("page_size"))
    with contextlib.closing(apsw.Connection(str(target))) as copy:
        with copy.backup("main", usage, "main") as copying:
            while not copying.done:
                copying.step(STEP_PAGES)
                progress((copying.page_count - copying.remaining) * page, copying.page_count * page)
        copy.pragma("journal_mode", "delete")


def _require_sound(path: Path, found: list[str]) -> None:
    if found != ["ok"]:
        raise StorageMismatch(f"{path} is damaged: {'; '.join(found[:3])}.")


@contextlib.contextmanager
def _reported(doing: str):  # type: ignore[no-untyped-def]
    try:
        yield
    except (sqlite3.NotSupportedError, apsw.NotADBError, apsw.CorruptError) as error:
        raise StorageMismatch(f"Cannot {doing} the files: {error}.") from error
    except sqlite3.OperationalError as error:
        raise StorageUnavailable(f"Cannot {doing} the files: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise StorageMismatch(f"Cannot {doing} the files: {error}.") from error
    except (OSError, apsw.Error) as error:
        raise StorageUnavailable(f"Cannot {doing} the files: {error}.") from error
