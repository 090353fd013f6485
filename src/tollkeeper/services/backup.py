"""Backups of both files as a pair, made while a server writes, proven before they count, and put back.

A backup is a folder: the two files and a manifest that names their SHA-256. It gets its name when it is complete, so an
interrupted one is never mistaken for a whole one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tollkeeper.core.backups import MANIFEST, Manifest, PairState, read_manifest
from tollkeeper.core.errors import Conflict, InvalidRequest, NotFound, StorageMismatch, StorageUnavailable
from tollkeeper.services.verify import Verification

NAMES = ("tollkeeper.db", "tollkeeper-usage.db")
SPARE_BYTES = 16 * 1024 * 1024


class Pair(Protocol):
    """An installation's two files."""

    def exists(self) -> bool: ...
    def size(self) -> int: ...
    def copy_to(self, folder: Path, progress: Callable[[int, int], None]) -> None: ...
    def inspect(self, folder: Path) -> PairState: ...
    def place(self, folder: Path, aside: str, digests: dict[str, str]) -> Path | None: ...


@dataclass(frozen=True, slots=True)
class Restored:
    """`aside` is the folder with the pair that was there before; None when there was none."""

    manifest: Manifest
    aside: Path | None


class Backups:
    """`refold(folder)` compares the rollups of a copied pair with its log; `digest_of(path)` is a file's SHA-256; `now` is RFC 3339."""

    def __init__(
        self,
        pair: Pair,
        refold: Callable[[Path], Verification],
        digest_of: Callable[[Path], str],
        sync: Callable[[Path], None],
        now: Callable[[], str],
        version: str,
    ) -> None:
        self._pair = pair
        self._refold = refold
        self._digest_of = digest_of
        self._sync = sync
        self._now = now
        self._version = version

    @property
    def occupied(self) -> bool:
        """Whether there is a database in the installation's place."""
        return self._pair.exists()

    def make(
        self, destination: Path, *, refold: bool = True, progress: Callable[[int, int], None] = lambda done, of: None
    ) -> Manifest:
        """Copy, prove, then name. `destination` must not exist, or be an empty folder.

        Raises Conflict (something is there), StorageUnavailable (no room, no access), StorageMismatch (the copy is not sound).
        """
        _require_free(destination)
        room = shutil.disk_usage(destination.parent).free
        needed = self._pair.size() + SPARE_BYTES
        if room < needed:
            raise StorageUnavailable(
                f"{destination.parent} has {_mib(room)} free; the backup needs {_mib(needed)}. Name another disk."
            )
        created_at = self._now()
        partial = destination.with_name(f".{destination.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(mode=0o700)
            self._pair.copy_to(partial, progress)
            state = self._pair.inspect(partial)
            state.require_pair()
            if refold:
                self._require_equal(partial)
            files = {name: self._described(partial / name) for name in NAMES}
            manifest = Manifest(self._version, created_at, state, refold, files)
            (partial / MANIFEST).write_text(manifest.to_json())
            self._sync(partial / MANIFEST)
            self._sync(partial)
            if destination.exists():
                destination.rmdir()  # the empty folder that was there
            partial.rename(destination)
            self._sync(destination.parent)
        except OSError as error:
            raise StorageUnavailable(f"Cannot write {destination}: {error.strerror}.") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return manifest

    def check(self, source: Path) -> Manifest:
        """A backup as its manifest says: both files there, unchanged, sound, of one pair. Raises NotFound, StorageMismatch."""
        try:
            manifest = read_manifest((source / MANIFEST).read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"{source} is no backup: it has no {MANIFEST}.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise StorageMismatch(f"{source / MANIFEST} cannot be read: {error}.") from None
        if set(manifest.files) != set(NAMES):
            raise StorageMismatch(
                f"{MANIFEST} names {', '.join(manifest.files) or 'no file'}; expected {', '.join(NAMES)}."
            )
        for name, entry in manifest.files.items():
            path = source / name
            if not path.is_file():
                raise StorageMismatch(f"{path} is missing.")
            if path.stat().st_size != entry["bytes"] or self._digest_of(path) != entry["sha256"]:
                raise StorageMismatch(f"{path} is not what was backed up: its SHA-256 differs from the manifest's.")
        state = self._pair.inspect(source)
        state.require_pair()
        if state != manifest.state:
            raise StorageMismatch(f"The files in {source} do not hold what {MANIFEST} says.")
        return manifest

    def restore(self, source: Path, *, force: bool = False, checked: Manifest | None = None) -> Restored:
        """Check a backup, then put it in the installation's place. The pair that is there is kept in a folder beside it.

        `checked` is what `check` said of it a moment ago; the checksums are compared once more as it is copied.
        Raises Conflict (a pair is there and `force` is not given), AlreadyOpen (a process has it open), and what `check` raises.
        """
        if self._pair.exists() and not force:
            raise Conflict("There is a database in that place already.")
        manifest = checked or self.check(source)
        digests = {name: entry["sha256"] for name, entry in manifest.files.items()}
        stamp = self._now().replace(":", "").replace("-", "")
        return Restored(manifest, self._pair.place(source, f"before-restore-{stamp}", digests))

    def _require_equal(self, folder: Path) -> None:
        verification = self._refold(folder)
        if not verification.ok:
            raise StorageMismatch(
                f"{verification.differences} rollups do not equal the log, first: {verification.shown[0]}. "
                "No backup was made; see `tollkeeper verify`."
            )

    def _described(self, path: Path) -> dict[str, int | str]:
        return {"bytes": path.stat().st_size, "sha256": self._digest_of(path)}


def _require_free(destination: Path) -> None:
    if not destination.name:
        raise InvalidRequest("Name a folder for the backup.")
    if not destination.parent.is_dir():
        raise NotFound(f"There is no folder {destination.parent}; make it first.")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise Conflict(f"{destination} is there already and is not an empty folder. Name another.")


def _mib(size: int) -> str:
    return f"{size / 1048576:,.0f} MiB"
