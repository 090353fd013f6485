from __future__ import annotations

import json
import random
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from spine import DAY, Spine
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.backups import MANIFEST, Manifest, PairState, read_manifest
from tollkeeper.core.errors import AlreadyOpen, Conflict, NotFound, StorageMismatch, StorageUnavailable
from tollkeeper.services import backup as backing_up
from tollkeeper.storage.sql import backup as copying
from tollkeeper.storage.sql.files import database_files, restoring_marker
from tollkeeper.upkeep import backups, verify_database, verify_files

from .test_verify import busy


@pytest.fixture
def filled(spine: Spine) -> Spine:
    busy(spine, random.Random(1))
    return spine


def target(spine: Spine) -> Path:
    return Path(spine.url).parent / "backup"


def events(url: str) -> list[tuple[str, str, str]]:
    with Tollkeeper(url) as app:
        return [(e.environment, e.source, e.id) for e in app.usage_file.reader.events()]


def test_a_backup_of_an_open_database_restores_to_the_same_content(filled: Spine, tmp_path: Path) -> None:
    manifest = backups(filled.url).make(target(filled))
    assert manifest.refolded
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in target(filled).iterdir()}
    assert names == {"tollkeeper.db": 0o600, "tollkeeper-usage.db": 0o600, MANIFEST: 0o644}
    assert stat.S_IMODE(target(filled).stat().st_mode) == 0o700
    filled.app.close()
    other = str(tmp_path / "elsewhere.db")
    restored = backups(other).restore(target(filled))
    assert restored.aside is None
    assert restored.manifest == manifest == backups(other).check(target(filled))
    assert events(other) == events(filled.url)
    assert len(events(other)) == manifest.state.events
    assert verify_database(other).ok
    filled.reopen()


def test_a_backup_is_a_database_of_its_own_with_nothing_beside_it(filled: Spine) -> None:
    backups(filled.url).make(target(filled))
    found = verify_files(database_files(str(target(filled) / "tollkeeper.db")))
    assert found.ok
    assert sorted(path.name for path in target(filled).iterdir()) == [
        MANIFEST,
        "tollkeeper-usage.db",
        "tollkeeper.db",
    ]


def test_both_files_are_of_one_moment_though_events_go_on(filled: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and events made while the main file is being copied are in neither copy."""
    key = filled.key(filled.customer("pro"))
    before = filled.app.usage_file.reader.last_seq()
    copy_main = copying._copy_main

    def copy_and_go_on(main: sqlite3.Connection, path: Path) -> None:
        for _ in range(20):
            filled.app.gate.check(key, "api_calls")
        filled.customer("pro")
        copy_main(main, path)

    monkeypatch.setattr(copying, "_copy_main", copy_and_go_on)
    state = backups(filled.url).make(target(filled)).state
    assert (state.events, state.last_seq, state.customers, state.keys) == (before, before, 3, 5)
    assert filled.app.usage_file.reader.last_seq() == before + 20


def test_a_commit_between_two_steps_of_the_copy_does_not_begin_it_again(
    filled: Spine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "STEP_PAGES", 3)
    key = filled.key(filled.customer("pro"))
    before = filled.app.usage_file.reader.last_seq()
    told: list[tuple[int, int]] = []

    def progress(done: int, of: int) -> None:
        told.append((done, of))
        filled.app.gate.check(key, "api_calls")

    manifest = backups(filled.url).make(target(filled), progress=progress)
    assert len(told) > 3
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1][0] == told[-1][1] == manifest.files["tollkeeper-usage.db"]["bytes"]
    assert manifest.state.last_seq == before


def test_restoring_keeps_the_pair_that_was_there(filled: Spine) -> None:
    backups(filled.url).make(target(filled))
    key = filled.key(filled.customer("pro"))
    filled.app.gate.check(key, "api_calls")
    filled.app.close()
    late = events(filled.url)
    with pytest.raises(Conflict, match="There is a database in that place already"):
        backups(filled.url).restore(target(filled))
    assert events(filled.url) == late
    restored = backups(filled.url).restore(target(filled), force=True)
    assert restored.aside is not None
    assert restored.aside.name.startswith("before-restore-")
    assert events(filled.url) == late[:-1]
    assert events(str(restored.aside / "toll.db")) == late
    filled.reopen()


def test_a_restored_database_goes_on_counting_and_knows_the_ids_it_has_seen(filled: Spine) -> None:
    from tollkeeper.core.events import UsageEvent

    customer = filled.customer("pro")
    batch: list[Any] = [UsageEvent(id, "api.call", customer=customer) for id in ("a", "b")]
    filled.app.ingest.ingest_wait("live", batch)
    backups(filled.url).make(target(filled))
    filled.app.close()
    backups(filled.url).restore(target(filled), force=True)
    filled.reopen()
    batch.append(UsageEvent("c", "api.call", customer=customer))
    statuses = [result.status for result in filled.app.ingest.ingest_wait("live", batch)]
    assert statuses == ["duplicate", "duplicate", "accepted"]
    assert filled.used(customer=customer) == "3"
    assert verify_database(filled.url).ok


def test_a_database_in_use_is_not_replaced(filled: Spine) -> None:
    backups(filled.url).make(target(filled))
    before = filled.app.files.usage.read_bytes()
    with pytest.raises(AlreadyOpen):
        backups(filled.url).restore(target(filled), force=True)
    assert filled.app.files.usage.read_bytes() == before
    assert not list(target(filled).parent.glob("*.new"))


def damage_main(folder: Path) -> None:
    with (folder / "tollkeeper.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff" * 64)


def damage_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")


def later_format(folder: Path) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(document | {"format": 2}))


def lose_file(folder: Path) -> None:
    (folder / "tollkeeper-usage.db").unlink()


def lose_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def claim_more(folder: Path) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    document["state"]["events"] += 1
    (folder / MANIFEST).write_text(json.dumps(document))


def name_no_file(folder: Path) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(document | {"files": {}}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage_main, "is not what was backed up"),
        (damage_manifest, "not the manifest of a backup"),
        (later_format, "has format 2"),
        (lose_file, "is missing"),
        (lose_manifest, "it has no manifest.json"),
        (claim_more, "do not hold what manifest.json says"),
        (name_no_file, "names no file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_backup_is_refused_and_nothing_is_replaced(filled: Spine, spoil: Any, message: str) -> None:
    backups(filled.url).make(target(filled))
    filled.app.close()
    before = filled.app.files.usage.read_bytes()
    spoil(target(filled))
    with pytest.raises((StorageMismatch, NotFound), match=message):
        backups(filled.url).restore(target(filled), force=True)
    assert filled.app.files.usage.read_bytes() == before
    filled.reopen()


def test_two_files_of_different_installations_are_no_backup(filled: Spine, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Spine(tmp_path / "other")
    for spine in (filled, other):
        backups(spine.url).make(target(spine))
        spine.app.close()
    mixed = target(other) / "tollkeeper-usage.db"
    mixed.write_bytes((target(filled) / "tollkeeper-usage.db").read_bytes())
    document = json.loads((target(other) / MANIFEST).read_text())
    of_filled = json.loads((target(filled) / MANIFEST).read_text())
    document["files"][mixed.name] = of_filled["files"][mixed.name]
    (target(other) / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(StorageMismatch, match="do not belong together"):
        backups(other.url).restore(target(other), force=True)
    for spine in (filled, other):
        spine.reopen()
    other.app.close()


def test_a_log_that_does_not_equal_its_rollups_is_not_backed_up_as_sound(filled: Spine) -> None:
    filled.app.usage_file.writer.call(lambda log: log.db.execute("UPDATE rollups SET units = units + 1"))
    with pytest.raises(StorageMismatch, match="do not equal the log"):
        backups(filled.url).make(target(filled))
    assert not target(filled).exists()
    assert not list(target(filled).parent.glob(".*"))
    assert backups(filled.url).make(target(filled), refold=False).refolded is False


def test_a_damaged_page_is_found_before_a_backup_counts(filled: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_usage = copying._copy_usage

    def copy_badly(usage: apsw.Connection, path: Path, progress: Any) -> None:
        copy_usage(usage, path, progress)
        with path.open("r+b") as file:
            file.seek(8192 * 3)
            file.write(b"\xff" * 200)

    monkeypatch.setattr(copying, "_copy_usage", copy_badly)
    with pytest.raises(StorageMismatch, match=r"tollkeeper-usage\.db is damaged|malformed"):
        backups(filled.url).make(target(filled))
    assert not target(filled).exists()


@pytest.fixture
def crowded(filled: Spine) -> Iterator[Path]:
    target(filled).mkdir()
    (target(filled) / "precious").write_text("mine")
    yield target(filled)
    assert (target(filled) / "precious").read_text() == "mine"


def test_a_folder_with_something_in_it_is_left_alone(filled: Spine, crowded: Path) -> None:
    with pytest.raises(Conflict, match="not an empty folder"):
        backups(filled.url).make(crowded)


def test_an_empty_folder_is_used_and_a_missing_parent_is_told(filled: Spine) -> None:
    target(filled).mkdir()
    backups(filled.url).make(target(filled))
    with pytest.raises(NotFound, match="make it first"):
        backups(filled.url).make(target(filled) / "deep" / "er")


def test_a_disk_without_room_is_told_before_anything_is_written(filled: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backing_up, "SPARE_BYTES", 1 << 60)
    with pytest.raises(StorageUnavailable, match="MiB free; the backup needs"):
        backups(filled.url).make(target(filled))
    assert not target(filled).exists()


def test_a_backup_without_both_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageMismatch, match="a backup needs both files"):
        backups(str(tmp_path / "none.db")).make(tmp_path / "backup")


@pytest.mark.parametrize("interrupted_at", range(1, 9))
def test_a_restore_cut_short_anywhere_is_refused_by_the_next_start_and_mended_by_doing_it_again(
    filled: Spine, interrupted_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups(filled.url).make(target(filled))
    at_backup = events_of(filled)
    filled.app.gate.check(filled.key(filled.customer("pro")), "api_calls")
    late = events_of(filled)
    filled.app.close()
    steps = 0

    def counted(step: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == interrupted_at:
                raise KeyboardInterrupt
            return step(*arguments, **named)

        return run

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "mkdir"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        patch.setattr(copying, "sync", counted(copying.sync))
        with pytest.raises(KeyboardInterrupt):
            backups(filled.url).restore(target(filled), force=True)
    if restoring_marker(filled.app.files).exists():
        with pytest.raises(StorageMismatch, match="cut short"):
            Tollkeeper(filled.url)
        with pytest.raises(StorageMismatch, match="cut short"):
            verify_database(filled.url)
    else:
        assert events(filled.url) == late
    restored = backups(filled.url).restore(target(filled), force=True)
    assert events(filled.url) == at_backup
    assert restored.aside is not None
    assert events(str(restored.aside / "toll.db")) == late
    filled.reopen()


def events_of(spine: Spine) -> list[tuple[str, str, str]]:
    return [(e.environment, e.source, e.id) for e in spine.app.usage_file.reader.events()]


def test_what_root_restores_belongs_to_the_owner_of_the_folder(
    filled: Spine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server runs as a user of its own and could not open what is root's."""
    backups(filled.url).make(target(filled))
    given: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.chown", lambda path, uid, gid: given.update({path.name: (uid, gid)}))
    other = tmp_path / "var"
    other.mkdir()
    backups(str(other / "toll.db")).restore(target(filled))
    owner = (other.stat().st_uid, other.stat().st_gid)
    assert given == {"toll.db.new": owner, "toll-usage.db.new": owner, "toll.lock": owner}


def test_the_manifest_reads_as_it_was_written() -> None:
    state = PairState("p", "p", "r0001", 1, 2, 3, 4, 5, 6)
    manifest = Manifest("1.0", "2026-11-21T02:00:00Z", state, True, {"a.db": {"bytes": 5, "sha256": "ff"}})
    assert read_manifest(manifest.to_json()) == manifest


def test_time_moves_between_backup_and_restore_without_harm(filled: Spine) -> None:
    """A restored database whose clock went on is counted in the period that is now."""
    customer = filled.customer("pro")
    backups(filled.url).make(target(filled))
    filled.app.close()
    backups(filled.url).restore(target(filled), force=True)
    filled.time.move(70 * DAY)
    filled.reopen()
    filled.app.gate.check(filled.key(customer), "api_calls")
    assert filled.used(customer=customer) == "1"
