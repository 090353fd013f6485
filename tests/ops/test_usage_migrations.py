"""The usage file's own migrations, on a file that is full."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import apsw
import pytest

from spine import Spine
from tollkeeper.core.corrections import Selection
from tollkeeper.core.events import UsageEvent
from tollkeeper.services.corrections import Asked
from tollkeeper.storage.sql.usage import schema
from tollkeeper.upkeep import verify_database

from .test_verify import busy

STEP = """
CREATE TABLE notes (seq INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
SELECT count(*) FROM events;
INSERT INTO notes SELECT seq, 'of ' || customer FROM events;
CREATE INDEX unmatched_last ON unmatched (last_seq);
"""
NOW = len(schema.migrations())


@pytest.fixture
def filled(spine: Spine) -> Spine:
    """Closed, after some weeks."""
    busy(spine, random.Random(8))
    spine.app.close()
    return spine


def content(path: Path) -> dict[str, list[Any]]:
    """Every row of every table of the first version."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    tables = ("info", "names", "meters", "meter_epochs", "events", "timed_ids", "rollups", "unmatched")
    found = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    found["version"] = [db.pragma("user_version")]
    db.close()
    return found


def with_steps(monkeypatch: pytest.MonkeyPatch, *steps: str) -> None:
    first = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: [*first, *steps])


def test_a_later_version_takes_over_a_full_file_and_goes_on_counting(
    filled: Spine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(filled.app.files.usage)
    assert len(before["events"]) > 300
    with_steps(monkeypatch, STEP)
    filled.reopen()
    filled.app.close()
    after = content(filled.app.files.usage)
    assert (before.pop("version"), after.pop("version")) == ([NOW], [NOW + 1])
    assert after == before
    db = apsw.Connection(str(filled.app.files.usage))
    assert db.execute("SELECT count(*) FROM notes").get == len(before["events"])
    db.close()
    filled.reopen()
    customer = filled.customer("pro")
    events: list[Any] = [UsageEvent("fresh", "api.call", customer=customer)]
    assert [result.status for result in filled.app.ingest.ingest_wait("live", events)] == ["accepted"]
    assert verify_database(filled.url).ok


def make_older(path: Path, version: int) -> None:
    """Take away what versions after this one added: nothing was written to it, or it is known of later days alone."""
    db = apsw.Connection(str(path))
    for name in [name for step in schema.migrations()[version:] for name in re.findall("CREATE TABLE ([a-z_]+)", step)]:
        assert name.startswith("own_") or db.execute(f"SELECT count(*) FROM {name}").get == 0
        db.execute(f"DROP TABLE {name}")
    db.pragma("user_version", version)
    db.close()


def test_a_full_file_of_the_second_version_can_be_corrected(filled: Spine) -> None:
    """It knew no corrections. Nothing of it changes when it is opened, and then all of it may be voided."""
    make_older(filled.app.files.usage, 2)
    before = content(filled.app.files.usage)
    assert (before.pop("version"), len(before["events"]) > 300) == ([2], True)
    assert verify_database(filled.url).ok  # not yet opened, so not yet of this version
    filled.reopen()
    filled.app.close()
    after = content(filled.app.files.usage)
    assert after.pop("version") == [NOW]
    assert after == before
    filled.reopen()
    now = filled.time.now // 1000
    for environment in ("live", "test"):
        selection = Selection(start=now - 300 * 86_400_000_000, end=now + 1)
        asked = Asked("void", environment, selection, "all of it", "ada")  # type: ignore[arg-type]
        assert filled.app.corrections.correct(asked).applied_at is not None
        assert verify_database(filled.url).ok
    filled.app.close()
    voided = content(filled.app.files.usage)
    assert voided["events"][: len(before["events"])] == before["events"]
    assert (len(voided["events"]), voided["rollups"]) == (2 * len(before["events"]), [])
    assert {row[4] for row in voided["unmatched"]} == {0}
    assert verify_database(filled.url).events == 0
    filled.reopen()


def test_a_full_file_of_the_first_version_goes_on_counting_with_every_aggregation(
    tmp_path: Path,
) -> None:
    """It knew count and sum alone. Its meters keep their numbers, its rollups stay as they are, and new meters begin."""
    spine = Spine(tmp_path)
    busy(spine, random.Random(8), extras="")
    spine.app.close()
    make_older(spine.app.files.usage, 1)
    before = content(spine.app.files.usage)
    assert (before.pop("version"), len(before["events"]) > 300) == ([1], True)
    assert verify_database(spine.url).ok  # not yet opened, so not yet of this version
    spine.reopen()
    spine.app.close()
    after = content(spine.app.files.usage)
    assert after.pop("version") == [NOW]
    assert after == before
    spine.reopen()
    busy(spine, random.Random(9))
    spine.app.close()
    later = content(spine.app.files.usage)
    assert later["meters"][: len(before["meters"])] == before["meters"]
    found = verify_database(spine.url)
    assert (found.ok, found.events > len(before["events"]) + 300) == (True, True), found.shown
    spine.reopen()
    spine.app.close()


@pytest.mark.parametrize(
    "broken", ["CREATE TABLE notes (", "INSERT INTO notes SELECT seq, NULL FROM events", "CREATE TABLE events (a)"]
)
def test_a_migration_that_fails_leaves_the_file_as_it_was_and_the_old_version_runs(
    filled: Spine, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    before = content(filled.app.files.usage)
    with monkeypatch.context() as later:
        with_steps(later, STEP, broken)
        with pytest.raises(Exception, match=r"cannot be used|damaged"):
            filled.reopen()
    assert content(filled.app.files.usage) == before
    filled.reopen()
    assert verify_database(filled.url).ok


def test_a_backup_of_an_earlier_version_restores_into_a_later_one(
    filled: Spine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tollkeeper.upkeep import backups

    made = backups(filled.url).make(tmp_path / "backup")
    with_steps(monkeypatch, STEP)
    filled.reopen()
    filled.app.close()
    backups(filled.url).restore(tmp_path / "backup", force=True)
    assert content(filled.app.files.usage)["version"] == [NOW]
    filled.reopen()
    assert verify_database(filled.url).events == made.state.events
    filled.app.close()
    assert content(filled.app.files.usage)["version"] == [NOW + 1]
    filled.reopen()
