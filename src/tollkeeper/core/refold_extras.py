"""The log folded again for meters that keep more than a number and a sum: dimensions, kept values, values seen. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

from tollkeeper.core.aggregation import KEPT, Rank, rank
from tollkeeper.core.metering import (
    NANOS,
    SUMMED,
    Meter,
    QuantityInvalid,
    ValueInvalid,
    passes,
    split_quantity,
    value_text,
)

Value: TypeAlias = tuple[int, ...]
"""Of rollups and dimensions: events, billionths. Of kept values: a Rank. Of values seen: events."""

Rows: TypeAlias = "list[tuple[tuple[Any, ...], Value]]"


class DataInvalid(Exception):
    """An event of the log cannot be folded; the message names its sequence number."""


class Layout(NamedTuple):
    """Where the key of a table has its subject, its cell and its combination; whether of two values the greater stays, or both add up."""

    subject: int
    cell: int
    combination: int | None
    greater: bool = False


LAYOUTS = {
    "rollups": Layout(4, 5, None),
    "dimensions": Layout(5, 6, 4),
    "kept": Layout(6, 4, 5, greater=True),
    "seen": Layout(6, 4, 5),
}
"""Keys begin with day, environment, customer, meter. A combination is its text, "" for none; the key of `seen` ends with the value."""


OTHER_COMBINATION = "other"
"""Combinations of dimensions beyond a period's bound, folded together. No combination has this text: each is an array."""

LATEST = 1 << 63
"""Later than any sequence."""

HasRows: TypeAlias = "Callable[[int, int, int, int, str], bool]"
"""(period start s, environment, customer, meter, combination) → whether it has rows of its own."""


class ExtraFold:
    """Folds one event at a time into `dimensions`, `kept` and `seen`. `combinations`: each of a period, and the first row that told it."""

    def __init__(self, has_rows: HasRows) -> None:
        self._has_rows = has_rows
        self.combinations: dict[tuple[Any, ...], int] = {}
        self.dimensions: dict[tuple[Any, ...], list[int]] = {}
        self.kept: dict[tuple[Any, ...], Rank] = {}
        self.seen: dict[tuple[Any, ...], int] = {}
        self._decoded: tuple[int, dict[str, Any]] = (0, {})

    @property
    def size(self) -> int:
        return len(self.dimensions) + len(self.kept) + len(self.seen) + len(self.combinations)

    def take(self) -> dict[str, Rows]:
        """What was folded since the last call, by table, sorted."""
        taken: dict[str, Rows] = {
            "dimensions": [(key, (e, b)) for key, (e, b) in sorted(self.dimensions.items())],
            "kept": [*sorted(self.kept.items())],
            "seen": [(key, (events,)) for key, events in sorted(self.seen.items())],
            "own_combinations": [(key, (seq,)) for key, seq in sorted(self.combinations.items())],
        }
        self.combinations.clear()
        self.dimensions.clear()
        self.kept.clear()
        self.seen.clear()
        return taken

    def add(
        self,
        number: int,
        meter: Meter,
        place: tuple[int, int, int, int, int | None],
        event: tuple[int, int, int, str | None],
    ) -> int | None:
        """`place`: environment, customer, subject, cell, start of its period (None: nobody knows). `event`: seq, time µs, quantity, data.

        The billionths that its rollup gets; None when the meter does not count it. Raises DataInvalid.
        """
        seq, at, quantity, text = event
        environment, customer, subject, cell, began = place
        data = self._data(seq, text)
        if not passes(meter.filters, data):
            return None
        try:
            found = None if meter.value_property is None else data.get(meter.value_property)
            value: str | None = None
            billionths = quantity * NANOS
            if meter.aggregation == "unique":
                value = value_text(found)
                if value is None:
                    return None
            elif meter.aggregation != "count":
                if found is None:
                    return None
                units, nanos = split_quantity(found)
                billionths = units * NANOS + nanos
            combination = ""
            if meter.group_by:
                values = [value_text(data.get(name)) for name in meter.group_by]
                combination = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        except (QuantityInvalid, ValueInvalid) as error:
            raise DataInvalid(f"event {seq}: its data cannot be folded ({error})") from None
        if combination and began is not None:
            whose = (began, environment, customer, number, combination)
            if seq < self.combinations.get(whose, LATEST):
                self.combinations[whose] = seq
            if not self._has_rows(*whose):
                combination = OTHER_COMBINATION
        added = billionths if meter.aggregation in SUMMED else 0
        start = (cell // 86400, environment, customer, number)
        if meter.group_by:
            total = self.dimensions.setdefault((*start, combination, subject, cell), [0, 0])
            total[0] += 1
            total[1] += added
        key = (*start, cell, combination, subject)
        if value is not None:
            self.seen[*key, value] = self.seen.get((*key, value), 0) + 1
        elif meter.aggregation in KEPT:
            this = rank(meter.aggregation, billionths, at, seq)
            self.kept[key] = max(this, self.kept.get(key, this))
        return added

    def _data(self, seq: int, text: str | None) -> dict[str, Any]:
        """Several meters may fold one event: it is decoded once."""
        if text is None:
            return {}
        if self._decoded[0] != seq:
            try:
                decoded = json.loads(text, parse_float=Decimal)
                if not isinstance(decoded, dict):
                    raise ValueError("no object")
            except ValueError as error:
                raise DataInvalid(f"event {seq}: its data cannot be folded ({error})") from None
            self._decoded = (seq, decoded)
        return self._decoded[1]
