"""Servers under test: started on a core, waited for, watched, stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """A process on `core`, ready once `port` accepts a connection. Its output goes to `log`. Use it in a `with`."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.port = port
        self.log = log
        self._output = log.open("wb")
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(environment or {}),
            cwd=cwd,
        )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise RuntimeError(
            f"the server on port {self.port} did not start: {self.log.read_text(errors='replace')[-2000:]}"
        )

    def cpu_seconds(self) -> float:
        """Processor time of the process and its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def post(url: str, body: bytes, token: str = "none", timeout: float = 60) -> bytes:
    """One POST of JSON. Raises RuntimeError with the answer when it is not 2xx."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    return _answer(request, timeout)


def get(url: str, token: str = "none", timeout: float = 60) -> bytes:
    return _answer(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}), timeout)


def _answer(request: urllib.request.Request, timeout: float) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{request.full_url}: {error.code} {error.read()[:500]!r}") from None
