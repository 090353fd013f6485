"""What a proxied call came to, read from its answer as that passes: a header, a number in its JSON, its bytes, its seconds. No I/O.

Nothing is held back for it. Of JSON the whole body is kept beside, up to a bound; of a stream of events (WHATWG HTML, 9.2) or of lines
of JSON only the line that is being read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, cast

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.metering import QuantityInvalid, split_quantity
from tollkeeper.web.rules import read_cost

MOST_JSON: Final = 4 * 1024 * 1024
MOST_LINE: Final = 1024 * 1024
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_PATH: Final = re.compile(r"[A-Za-z0-9_-]{1,100}(\.[A-Za-z0-9_-]{1,100}){0,9}")
_LINES: Final = frozenset(
    (
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/json-seq",
    )
)
Pairs = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Sized:
    """Calls of `meter` take `amount` of it before they are made, and count what `source` says afterwards.

    `name`: of the header, in lower case, or where the number stands in the JSON: names and positions, with points between.
    """

    meter: str
    amount: int | str
    source: Literal["header", "json", "bytes", "seconds"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.source}:{self.name}" if self.name else self.source


def read_sized(reserve: str | None, quantity_from: str | None) -> Sized | None:
    """`METER=AMOUNT` and `header:NAME`, `json:PATH`, `bytes` or `seconds`; None when neither is given. Raises InvalidRequest."""
    if reserve is None and quantity_from is None:
        return None
    if reserve is None or quantity_from is None:
        raise InvalidRequest("--reserve and --quantity-from go together: how much is held, and what is counted then.")
    meter, mark, amount = reserve.partition("=")
    if not mark or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", meter):
        raise InvalidRequest(f"--reserve: METER=AMOUNT such as tokens=4000 is expected, found {reserve[:80]!r}.")
    held = read_cost(amount)
    if not held or not Decimal(held):
        raise InvalidRequest("--reserve: an amount above 0 is expected, the most that a call may come to.")
    source, _, name = quantity_from.partition(":")
    fits = {"header": _HEADER, "json": _PATH}.get(source)
    if fits.fullmatch(name) if fits is not None else quantity_from in ("bytes", "seconds"):
        return Sized(meter, held, cast("Any", source), name.lower() if source == "header" else name)
    raise InvalidRequest(
        "--quantity-from: header:X-Tokens-Used, json:usage.total_tokens, bytes or seconds is expected, "
        f"found {quantity_from[:80]!r}."
    )


class SizeReader:
    """Of one call. `head`, then `feed` for each piece of the body; `size` at any time tells what is known by then."""

    __slots__ = ("_bytes", "_data", "_found", "_last", "_line", "_mode", "_path", "_sized", "_skip")

    def __init__(self, sized: Sized) -> None:
        self._sized = sized
        self._path = sized.name.split(".")
        self._last = f'"{self._path[-1]}"'.encode()
        self._mode: Literal["none", "whole", "events", "lines"] = "none"
        self._found: str | None = None
        self._bytes = 0
        self._line = bytearray()
        self._data: list[bytes] = []
        self._skip = False

    def __str__(self) -> str:
        return str(self._sized)

    @property
    def reads_body(self) -> bool:
        """Whether the body must come as it is, not compressed."""
        return self._sized.source == "json"

    def head(self, fields: Pairs) -> None:
        """The head of an answer."""
        told = {name.lower(): value for name, value in fields}
        if self._sized.source == "header":
            values = [value for name, value in fields if name.lower() == self._sized.name.encode()]
            if len(values) == 1:
                self._found = _decimal(values[0].decode("latin-1").strip())
        elif self._sized.source == "json" and told.get(b"content-encoding", b"identity").lower() == b"identity":
            kind = told.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
            if kind == "text/event-stream":
                self._mode = "events"
            elif kind in _LINES:
                self._mode = "lines"
            elif kind == "application/json" or kind.endswith("+json"):
                self._mode = "whole"

    def feed(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._mode == "whole":
            self._line += piece
            if len(self._line) > MOST_JSON:
                self._line.clear()
                self._mode = "none"
        elif self._mode != "none":
            *ended, rest = piece.split(b"\n")
            for part in ended:
                self._keep(part)
                if not self._skip:
                    self._end_line(bytes(self._line).removesuffix(b"\r"))
                self._line.clear()
                self._skip = False
            self._keep(rest)

    def _keep(self, part: bytes) -> None:
        """Of a line that is longer than any number needs, nothing is kept."""
        if self._skip or len(self._line) + len(part) > MOST_LINE:
            self._skip = True
            self._line.clear()
            self._data.clear()
        else:
            self._line += part

    def _end_line(self, line: bytes) -> None:
        if self._mode == "lines":
            self._look(line.removeprefix(b"\x1e"))
        elif not line:
            self._look(b"\n".join(self._data))
            self._data.clear()
        elif line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            if sum(map(len, self._data)) > MOST_LINE:
                self._data.clear()

    def _look(self, text: bytes) -> None:
        """The last document that has the number tells it."""
        if self._last in text or self._path[-1].isdigit():
            found = _number_at(text, self._path)
            if found is not None:
                self._found = found

    def size(self, seconds: float, *, ended: bool) -> str | None:
        """A decimal; None when it cannot be read. `seconds`: how long the call took. `ended`: the answer came to its end.

        A number in a body that broke off is not the last one that would have come, so it is not taken for the size.
        """
        source = self._sized.source
        if source == "bytes":
            return str(self._bytes)
        if source == "seconds":
            return str(Decimal(math.ceil(seconds * 1000)) / 1000)
        if source == "json":
            if not ended:
                return None
            if self._mode == "whole":
                self._look(bytes(self._line))
            elif self._mode != "none" and not self._skip:  # a stream may end without the last line's end
                self._end_line(bytes(self._line))
                self._end_line(b"")
        return self._found


def _number_at(text: bytes, path: Sequence[str]) -> str | None:
    try:
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    for name in path:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return _decimal(value) if isinstance(value, str) else None


def _decimal(text: str) -> str | None:
    """The text when it is a quantity, 0 or more."""
    try:
        units, _ = split_quantity(text)
    except QuantityInvalid:
        return None
    return text if units >= 0 else None
