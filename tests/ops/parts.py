"""Programs the tests use that no Python package carries: found, fetched by root from Debian, or named with the way to get them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def promtool() -> str:
    """Prometheus' own checker. Debian's package is unpacked, not installed, so that no server starts."""
    return _part("promtool", "prometheus", "usr/bin/promtool")


def _part(program: str, package: str, inside: str) -> str:
    found = shutil.which(program)
    if found is not None:
        return found
    home = Path(tempfile.gettempdir()) / f"tollkeeper-parts-{os.getuid()}" / package
    if not (home / inside).exists() and os.geteuid() == 0 and shutil.which("apt-get"):
        _unpack(package, home)
    if (home / inside).exists():
        return str(home / inside)
    missing = f"{program} is missing; get it with: apt-get install -y {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def _unpack(package: str, home: Path) -> None:
    home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as work:
        for command in (["apt-get", "download", package], ["apt-get", "update"], ["apt-get", "download", package]):
            if subprocess.run(command, cwd=work, capture_output=True).returncode == 0 and command[1] == "download":
                break
        for archive in Path(work).glob("*.deb"):
            unpacked = Path(work) / "unpacked"
            subprocess.run(["dpkg-deb", "-x", str(archive), str(unpacked)], check=True, capture_output=True)
            if not home.exists():
                unpacked.rename(home)
