"""The meters in force, by key and by event type, with the numbers the usage log knows them by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from tollkeeper.core.errors import InvalidRequest, NotFound, TollkeeperError
from tollkeeper.core.metering import (
    MAX_UNITS,
    MAX_VALUE,
    SUMMED,
    Meter,
    QuantityInvalid,
    ValueInvalid,
    passes,
    split_quantity,
    value_text,
)

Folded = tuple[int, int, "str | None", "str | None"]
"""units, nanos, what a unique meter counts, the combination of dimensions."""


class MeterEntry:
    """A meter and its number in the log. A changed definition is a new number; the old one keeps what it counted."""

    __slots__ = ("by_count", "key", "meter", "names", "number", "property")
    extra = False

    def __init__(self, number: int, meter: Meter) -> None:
        self.number = number
        self.meter = meter
        self.key = meter.key
        self.names = (meter.key,)
        self.by_count = meter.aggregation == "count"
        self.property = meter.value_property

    def fold(self, quantity: int, data: Mapping[str, Any] | None) -> tuple[int, int] | None:
        """What an event adds, as (units, nanos); None when it does not carry the meter's value. Raises QuantityInvalid."""
        if self.by_count:
            return quantity, 0
        value = None if data is None or self.property is None else data.get(self.property)
        if value is None:
            return None
        if type(value) is int and -MAX_UNITS < value < MAX_UNITS:
            return value, 0
        try:
            return split_quantity(value)
        except QuantityInvalid:
            raise QuantityInvalid(
                f"data.{self.property} is {_shown(value)}; meter {self.key!r} needs a decimal number "
                "with at most 15 digits before the point and 9 after it."
            ) from None


class ExtraEntry(MeterEntry):
    """A meter that keeps more than how many events there were and their sum, or that filters."""

    __slots__ = ("extra", "summed")

    def __init__(self, number: int, meter: Meter) -> None:
        super().__init__(number, meter)
        self.summed = meter.aggregation in SUMMED
        self.extra = bool(meter.group_by) or not self.summed

    def fold(self, quantity: int, data: Mapping[str, Any] | None) -> tuple[int, int] | None:
        """As for every meter; where nothing is summed, the event alone counts: (0, 0)."""
        if not passes(self.meter.filters, data):
            return None
        if self.meter.aggregation == "unique":
            return None if self._text(data, str(self.property)) is None else (0, 0)
        value = super().fold(quantity, data)
        return value if self.summed or value is None else (0, 0)

    def more(self, quantity: int, data: Mapping[str, Any] | None) -> Folded | None:
        """What is kept beyond the fold; None when the event does not count here. Raises QuantityInvalid, ValueInvalid."""
        if not passes(self.meter.filters, data):
            return None
        seen: str | None = None
        amount: tuple[int, int] | None = (0, 0)
        if self.meter.aggregation == "unique":
            seen = self._text(data, str(self.property))
            if seen is None:
                return None
        else:
            amount = super().fold(quantity, data)
        if amount is None:
            return None
        combination = None
        if self.meter.group_by:
            combination = json.dumps(
                [self._text(data, name) for name in self.meter.group_by], ensure_ascii=False, separators=(",", ":")
            )
        return (*amount, seen, combination)

    def _text(self, data: Mapping[str, Any] | None, name: str) -> str | None:
        value = None if data is None else data.get(name)
        try:
            return value_text(value)
        except ValueInvalid:
            raise ValueInvalid(
                f"data.{name} is {_shown(value)}; meter {self.key!r} tells events apart by text, a number, true or false "
                f"of at most {MAX_VALUE} characters."
            ) from None


def entry_of(number: int, meter: Meter) -> MeterEntry:
    plain = meter.aggregation in SUMMED and not meter.group_by and not meter.filters
    return MeterEntry(number, meter) if plain else ExtraEntry(number, meter)


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


class MeterSet:
    """The meters of one epoch. `extra`: those of a type that keep more than their fold."""

    __slots__ = ("by_key", "by_type", "epoch", "extra")

    def __init__(self, epoch: int = 0, entries: Iterable[MeterEntry] = ()) -> None:
        self.epoch = epoch
        self.by_key: dict[str, MeterEntry] = {}
        self.by_type: dict[str, tuple[MeterEntry, ...]] = {}
        self.extra: dict[str, tuple[ExtraEntry, ...]] = {}
        for entry in entries:
            self.by_key[entry.key] = entry
            type = entry.meter.event_type
            self.by_type[type] = (*self.by_type.get(type, ()), entry)
            if isinstance(entry, ExtraEntry) and entry.extra:
                self.extra[type] = (*self.extra.get(type, ()), entry)


def not_checkable(meter: str, meters: MeterSet) -> TollkeeperError:
    """Why nothing can be checked against a meter."""
    known = meters.by_key
    if meter not in known:
        return NotFound(f"There is no meter {meter!r}; the catalog has {', '.join(known) or 'none'}.")
    found = known[meter].meter
    what = "has filters" if found.filters else f"takes the {found.aggregation} of events"
    return InvalidRequest(f"Meter {meter!r} {what}, so nothing can be checked against it; send events instead.")


class MeterRegistry(Protocol):
    """Where numbers and epochs are kept. `register` gives the epoch and each meter's number; the same meters give the same epoch."""

    def register(self, meters: Sequence[Meter]) -> tuple[int, list[int]]: ...


class MeterTable:
    """`current` is replaced as a whole when a catalog is applied; read it once per decision."""

    def __init__(self, registry: MeterRegistry | None = None) -> None:
        self._registry = registry
        self.current = MeterSet()

    def use(self, meters: Sequence[Meter]) -> None:
        """Put these meters in force for everything judged from now on."""
        assert self._registry is not None
        epoch, numbers = self._registry.register(meters)
        self.current = MeterSet(epoch, [entry_of(n, m) for n, m in zip(numbers, meters, strict=True)])
