"""What the how-to pages of this folder have in common: a catalog, a key, a server, calls."""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pages import Page
from proxy.commands import Answer, Running, curl, environment, run, started

USED = "from tollkeeper import Gate\nprint(Gate.open('tollkeeper.db').usage('api_calls', customer='first').total)"


def prepared(page: Page, folder: Path) -> dict[str, str]:
    """The page's first step; the key it prints, as $KEY."""
    init = shlex.split(page.next("sh", "tollkeeper init"))
    assert run(folder, *init[1:]).returncode == 0
    (folder / "customers.py").write_text(page.next("python"))
    made = python(folder, *shlex.split(page.next("sh", "python customers.py"))[1:])
    assert made.stderr == ""
    return {"KEY": made.stdout.strip()}


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *words]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


def used(folder: Path) -> str:
    done = python(folder, "-c", USED)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def serving(folder: Path, command: str, port: str, **env: str) -> Iterator[Running]:
    """A command of the page that serves, until it is stopped as Ctrl-C does."""
    first, *words = shlex.split(command)
    module = [] if first == "python" else ["-m", first]
    with started([sys.executable, "-W", "error", *module, *words], folder, **env) as server:
        server.wait_for_port(port)
        yield server
        assert interrupted(server) in (0, -signal.SIGINT), server.errors.read_text()
        assert "Error" not in server.errors.read_text(), server.errors.read_text()


def interrupted(server: Running) -> int:
    """Ctrl-C, again where nothing came of it: wsgiref takes one that comes while it ends a request for that request's failure."""
    for _ in range(9):
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.send_signal(signal.SIGINT)
            return server.process.wait(3)
    return server.stop()


def curls(page: Page, key: dict[str, str]) -> list[Answer]:
    """Each line of the page's next block."""
    return [curl(line, key) for line in page.next("sh", "curl").splitlines()]
