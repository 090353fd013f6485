"""The meters in force, by key and by event type, with the numbers the usage log knows them by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from tollkeeper.core.metering import MAX_UNITS, Meter, QuantityInvalid, split_quantity


class MeterEntry:
    """A meter and its number in the log. A changed definition is a new number; the old one keeps what it counted."""

    __slots__ = ("by_count", "key", "meter", "names", "number", "property")

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


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


class MeterSet:
    """The meters of one epoch."""

    __slots__ = ("by_key", "by_type", "epoch")

    def __init__(self, epoch: int = 0, entries: Iterable[MeterEntry] = ()) -> None:
        self.epoch = epoch
        self.by_key: dict[str, MeterEntry] = {}
        self.by_type: dict[str, tuple[MeterEntry, ...]] = {}
        for entry in entries:
            self.by_key[entry.key] = entry
            self.by_type[entry.meter.event_type] = (*self.by_type.get(entry.meter.event_type, ()), entry)


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
        self.current = MeterSet(epoch, [MeterEntry(n, m) for n, m in zip(numbers, meters, strict=True)])
