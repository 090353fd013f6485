"""TOML text to data, with the line of every key.

`tomllib` parses and judges; the scanner here only finds lines, in text that is known to be valid TOML 1.0
(https://toml.io/en/v1.0.0). A key whose name is escaped inside quotes is not found; its table's line is given instead.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from contextlib import suppress
from typing import Any, Final

from tollkeeper.core.catalog_faults import Fault, Float, Path
from tollkeeper.core.errors import CatalogInvalid

MAX_BYTES: Final = 1 << 20
MAX_LINE: Final = 8192
MAX_PARTS: Final = 8

_AT: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_SPACE: Final = re.compile(r"[ \t]*")
_FILLER: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY_PART: Final = re.compile(r"""([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)'""")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'  # up to two more quotes belong to the text
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_TOO_MANY_PARTS: Final = re.compile(
    rf"""(?:^|[{{,])[ \t]*\[{{0,2}}(?:[ \t]*(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*\.){{{MAX_PARTS}}}""",
    re.MULTILINE,
)
_SCALAR: Final = re.compile(r"[^,\]}\n#]*")


class Source:
    """A file's text and, once it is known to be TOML, the line on which each key stands."""

    def __init__(self, file: str, text: str = "") -> None:
        self.file = file
        self.lines: dict[Path, int] = {}
        self._text = text
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def line(self, path: Path) -> int | None:
        """The line of `path`, or of the nearest key above it."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return None

    def scan(self) -> None:
        """Fill `lines`."""
        text, at = self._text, 0
        arrays: dict[Path, int] = {}
        table: Path = ()
        while True:
            at = _end(_FILLER, text, at)
            if at >= len(text):
                return
            if text[at] == "[":
                double = text.startswith("[[", at)
                begin, (parts, at) = at, _key(text, at + 1 + double)
                table = _resolve(parts, arrays, double)
                self._note(table, begin)
                at += 1 + double
            else:
                at = self._pair(at, table)

    def _note(self, path: Path, at: int) -> None:
        line = bisect_right(self._starts, at)
        while path and path not in self.lines:
            self.lines[path] = line
            path = path[:-1]

    def _pair(self, at: int, table: Path) -> int:
        parts, after = _key(self._text, at)
        path = table + parts
        self._note(path, at)
        return self._value(_end(_SPACE, self._text, after + 1), path)  # after "="

    def _value(self, at: int, path: Path) -> int:
        text = self._text
        if text[at] == "[":
            return self._items(at + 1, path, "]")
        if text[at] == "{":
            return self._items(at + 1, path, "}")
        return _end(_STRING if text[at] in "\"'" else _SCALAR, text, at)

    def _items(self, at: int, path: Path, close: str) -> int:
        text, index = self._text, 0
        while True:
            at = _end(_FILLER, text, at)
            if text[at] == close:
                return at + 1
            if close == "}":
                at = self._pair(at, path)
            else:
                self._note((*path, index), at)
                at = self._value(at, (*path, index))
                index += 1
            at = _end(_FILLER, text, at)
            if text[at] == ",":
                at += 1


def read_toml(given: str | bytes, file: str) -> tuple[dict[str, Any], Source]:
    """The parsed tables and the lines of their keys. Raises CatalogInvalid with one fault when it is no TOML."""
    text = _decode(given, file)
    lines = text.split("\n")
    longest = max(range(len(lines)), key=lambda i: len(lines[i]))
    if len(lines[longest]) > MAX_LINE:
        raise _broken(file, longest + 1, None, f"lines of at most {MAX_LINE} characters", "a longer one")
    if match := _TOO_MANY_PARTS.search(text):  # tomllib takes memory by the square of the parts
        line = text.count("\n", 0, match.end()) + 1
        raise _broken(file, line, None, f"keys of at most {MAX_PARTS} parts", "a longer one")
    try:
        data = tomllib.loads(text, parse_float=Float)
    except RecursionError:
        raise _broken(file, None, None, "TOML", "arrays or tables nested too deep to read") from None
    except ValueError as error:  # TOMLDecodeError; a whole number beyond Python's limit of digits is a plain ValueError
        message = str(error)
        at: tuple[int | None, int | None] = (None, None)
        if match := _AT.search(message):
            message = message[: match.start()]
            at = (int(match[1]), int(match[2])) if match[1] else (len(lines), len(lines[-1]) + 1)
        raise _broken(file, *at, "TOML", f"a fault: {message}") from None
    source = Source(file, text)
    with suppress(RecursionError):  # only in what no catalog holds; the lines found so far stay
        source.scan()
    return data, source


def _decode(given: str | bytes, file: str) -> str:
    try:
        raw = given.encode() if isinstance(given, str) else given
        text = given if isinstance(given, str) else given.decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _broken(file, line, None, "text in UTF-8", f"the byte 0x{error.object[error.start]:02x}") from None
    except UnicodeEncodeError as error:
        line = error.object.count("\n", 0, error.start) + 1
        raise _broken(file, line, None, "text in UTF-8", "half of a surrogate pair") from None
    if len(raw) > MAX_BYTES:
        raise _broken(file, None, None, f"a file of at most {MAX_BYTES} bytes", f"{len(raw)} bytes")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _broken(file, line, None, "text", "a NUL byte")
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _broken(file: str, line: int | None, column: int | None, expected: str, found: str) -> CatalogInvalid:
    return CatalogInvalid(faults=[Fault(file, line, "", expected, found, column=column)])


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _key(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """The parts of a dotted key at `at`, and the offset of what follows it."""
    parts: list[str] = []
    while True:
        match = _KEY_PART.match(text, _end(_SPACE, text, at))
        if match is None:
            return tuple(parts), at
        parts.append(next(group for group in match.groups() if group is not None))
        at = _end(_SPACE, text, match.end())
        if text[at : at + 1] != ".":
            return tuple(parts), at
        at += 1


def _resolve(parts: tuple[str, ...], arrays: dict[Path, int], double: bool) -> Path:
    """The path of a table header: inside an array of tables it means the last element; `[[…]]` begins another."""
    path: Path = ()
    for i, part in enumerate(parts):
        path = (*path, part)
        if double and i == len(parts) - 1:
            arrays[path] = arrays.get(path, 0) + 1
        if path in arrays:
            path = (*path, arrays[path] - 1)
    return path
