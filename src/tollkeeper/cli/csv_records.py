"""Records of a CSV file (RFC 4180) with their lines, one at a time: UTF-8, one header, bounded memory."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

RECORD_BYTES: Final = 1_000_000
_BOM: Final = b"\xef\xbb\xbf"


class Unreadable(Exception):
    """The rest of the file cannot be read either. The message begins with the line."""


@dataclass(frozen=True, slots=True)
class Record:
    """`line`: where it begins, from 1. `end`: bytes up to its end. `fault` is told where there are no values."""

    line: int
    end: int
    next_line: int
    values: tuple[str, ...]
    fault: str = ""


def records(stream: IO[bytes], offset: int = 0, line: int = 1) -> Iterator[Record]:
    """From the stream's place on, which is `offset` bytes and `line` lines into the file. Blank lines are passed over.

    A quoted field may span lines. Raises Unreadable for a quote without an end and a record without one.
    """
    csv.field_size_limit(RECORD_BYTES)
    while block := stream.readline(RECORD_BYTES + 1):
        start, line = line, line + 1
        while block.count(b'"') % 2 and len(block) <= RECORD_BYTES:
            more = stream.readline(RECORD_BYTES + 1 - len(block))
            if not more:
                raise Unreadable(f"{start}: a quote opens here and is not closed")
            block += more
            line += 1
        if len(block) > RECORD_BYTES:
            raise Unreadable(f"{start}: expected a record of at most {RECORD_BYTES:,} bytes; is a quote not closed?")
        text = block.removeprefix(_BOM) if offset == 0 else block
        offset += len(block)
        if text.strip():
            values, fault = _parse(text)
            yield Record(start, offset, line, values, fault)


def _parse(block: bytes) -> tuple[tuple[str, ...], str]:
    try:
        text = block.decode()
    except UnicodeDecodeError as error:
        return (), f"not UTF-8: {error.reason} at byte {error.start}"
    try:
        rows = list(csv.reader([text.rstrip("\r\n")], strict=True))
    except csv.Error as error:
        return (), f"not CSV: {error}"
    return (tuple(rows[0]), "") if len(rows) == 1 else ((), "not CSV: a carriage return outside quotes")


def header_of(record: Record | None) -> tuple[str, ...]:
    """The names of the columns. Raises Unreadable for none, empty ones and doubles."""
    if record is None:
        raise Unreadable("1: expected a header that names the columns; the file is empty")
    if record.fault:
        raise Unreadable(f"{record.line}: the header is {record.fault}")
    names = tuple(name.strip() for name in record.values)
    for place, name in enumerate(names, 1):
        if not name:
            raise Unreadable(f"{record.line}: column {place} has no name")
        if name in names[: place - 1]:
            raise Unreadable(f"{record.line}: columns {names.index(name) + 1} and {place} have the same name")
    return names


def cells(header: tuple[str, ...], record: Record) -> dict[str, str]:
    """Its values by column. Raises ValueError for a fault, or for more or fewer values than columns."""
    if record.fault:
        raise ValueError(record.fault)
    if len(record.values) != len(header):
        raise ValueError(f"{len(record.values)} values, and the header has {len(header)} columns")
    return dict(zip(header, record.values, strict=True))
