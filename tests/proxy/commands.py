"""Commands as a person runs them: a process, what it prints, and the curl lines it tells to copy."""

from __future__ import annotations

import http.client
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def curl(line: str, env: dict[str, str] | None = None) -> Answer:
    """Do what a line beginning with `curl` says, without needing curl: -i, -s, -H, -X, -d and the address."""
    for name, value in (env or {}).items():
        line = line.replace(f"${name}", value)
    words = shlex.split(line)
    assert words.pop(0) == "curl"
    method, headers, body, address = "GET", {}, None, ""
    while words:
        match words.pop(0):
            case "-i" | "-s":
                pass
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-X":
                method = words.pop(0)
            case "-d":
                method, body = "POST", words.pop(0)
            case word:
                assert not word.startswith("-"), word
                address = word
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


class Running:
    """A command that serves until it is stopped."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self.errors = errors
        self.lines: list[str] = []

    def until(self, text: str) -> list[str]:
        """What it prints up to the line that holds `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines
        raise AssertionError(f"it ended before {text!r}:\n{self.lines}\n{self.errors.read_text()}")

    def wait_for_port(self, port: str) -> None:
        """Until it takes connections there, or has ended."""
        while self.process.poll() is None:
            with socket.socket() as found:
                if found.connect_ex(("127.0.0.1", int(port))) == 0:
                    return
            select.select([], [], [], 0.02)
        raise AssertionError(self.errors.read_text())

    def troubles(self) -> list[str]:
        """What it logged beyond information, and whatever else it wrote to standard error."""
        return [line for line in self.errors.read_text().splitlines() if '"level":"info"' not in line]

    def stop(self, number: int = signal.SIGINT) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOLLKEEPER_") and name != "PORT"}
    return {**kept, "NO_COLOR": "1", **more}


@contextmanager
def running(folder: Path, *words: str, **env: str) -> Iterator[Running]:
    """`tollkeeper WORDS` in `folder`; ended at the latest here."""
    with started([sys.executable, "-m", "tollkeeper", *words], folder, **env) as found:
        yield found


@contextmanager
def started(command: list[str], folder: Path, **env: str) -> Iterator[Running]:
    errors = folder / f"errors-{len(list(folder.glob('errors-*')))}.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(**env),
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            text=True,
        )
    try:
        yield Running(process, errors)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def run(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`tollkeeper WORDS`, which ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "tollkeeper", *words],
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
