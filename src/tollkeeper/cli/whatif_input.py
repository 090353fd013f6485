"""Log files to lines: plain or gzip (told by their first bytes), standard input as `-`, in bounded memory."""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tollkeeper.cli import terminal
from tollkeeper.cli.whatif_words import file_name
from tollkeeper.core.accesslog import Parse

CHUNK: Final = 1 << 20
MAX_LINE: Final = 1 << 16
PEEK: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b"
_OTHER: Final = ((b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"PK\x03\x04", "zip"))


@dataclass(slots=True)
class Source:
    """One log. `raw` counts what was read of the `size` bytes on disk (None: not known); `stream` is its text, unpacked."""

    name: str
    raw: io.BufferedReader
    stream: io.BufferedReader | gzip.GzipFile
    size: int | None
    first: int | None = None

    def done(self) -> int:
        try:
            return self.raw.tell()
        except (OSError, ValueError):
            return 0


@contextmanager
def open_sources(files: Sequence[str], parse: Parse) -> Iterator[list[Source]]:
    """The logs in the order of their first calls, so that `access.log*` is read from the oldest on; `-` is the last.

    Raises Stop for what cannot be opened, is packed otherwise, or is named twice.
    """
    if files.count("-") > 1:
        raise terminal.Stop("- is named twice; standard input is read once", exit_code=2)
    seen: dict[tuple[int, int], str] = {}
    sources = []
    with ExitStack() as opened:
        for name in files:
            if name == "-":
                sources.append(_source(name, io.BufferedReader(sys.stdin.buffer), None))  # type: ignore[arg-type,unused-ignore]
                continue
            try:
                if Path(name).is_dir():
                    raise terminal.Stop(
                        f"{file_name(name)} is a folder", f"Name its logs: {file_name(name.rstrip('/'))}/access.log*", 2
                    )
                raw = opened.enter_context(open(name, "rb"))
                status = os.fstat(raw.fileno())
            except OSError as fault:
                raise terminal.Stop(f"{file_name(name)} cannot be read: {fault.strerror}", exit_code=2) from None
            here = (status.st_dev, status.st_ino)
            if here in seen:
                raise terminal.Stop(
                    f"{file_name(name)} is the same file as {file_name(seen[here])}; its calls would count twice",
                    exit_code=2,
                )
            seen[here] = name
            sources.append(_source(name, raw, status.st_size if raw.seekable() else None))
        for source in sources:
            if source.size is not None and len(sources) > 1:
                source.first = _first_time(source, parse)
        yield sorted(sources, key=lambda one: (one.name == "-", one.first is None, one.first or 0))


def _source(name: str, raw: io.BufferedReader, size: int | None) -> Source:
    start = raw.peek(8)[:8]
    for magic, packer in _OTHER:
        if start.startswith(magic):
            raise terminal.Stop(
                f"{file_name(name)} is packed with {packer}", "Unpack it into a pipe, and read - instead of it.", 2
            )
    return Source(name, raw, gzip.GzipFile(fileobj=raw) if start.startswith(_GZIP) else raw, size)


def _first_time(source: Source, parse: Parse) -> int | None:
    """The time of the first call within the first 64 KiB; the file is read from its beginning afterwards."""
    try:
        text = source.stream.read(PEEK).decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error):
        text = ""
    source.stream.seek(0)
    hits = (parse(line) for line in text.split("\n"))
    return next((hit.at for hit in hits if not isinstance(hit, str)), None)


def batches(source: Source) -> Iterator[tuple[int, list[str | None]]]:
    """Batches of lines, each with the number of its first line; None stands for a line of more than MAX_LINE bytes.

    Raises EOFError when packed data end too early, OSError or zlib.error when they are damaged; what came before was given.
    """
    number, rest, dropping = 1, b"", False
    fault: Exception | None = None
    while True:
        try:
            chunk = source.stream.read1(CHUNK) if fault is None else b""
        except (OSError, EOFError, zlib.error) as error:
            chunk, fault = b"", error
        if not chunk:
            break
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            rest, dropping = (b"", True) if dropping or len(rest) + len(tail) > MAX_LINE else (rest + tail, False)
            continue
        lines: list[str | None] = []
        if dropping:
            lines.append(None)
            _, newline, head = head.partition(b"\n")
            rest = b""
        if newline:
            lines += _lines(rest + head)
        yield number, lines
        number += len(lines)
        rest, dropping = tail, False
    if dropping:
        yield number, [None]
    elif rest:
        yield number, _lines(rest)
    if fault is not None:
        raise fault


def _lines(block: bytes) -> list[str | None]:
    found = block.decode("utf-8", "replace").removeprefix("\ufeff").split("\n")
    if len(max(found, key=len)) <= MAX_LINE:
        return list(found)
    return [line if len(line) <= MAX_LINE else None for line in found]
