"""Parquet files, by pyarrow of the extra `tollkeeper[parquet]`, which is loaded when one is read or written."""

from __future__ import annotations

import hashlib
import json as jsonlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tollkeeper.cli import terminal
from tollkeeper.cli.csv_records import Unreadable
from tollkeeper.cli.import_rows import CHUNK, Row, check_header, read_values

ROWS: Final = 1_000
INSTANTS: Final = frozenset({"time", "received_at", "start", "end"})
INTEGERS: Final = frozenset({"seq", "events"})
DECIMALS: Final = frozenset({"value", "quantity"})


def load() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet. Raises Stop naming the extra."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise terminal.Stop(
            "Parquet needs pyarrow, which is not installed", "pip install 'tollkeeper[parquet]'", 2
        ) from None
    return pyarrow, pyarrow.parquet


@dataclass(slots=True)
class ParquetRows:
    """`fingerprint`: SHA-256 of the file; places and `size` are rows."""

    path: Path
    file: Any
    environment: str
    fingerprint: str
    size: int

    def rows(self, place: int, line: int) -> Iterator[Row]:
        """From a place on. Raises Unreadable."""
        names = tuple(self.file.schema_arrow.names)
        check_header(names)
        metadata, first = self.file.metadata, 0
        groups: list[int] = []
        for group in range(metadata.num_row_groups):
            count = metadata.row_group(group).num_rows
            if groups or first + count > place:
                groups.append(group)
            else:
                first += count
        number = first
        for batch in self._batches(groups):
            for values in batch:
                number += 1
                if number > place:
                    try:
                        event, fault = (
                            read_values({name: _text(name, values[name]) for name in names}, self.environment),
                            "",
                        )
                    except ValueError as error:
                        event, fault = None, str(error)
                    yield Row(number, number, number + 1, event, fault)

    def _batches(self, groups: list[int]) -> Iterator[list[dict[str, Any]]]:
        pyarrow, _ = load()
        try:
            for batch in self.file.iter_batches(batch_size=ROWS, row_groups=groups):
                fields = [
                    pyarrow.field(field.name, pyarrow.timestamp("us", field.type.tz))
                    if pyarrow.types.is_timestamp(field.type)
                    else field
                    for field in batch.schema
                ]
                table = pyarrow.Table.from_batches([batch])
                yield table.cast(pyarrow.schema(fields), safe=False).to_pylist()
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as fault:
            raise Unreadable(f" the Parquet file is damaged: {str(fault)[:200]}") from None


@contextmanager
def open_parquet(path: Path, environment: str, told: Callable[[int, int], None]) -> Iterator[ParquetRows]:
    """Opens a file, and reads it once for its fingerprint. Raises Stop."""
    pyarrow, parquet = load()
    found, size, done = hashlib.sha256(), path.stat().st_size, 0
    try:
        with path.open("rb") as raw:
            while chunk := raw.read(CHUNK):
                found.update(chunk)
                done += len(chunk)
                told(done, size)
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as fault:
        raise terminal.Stop(f"{path} cannot be read: {str(fault)[:200]}", "Nothing was sent.", 2) from None
    with file:
        if len(set(file.schema_arrow.names)) != len(file.schema_arrow.names):
            raise terminal.Stop(f"{path}: two columns have the same name", "Nothing was sent.", 2)
        yield ParquetRows(path, file, environment, found.hexdigest(), file.metadata.num_rows)


def _text(name: str, value: Any) -> str | None:
    """JSON of a value, None of null. Raises ValueError."""
    if value is None:
        return None
    if isinstance(value, datetime) and not name.startswith("data."):
        if value.tzinfo is None:
            raise ValueError(f"{name}: a timestamp without a zone")
        return jsonlib.dumps(value.isoformat())
    if isinstance(value, str):
        return value if name in ("data", "amended") else jsonlib.dumps(value)
    if name.startswith("data.") and isinstance(value, bool | int | float | Decimal):
        if isinstance(value, float | Decimal) and not math.isfinite(value):
            raise ValueError(f"{name}: {value} is no number")
        return jsonlib.dumps(value) if not isinstance(value, Decimal) else format(value, "f")
    if type(value) is int or isinstance(value, Decimal):
        return jsonlib.dumps(str(value))
    raise ValueError(f"{name}: a value of type {type(value).__name__} is not expected there")


@contextmanager
def writing(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Sequence[Mapping[str, str | None]]], None]]:
    """A function that adds rows of texts. Instants become timestamps in UTC, numbers integers or decimal(38, 9), the rest stays text."""
    pyarrow, parquet = load()

    def kind(name: str) -> Any:
        if name in INSTANTS:
            return pyarrow.timestamp("us", "UTC")
        if name in DECIMALS:
            return pyarrow.decimal128(38, 9)
        return pyarrow.int64() if name in INTEGERS else pyarrow.string()

    def value(name: str, text: str | None) -> Any:
        if text is None:
            return None
        if name in INSTANTS:
            return datetime.fromisoformat(text)
        if name in DECIMALS:
            return Decimal(text)
        return int(text) if name in INTEGERS else text

    schema = pyarrow.schema([(name, kind(name)) for name in columns])
    with parquet.ParquetWriter(path, schema) as writer:

        def add(rows: Sequence[Mapping[str, str | None]]) -> None:
            found = {name: [value(name, row[name]) for row in rows] for name in columns}
            writer.write_table(pyarrow.table(found, schema=schema))

        yield add
