"""`tollkeeper settle`: what became of reserved calls, from a gateway's access log."""

from __future__ import annotations

import json as jsonlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, Verbose, examples
from tollkeeper.cli.server import connect
from tollkeeper.cli.values import plural

EXAMPLES = examples(
    "tollkeeper settle /var/log/nginx/access.log --follow  # beside nginx or Caddy, for as long as they run",
    "tollkeeper settle access.log.1  # once, to the end",
)

BATCH: Final = 1000
PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
MAX_LINE: Final = 256 * 1024
SHOWN: Final = 5
CALL: Final = re.compile("[0-9a-f]{32}")
HEADER: Final = "X-Tollkeeper-Reservation"


def settle(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG", help="Access log of nginx or Caddy, JSON lines.", show_default=False, dir_okay=False
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written, also after a rotation.")
    ] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Commit the reserved calls that were answered 2xx, and give the others back.

    Remembers how far it came in LOG.settled. Reading a line twice is safe: each call counts once.
    Exit code 1 when calls were refused, 3: no server.
    """
    if not follow and not log.is_file():
        raise typer.BadParameter(f"there is no file {log}", param_hint="LOG")
    told = {"committed": 0, "released": 0, "before": 0, "rejected": 0, "lines_without": 0}
    with connect(verbose) as server:
        for calls, without, reader in _batches(log, follow):
            told["lines_without"] += without
            if calls:
                answer = _send(server, calls, follow)
                for name in ("committed", "released", "before"):
                    told[name] += answer[name]
                told["rejected"] += len(answer["rejected"])
                for fault in answer["rejected"][:SHOWN]:
                    terminal.warn(f"{log}: a call was refused: {fault['detail']}")
            reader.remember()
    if json:
        terminal.show_json(told)
    else:
        terminal.say(
            f"{plural(told['committed'], 'call')} committed, {told['released']} given back, {told['before']} settled before, "
            f"{told['rejected']} refused; {plural(told['lines_without'], 'line')} without a reservation."
        )
    if told["rejected"]:
        raise typer.Exit(1)


def _send(server: Any, calls: list[dict[str, Any]], follow: bool) -> dict[str, Any]:
    """Settle a batch. Following, it waits for a server that is away, since a call that is not settled is not billed."""
    from tollkeeper.client import ApiError, Unreachable

    pause = PAUSE
    while True:
        try:
            answer: dict[str, Any] = server.request("POST", "/v1/reservations/settle", {"data": calls}, repeatable=True)
            return answer
        except (Unreachable, ApiError) as error:
            if not follow or (isinstance(error, ApiError) and error.status < 500):
                raise
            terminal.warn(f"{error}; trying again in {pause:g} s")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def _batches(log: Path, follow: bool) -> Iterator[tuple[list[dict[str, Any]], int, Reader]]:
    reader = Reader(log)
    calls: list[dict[str, Any]] = []
    without = 0
    while True:
        for line in reader.lines():
            call = read_call(line)
            if call is None:
                without += 1
            else:
                calls.append(call)
            if len(calls) >= BATCH:
                yield calls, without, reader
                calls, without = [], 0
        yield calls, without, reader
        calls, without = [], 0
        if reader.rotated():
            continue
        if not follow:
            return
        time.sleep(PAUSE)


def read_call(line: bytes) -> dict[str, Any] | None:
    """The token and status of one line of nginx (fields `reservation`, `status`) or Caddy (`resp_headers`); None without them."""
    try:
        entry = jsonlib.loads(line)
        token, status = entry.get("reservation"), entry.get("status")
        if token is None:
            [token] = entry["resp_headers"][HEADER]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if (
        not isinstance(token, str)
        or not token
        or len(token) > 2048
        or type(status) is not int
        or not 100 <= status <= 999
    ):
        return None
    call = entry.get("call")
    if isinstance(call, str) and CALL.fullmatch(call):
        return {"reservation": token, "status": status, "call": call}
    return {"reservation": token, "status": status}


class Reader:
    """Whole lines of a log from where the last run ended. A log that was rotated is read to its end, then its successor."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._kept = log.with_name(log.name + ".settled")
        self._file: Any = None
        self._inode = self._offset = 0
        self._read = 0
        try:
            kept = jsonlib.loads(self._kept.read_text())
            self._inode, self._offset = int(kept["inode"]), int(kept["offset"])
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def lines(self) -> Iterator[bytes]:
        """What has been written since; the last line only once it is whole."""
        if self._file is None and not self._open():
            return
        while True:
            start = self._file.tell()
            line = self._file.readline(MAX_LINE)
            if not line:
                return
            if not line.endswith(b"\n"):
                if len(line) == MAX_LINE:  # no log line of ours is so long: leave it out
                    while line and not line.endswith(b"\n"):
                        line = self._file.readline(MAX_LINE)
                    continue
                self._file.seek(start)
                return
            self._read = self._file.tell()
            yield line

    def rotated(self) -> bool:
        """Whether another file has the log's name now; it is read next."""
        try:
            found = self._log.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return self._open()
        if found.st_ino == os.fstat(self._file.fileno()).st_ino:
            if found.st_size >= self._file.tell():
                return False
            self._file.seek(0)  # emptied in place
            return True
        self._file.close()
        self._file = None
        self._inode = self._offset = 0
        return self._open()

    def remember(self) -> None:
        """All lines given so far are settled."""
        if self._file is None:
            return
        inode = os.fstat(self._file.fileno()).st_ino
        if (inode, self._read) != (self._inode, self._offset):
            self._inode, self._offset = inode, self._read
            fresh = self._kept.with_name(self._kept.name + ".new")
            fresh.write_text(jsonlib.dumps({"inode": inode, "offset": self._read}))
            fresh.replace(self._kept)

    def _open(self) -> bool:
        try:
            self._file = self._log.open("rb")
        except FileNotFoundError:
            return False
        found = os.fstat(self._file.fileno())
        if found.st_ino == self._inode and found.st_size >= self._offset:
            self._file.seek(self._offset)
        self._read = self._file.tell()
        return True
