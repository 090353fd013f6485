"""Rows of NDJSON and CSV files as events of the API: one at a time, each with its place, or with what is wrong with it."""

from __future__ import annotations

import gzip
import hashlib
import json as jsonlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

import msgspec

from tollkeeper.cli import terminal
from tollkeeper.cli.csv_records import RECORD_BYTES, Unreadable, cells, header_of, records
from tollkeeper.cli.export_shape import EXPORTED, unescaped

LINE_BYTES: Final = RECORD_BYTES
CHUNK: Final = 1 << 20
ATTRIBUTES: Final = ("id", "source", "type", "subject", "customer", "time")
OWN: Final = ("seq", "environment", "received_at", "quantity", "state", "correction", "amended")
"""What an export has besides; of these `environment`, `state` and `amended` are looked at."""

_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Row:
    """`event` holds the attributes as JSON texts; without it, `fault` is told. `place`, `next_line`: where to go on after it."""

    line: int
    place: int
    next_line: int
    event: Mapping[str, str] | None
    fault: str = ""


class Rows(Protocol):
    """A file of events. `size` is what `rows` counts places in."""

    fingerprint: str
    size: int

    def rows(self, place: int, line: int) -> Iterator[Row]: ...


@dataclass(slots=True)
class TextRows:
    """NDJSON or CSV, plain or gzip. `fingerprint`: SHA-256 of the text unpacked; `size`: its bytes."""

    stream: IO[bytes]
    csv: bool
    environment: str
    fingerprint: str = ""
    size: int = 0

    def rows(self, place: int, line: int) -> Iterator[Row]:
        """From a place on. Raises Unreadable."""
        self.stream.seek(0)
        return self._csv(place, line) if self.csv else self._ndjson(place, line)

    def _ndjson(self, place: int, number: int) -> Iterator[Row]:
        self.stream.seek(place)
        while line := self.stream.readline(LINE_BYTES + 1):
            if len(line) > LINE_BYTES:
                raise Unreadable(f"{number}: expected a line of at most {LINE_BYTES:,} bytes")
            first, place, number = place == 0, place + len(line), number + 1
            if text := (line.removeprefix(_BOM) if first else line).strip():
                event, fault = _told(read_object, text, self.environment)
                yield Row(number - 1, place, number, event, fault)

    def _csv(self, place: int, line: int) -> Iterator[Row]:
        head = next(records(self.stream), None)
        header = header_of(head)
        assert head is not None
        check_header(header)
        if place == 0:
            place, line = head.end, head.next_line
        self.stream.seek(place)
        exported = header in EXPORTED
        for record in records(self.stream, place, line):
            event, fault = _told(lambda record=record: read_cells(cells(header, record), self.environment, exported))
            yield Row(record.line, record.end, record.next_line, event, fault)


@contextmanager
def open_text(path: Path, csv: bool, environment: str, told: Callable[[int, int], None]) -> Iterator[TextRows]:
    """Opens a file and reads it once, for its fingerprint. Raises Stop when it cannot be read to its end; nothing was sent then."""
    with ExitStack() as opened:
        try:
            raw = opened.enter_context(path.open("rb"))
            on_disk = path.stat().st_size
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            stream: Any = opened.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw
            found, size = hashlib.sha256(), 0
            while chunk := stream.read(CHUNK):
                found.update(chunk)
                size += len(chunk)
                told(raw.tell(), on_disk)
        except EOFError:
            raise terminal.Stop(f"{path} is cut off: its packed data end too early", "Nothing was sent.", 2) from None
        except (OSError, zlib.error) as fault:
            reason = getattr(fault, "strerror", None) or fault
            raise terminal.Stop(f"{path} cannot be read: {reason}", "Nothing was sent.", 2) from None
        yield TextRows(stream, csv, environment, found.hexdigest(), size)


def _told(read: Callable[..., dict[str, str]], *arguments: Any) -> tuple[dict[str, str] | None, str]:
    try:
        return read(*arguments), ""
    except ValueError as fault:
        return None, str(fault)


def read_object(line: bytes, environment: str) -> dict[str, str]:
    """The attributes of a JSON object, each as it was written, so that decimals stay exact. Raises ValueError."""
    parse(line)
    try:
        found = {name: bytes(raw).decode() for name, raw in _raw.decode(line).items()}
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("expected a JSON object") from None
    found = {name: text for name, text in found.items() if text != "null"}
    if "seq" in found and "received_at" in found:
        _check_environment(jsonlib.loads(found.get("environment", '""')), environment)
        _check_state(jsonlib.loads(found.get("state", "null")))
        if "amended" in found:
            found["data"] = found["amended"]
        found = {name: text for name, text in found.items() if name not in OWN}
    return found


def read_values(row: Mapping[str, str | None], environment: str) -> dict[str, str]:
    """The attributes of a row whose values are JSON already, None where there is none. Raises ValueError."""
    found = {name: text for name, text in row.items() if text is not None}
    if "environment" in found:
        _check_environment(jsonlib.loads(found["environment"]), environment)
    _check_state(jsonlib.loads(found.get("state", "null")))
    if "amended" in found:
        found["data"] = found["amended"]
    event: dict[str, str] = {str(name): found[name] for name in ATTRIBUTES if name in found}
    properties = {name[5:]: text for name, text in found.items() if name.startswith("data.")}
    if "data" in found:
        if not isinstance(parse(found["data"].encode("utf-8", "surrogatepass")), dict):
            raise ValueError("data: expected a JSON object")
        event["data"] = found["data"]
    elif properties:
        event["data"] = object_text(properties)
    return event


def read_cells(row: Mapping[str, str], environment: str, exported: bool) -> dict[str, str]:
    """The attributes of a row of CSV; an empty cell is no attribute. Raises ValueError.

    `exported`: the file is an export, whose texts are escaped for spreadsheets.
    """
    if exported:
        row = {name: unescaped(value) for name, value in row.items()}
    if "environment" in row:
        _check_environment(row["environment"] or environment, environment)
    _check_state(row.get("state"))
    if row.get("amended"):
        row = {**row, "data": row["amended"]}
    found = {name: jsonlib.dumps(row[name]) for name in ATTRIBUTES if row.get(name)}
    properties = {name[5:]: value for name, value in row.items() if name.startswith("data.") and value}
    if data := row.get("data"):
        if not isinstance(parse(data.encode()), dict):
            raise ValueError("data: expected a JSON object")
        found["data"] = data.strip()
    elif properties:
        found["data"] = object_text({name: value_text(value) for name, value in properties.items()})
    return found


def value_text(value: str) -> str:
    """JSON of a cell: a number where it is one as JSON writes them, text otherwise."""
    return value if _NUMBER.fullmatch(value) else jsonlib.dumps(value)


def object_text(members: Mapping[str, str]) -> str:
    """A JSON object of values that are JSON already."""
    return "{" + ",".join(f"{jsonlib.dumps(name)}:{text}" for name, text in members.items()) + "}"


def parse(text: bytes) -> Any:
    """Raises ValueError for what is not strict JSON in UTF-8: doubled names, NaN, nesting without end, halves of surrogate pairs."""
    try:
        value = jsonlib.loads(text.decode(), parse_constant=_refuse_constant, object_pairs_hook=_no_doubles)
        jsonlib.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair") from None
    except UnicodeDecodeError as fault:
        raise ValueError(f"not UTF-8: {fault.reason} at byte {fault.start}") from None
    except jsonlib.JSONDecodeError as fault:
        raise ValueError(f"not JSON: {fault.msg} at character {fault.pos + 1}") from None
    except ValueError as fault:
        raise ValueError(str(fault)[:200]) from None
    return value


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_environment(found: object, wanted: str) -> None:
    if found != wanted:
        raise ValueError(f"the row is of another environment than {wanted}; see --environment")


def _check_state(found: object) -> None:
    if found == "voided":
        raise ValueError("the event was voided where it was exported: it counts nothing")


def check_header(header: tuple[str, ...]) -> None:
    for place, name in enumerate(header, 1):
        if name not in (*ATTRIBUTES, *OWN, "data") and not (name.startswith("data.") and len(name) > 5):
            raise Unreadable(
                f"1: column {place}, {name[:60]!r}, is not known; expected {', '.join(ATTRIBUTES)}, data, or data.NAME"
            )
    if "data" in header and any(name.startswith("data.") for name in header):
        raise Unreadable("1: expected a column data, or columns data.NAME, and not both")
