"""What is wrong in a catalog, said so that it can be mended: the file, the line, the key, what was expected and what was found."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

Path = tuple[str | int, ...]  # ("plans", "pro", "limits", 0, "window_seconds")

_BARE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST: Final = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `line` and `column` count from 1; None where they are not known. `key_path` "" is the file as a whole."""

    file: str
    line: int | None
    key_path: str
    expected: str
    found: str
    hint: str = ""
    column: int | None = None

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        key = f"{self.key_path}: " if self.key_path else ""
        return f"{where}: {key}{self.told()}"

    def told(self) -> str:
        """What was expected and found, without the place."""
        hint = f"; {self.hint}" if self.hint else ""
        return f"expected {self.expected}, found {self.found}{hint}"


@dataclass(frozen=True, slots=True)
class CatalogWarning:
    """Something valid that is probably not meant."""

    file: str
    line: int | None
    key_path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.key_path}: {self.message}"


class Float:
    """A TOML float as it was written. No key of the catalog takes one; the fault shows the same digits in quotes."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def path_text(path: Path) -> str:
    """`plans.pro.limits[0].window_seconds`; a key that TOML would quote is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else _cut(json.dumps(part)))
    return text


def found_text(value: Any) -> str:
    """A TOML value in a fault: as written where it is short."""
    if isinstance(value, str):
        return _cut(json.dumps(value, ensure_ascii=False))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**_LONGEST else "a number of more than 60 digits"
    if isinstance(value, Float):
        return f"the float {_cut(value.text)}"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    return f"the {type(value).__name__} {value}"  # a date, time or datetime


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
