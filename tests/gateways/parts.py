"""Gateways from Debian's packages. Where one is missing the test says which, and how to get it; in CI that is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def part(name: str, package: str) -> str:
    """The path of a program; as root on Debian it is installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # policy-rc.d would be cleaner; the services of these packages are stopped where there is an init to start them
        install = ["apt-get", "install", "-y", "--no-install-recommends", package]
        subprocess.run(install, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, **quiet)  # type: ignore[call-overload]
        if shutil.which("systemctl"):
            subprocess.run(["systemctl", "disable", "--now", name], check=False, **quiet)  # type: ignore[call-overload]
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        missing = f"{name} is missing: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found
