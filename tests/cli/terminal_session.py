"""A command on a real pseudo-terminal of 80 columns, with somebody typing."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(words: list[str], typed: str, cwd: Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """(exit code, everything that appeared, with colours). `typed` is all the input, a line for each question."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "tollkeeper", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**inherited, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "TZ": "UTC", **(env or {})},
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    return process.wait(), seen.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return _COLOUR.sub("", text)
