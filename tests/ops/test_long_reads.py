"""A backup reads for minutes: the write-ahead log grows meanwhile, and nothing else may."""

from __future__ import annotations

import stat
from pathlib import Path

import apsw
import pytest

from spine import Spine
from tollkeeper.storage.sql.usage import writer as writing


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Checkpoints that were tried; with bounds small enough for a test."""
    tried: list[int] = []
    checkpoint = writing._checkpoint

    def counted(db: apsw.Connection, mode: int = apsw.SQLITE_CHECKPOINT_PASSIVE) -> tuple[int, int]:
        tried.append(mode)
        return checkpoint(db, mode)

    monkeypatch.setattr(writing, "CHECKPOINT_PAGES", 64)
    monkeypatch.setattr(writing, "RESTART_PAGES", 128)
    monkeypatch.setattr(writing, "_checkpoint", counted)
    return tried


def test_while_a_long_read_goes_on_the_writer_does_not_try_a_checkpoint_at_every_commit(
    attempts: list[int], tmp_path: Path
) -> None:
    spine = Spine(tmp_path)
    key = spine.key(spine.customer("pro"))
    writer = spine.app.usage_file.writer
    reader = apsw.Connection(str(spine.app.files.usage), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    commits = 0
    while writer.wal_pages < 1500:
        spine.app.gate.check(key, "api_calls")
        commits += 1
    assert commits > 200
    assert len(attempts) <= 2 * 1500 / 32 < commits / 2
    reader.execute("COMMIT")
    reader.close()
    highest = writer.wal_pages
    for _ in range(commits):
        spine.app.gate.check(key, "api_calls")
        if writer.wal_pages < highest / 2:
            break  # the log began anew
        highest = max(highest, writer.wal_pages)
    assert writer.wal_pages < highest / 2
    spine.app.close()


def test_the_files_are_readable_by_their_owner_alone(spine: Spine) -> None:
    spine.app.gate.check(spine.key(spine.customer("pro")), "api_calls")
    folder = Path(spine.url).parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert {"toll.db", "toll-usage.db", "toll-usage.db-wal", "toll.lock"} <= set(modes)
    assert set(modes.values()) == {0o600}
