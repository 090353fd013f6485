"""X.lock: one process owns the database files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tollkeeper.core.errors import AlreadyOpen, InvalidRequest, StorageUnavailable
from tollkeeper.storage.sql.files import database_files
from tollkeeper.storage.sql.lock import OwnerLock

HOLD = """
import sys
from pathlib import Path
from tollkeeper.storage.sql.lock import OwnerLock
lock = OwnerLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_with_the_pid_and_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with hold(path) as owner:
        with pytest.raises(AlreadyOpen) as refusal:
            OwnerLock(path)
        assert refusal.value.extra["pid"] == owner.pid
        assert str(owner.pid) in refusal.value.detail
        assert "TOLLKEEPER_URL" in refusal.value.detail


def test_a_link_to_the_database_is_the_same_installation(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(tmp_path / "toll.db")
    assert database_files(str(link)) == database_files(str(tmp_path / "toll.db"))


def test_a_killed_owner_releases_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with hold(path) as owner:
        owner.kill()
        owner.wait()
        with OwnerLock(path):
            assert path.read_text() == str(os.getpid())


def test_the_same_process_cannot_own_twice_and_can_own_again_after_closing(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with OwnerLock(path), pytest.raises(AlreadyOpen):
        OwnerLock(path)
    with OwnerLock(path) as lock:
        lock.close()
        lock.close()
        OwnerLock(path).close()


def test_a_forked_child_does_not_keep_the_lock_of_its_parent(tmp_path: Path) -> None:
    """The child outlives the owner, as a worker of a preloading server can."""
    path = tmp_path / "x.lock"
    script = (
        HOLD
        + "\nimport os\nif os.fork() == 0:\n    print('child', flush=True)\n    sys.stderr.close()\n    os.read(3, 1)\n"
    )
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    owner = subprocess.Popen(
        [sys.executable, "-c", script.replace("os.read(3,", f"os.read({reader},"), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[reader],
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    owner.stdin.close()
    owner.wait()
    assert owner.stdout.readline() == "child\n"
    OwnerLock(path).close()
    os.close(writer)
    assert owner.stdout.read() == ""
    os.close(reader)
    owner.stdout.close()


def test_a_lock_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="No such file"):
        OwnerLock(tmp_path / "missing" / "x.lock")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:////data/tollkeeper.db", "/data/tollkeeper"),
        ("/data/tollkeeper.db", "/data/tollkeeper"),
        ("/data/shop", "/data/shop"),
        ("sqlite:////data/a b%20c.db", "/data/a b%20c"),
    ],
)
def test_one_url_names_the_three_files(url: str, name: str) -> None:
    files = database_files(url)
    assert files.main.with_suffix("") == Path(name)
    assert files.usage == Path(f"{name}-usage.db")
    assert files.lock == Path(f"{name}.lock")


def test_a_relative_url_is_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert database_files("sqlite:///data/x.db").main == tmp_path / "data" / "x.db"
    assert database_files("x.db").main == tmp_path / "x.db"


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", ":memory:", "postgresql://h/d", "a\0b", "d/"]
)
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="sqlite:///path"):
        database_files(url)
