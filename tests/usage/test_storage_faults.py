"""What a bad disk, a torn log or a foreign file does: a clear refusal, and nothing acknowledged is lost."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from spine import CATALOG, Spine
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.errors import AlreadyOpen, StorageMismatch, StorageUnavailable
from tollkeeper.core.events import UsageEvent


class Disk:
    """A switch for the file system below SQLite."""

    failing = False


class FaultyFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:
        if Disk.failing:
            raise apsw.IOError("fsync failed (simulated)")
        super().xSync(flags)


class FaultyVFS(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("faulty", "", iVersion=3)

    def xOpen(self, name: Any, flags: list[int]) -> FaultyFile:
        return FaultyFile(name, flags)


@pytest.fixture
def faulty_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Disk]]:
    vfs = FaultyVFS()
    monkeypatch.setattr(apsw, "Connection", partial(apsw.Connection, vfs="faulty"))
    yield Disk
    Disk.failing = False
    vfs.unregister()


def test_a_failing_fsync_is_told_and_what_was_taken_is_given_back(faulty_disk: type[Disk], tmp_path: Path) -> None:
    spine = Spine(tmp_path)
    customer = spine.customer()
    raw = spine.key(customer)
    assert spine.app.gate.check(raw, "api_calls").allowed
    faulty_disk.failing = True
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            spine.app.gate.check(raw, "api_calls")
    with pytest.raises(StorageUnavailable):
        spine.app.ingest.ingest_wait("live", [UsageEvent("1", "api.call", customer=customer)])
    with pytest.raises(StorageUnavailable):
        spine.app.require_storage()
    assert spine.used(customer=customer) == "1"
    faulty_disk.failing = False
    assert spine.app.gate.check(raw, "api_calls").quota.used == "2"  # type: ignore[union-attr]
    assert [
        r.status for r in spine.app.ingest.ingest_wait("live", [UsageEvent("1", "api.call", customer=customer)])
    ] == ["accepted"]
    spine.app.require_storage()
    assert spine.used(customer=customer) == "3"
    spine.reopen()
    assert spine.used(customer=customer) == "3"
    spine.app.close()


def test_a_log_torn_anywhere_keeps_every_transaction_before_the_tear(spine: Spine, tmp_path: Path) -> None:
    customer = spine.customer()
    wal = Path(f"{spine.app.files.usage}-wal")
    sizes = []
    for i in range(12):
        results = spine.app.ingest.ingest_wait(
            "live", [UsageEvent(f"{i}-{j}", "api.call", customer=customer) for j in range(3)]
        )
        assert {r.status for r in results} == {"accepted"}
        sizes.append(wal.stat().st_size)
    whole = wal.read_bytes()
    spine_files = [spine.app.files.main, spine.app.files.usage]
    for number, cut in enumerate([sizes[-1] - 1, sizes[-1] - 5000, sizes[5], sizes[5] + 100, sizes[2] - 1, 40]):
        folder = tmp_path / f"torn{number}"
        folder.mkdir()
        for file in spine_files:
            shutil.copy(file, folder)
        shutil.copy(f"{spine.app.files.main}-wal", folder)
        (folder / wal.name).write_bytes(whole[:cut] + b"\x00torn" * 7)
        survived = sum(1 for size in sizes if size <= cut)
        with Tollkeeper(str(folder / "toll.db"), clock=spine.time.clock()) as torn:
            assert torn.usage.query("api_calls", customer=customer).total == str(3 * survived)
            assert sum(1 for _ in torn.usage_file.reader.events()) == 3 * survived
            again = torn.ingest.ingest_wait(
                "live", [UsageEvent(f"{i}-0", "api.call", customer=customer) for i in range(12)]
            )
            assert [r.status for r in again] == ["duplicate"] * survived + ["accepted"] * (12 - survived)


def prepared(folder: Path) -> str:
    url = str(folder / "toll.db")
    with Tollkeeper(url) as app:
        app.catalog.apply(CATALOG)
    return url


def test_a_usage_file_of_another_pair_is_refused(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    prepared(a)
    url = prepared(b)
    shutil.copy(a / "toll-usage.db", b / "toll-usage.db")
    with pytest.raises(StorageMismatch, match="another main database"):
        Tollkeeper(url)


def test_a_usage_file_that_is_gone_is_not_silently_begun_anew(tmp_path: Path) -> None:
    url = prepared(tmp_path)
    (tmp_path / "toll-usage.db").unlink()
    with pytest.raises(StorageMismatch, match="missing"):
        Tollkeeper(url)


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b"SQLite format 3\0" + b"\xff" * 8176])
def test_a_usage_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path, content: bytes) -> None:
    url = prepared(tmp_path)
    (tmp_path / "toll-usage.db").write_bytes(content)
    with pytest.raises(StorageMismatch):
        Tollkeeper(url)
    assert (tmp_path / "toll-usage.db").read_bytes() == content


def test_a_usage_file_of_another_program_or_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    url = prepared(tmp_path)
    usage = tmp_path / "toll-usage.db"
    with apsw.Connection(str(usage)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageMismatch, match="newer"):
        Tollkeeper(url)
    with apsw.Connection(str(usage)) as db:
        db.execute("PRAGMA application_id = 7")
    with pytest.raises(StorageMismatch, match="another program"):
        Tollkeeper(url)


def test_a_second_process_is_refused_with_the_way_out(tmp_path: Path) -> None:
    url = prepared(tmp_path)
    with Tollkeeper(url):
        code = "import sys; from tollkeeper.bootstrap import Tollkeeper; Tollkeeper(sys.argv[1])"
        second = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert "AlreadyOpen" in second.stderr
        assert "TOLLKEEPER_URL" in second.stderr
        with pytest.raises(AlreadyOpen):
            Tollkeeper(url)


def test_a_file_locked_by_another_program_is_a_refusal_that_passes(spine: Spine) -> None:
    customer = spine.customer()
    spine.app.usage_file.writer.call(lambda log: log.db.set_busy_timeout(50))
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE');"
            "print('held', flush=True); sys.stdin.read()",
            str(spine.app.files.usage),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(StorageUnavailable, match=r"locked|busy"):
        spine.app.ingest.ingest_wait("live", [UsageEvent("1", "api.call", customer=customer)])
    holder.communicate(b"")
    results = spine.app.ingest.ingest_wait("live", [UsageEvent("1", "api.call", customer=customer)])
    assert [r.status for r in results] == ["accepted"]


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "toll.db"
    with pytest.raises(StorageUnavailable, match="nowhere"):
        Tollkeeper(str(missing))


def test_the_standard_library_reads_the_file_of_a_stopped_server(tmp_path: Path) -> None:
    prepared(tmp_path)
    with sqlite3.connect(tmp_path / "toll-usage.db") as db:
        assert db.execute("SELECT count(*) FROM meters").fetchone() == (2,)
    db.close()
