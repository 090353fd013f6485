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
    found = shutil.which("promtool")
    home = Path(tempfile.gettempdir()) / f"tollkeeper-parts-{os.getuid()}" / "prometheus"
    inside = home / "usr" / "bin" / "promtool"
    if found is None and not inside.exists() and _may_fetch():
        _unpack("prometheus", home)
    return found or (str(inside) if inside.exists() else _missing("promtool", "prometheus"))


def systemd_analyze() -> str:
    """Systemd's checker of unit files."""
    if shutil.which("systemd-analyze") is None and _may_fetch():
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", "systemd")
    return shutil.which("systemd-analyze") or _missing("systemd-analyze", "systemd")


def _may_fetch() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _apt(*words: str, folder: Path | None = None) -> bool:
    return subprocess.run(["apt-get", *words], cwd=folder, capture_output=True).returncode == 0


def _missing(program: str, package: str) -> str:
    text = f"{program} is missing; get it with: apt-get install -y {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def _unpack(package: str, home: Path) -> None:
    home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as work:
        folder = Path(work)
        if not _apt("download", package, folder=folder):
            _apt("update")
            _apt("download", package, folder=folder)
        for archive in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(archive), str(folder / "in")], check=True, capture_output=True)
            if not home.exists():
                (folder / "in").rename(home)
