"""The files of one installation: `X.db`, `X-usage.db`, `X.lock`, side by side, named by one URL."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tollkeeper.core.errors import InvalidRequest, StorageMismatch


@dataclass(frozen=True, slots=True)
class DatabaseFiles:
    main: Path
    usage: Path
    lock: Path


def database_files(url: str) -> DatabaseFiles:
    """Paths from `sqlite:///relative.db`, `sqlite:////absolute.db` or a bare path. Raises InvalidRequest."""
    if url.startswith("sqlite:///"):
        name = url.removeprefix("sqlite:///")
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url):
        raise InvalidRequest(
            f"The database {url.split(':')[0]!r} is not supported; write sqlite:///path/tollkeeper.db."
        )
    else:
        name = url
    if not name or name.endswith("/") or "\0" in name or "?" in name or name.startswith(":"):
        raise InvalidRequest("The database must be a file; write sqlite:///path/tollkeeper.db.")
    main = Path(name).absolute()
    if main.is_symlink():
        main = Path(os.path.realpath(main))  # by either name it has the same lock and the same usage file
    stem = main.name.removesuffix(".db")
    return DatabaseFiles(main, main.with_name(f"{stem}-usage.db"), main.with_name(f"{stem}.lock"))


def restoring_marker(files: DatabaseFiles) -> Path:
    """Stands while a restore replaces the two files."""
    return files.main.with_name(f"{files.main.name}.restoring")


def require_restored(files: DatabaseFiles) -> None:
    """Raises StorageMismatch when a restore was cut short: the two files may be of different moments, or missing."""
    if restoring_marker(files).exists():
        raise StorageMismatch(
            f"A restore of {files.main} was cut short. Run `tollkeeper restore` again; the old pair is in a folder beside it."
        )
