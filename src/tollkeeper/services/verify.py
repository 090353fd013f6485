"""Is the log what the totals say? Every event folded again and compared with every rollup, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Any, Protocol

from tollkeeper.core.metering import Meter, format_quantity
from tollkeeper.core.refold import (
    DAY_US,
    OTHER_SUBJECT,
    Difference,
    Key,
    MeterHistory,
    Refold,
    Row,
    Value,
    comparable,
    differences,
)

PIECE = 20_000
IN_MEMORY = 100_000
SHOWN = 20

Periods = Callable[[str, str, int], "tuple[int, int] | None"]
"""(environment, customer, instant µs) → that customer's period [start, end) in µs; None: there is no such customer.

MOVED for a customer who bought later than it was made: what was recorded before is cut by another calendar."""


class Scan(Protocol):
    """What the usage file answers, and where refolded rollups are kept meanwhile."""

    def info(self) -> dict[str, str]: ...
    def name(self, number: int) -> str: ...
    def meter_key(self, number: int) -> str: ...
    def meter_spans(self) -> list[tuple[int, Meter, int, int | None]]: ...
    def begin(self) -> int: ...
    def first_seq(self) -> int: ...
    def rows(self, after_seq: int, upto_seq: int) -> Iterator[Row]: ...
    def spill(
        self, rollups: Iterable[tuple[Key, Value]], unmatched: Iterable[tuple[tuple[int, int, int, int], Value]]
    ) -> None: ...
    def capped(self) -> set[tuple[int, int, int]]: ...
    def rollups(self, table: str) -> Iterator[tuple[Key, Value]]: ...
    def unmatched(self, table: str) -> Iterator[tuple[tuple[int, ...], Value]]: ...


@dataclass(frozen=True, slots=True)
class Verification:
    """`differences` is how many; `shown` tells the first of them. `customers_unknown`: in the log, but in no main database.

    `compacted_before_seq`: retention removed what came before; usage up to `compacted_until` (µs) can be checked only in part.
    """

    events: int
    rollups: int
    last_seq: int
    differences: int
    shown: tuple[str, ...]
    customers_unknown: int
    compacted_before_seq: int
    compacted_until: int | None

    @property
    def ok(self) -> bool:
        return self.differences == 0


def verify(scan: Scan, periods: Periods, progress: Callable[[int, int], None] = lambda done, of: None) -> Verification:
    """Refold the whole log as it is when this begins. `progress(sequence, last)` is called now and then. Raises DataInvalid."""
    last_seq = scan.begin()

    def period(environment: int, customer: int, at: int) -> tuple[int, int] | None:
        return periods("test" if environment else "live", scan.name(customer), at)

    refold = Refold(MeterHistory(scan.meter_spans()), scan.name, period)
    at = max(scan.first_seq() - 1, 0)
    while at < last_seq:
        refold.add(scan.rows(at, at + PIECE if at + PIECE < last_seq else last_seq))
        at += PIECE
        if refold.size >= IN_MEMORY:
            scan.spill(*refold.take())
        progress(min(at, last_seq), last_seq)
    scan.spill(*refold.take())
    info = scan.info()  # read last: retention may have gone on meanwhile, and then more is known only in part
    removed = info.get("compacted_until")
    compacted_until = None if removed is None else int(removed)
    capped = scan.capped()
    stored = _Counted(comparable(scan.rollups("stored"), refold.uncut, capped))
    found = chain(
        (
            _told_rollup(scan, difference)
            for difference in differences(
                stored,
                comparable(scan.rollups("refolded"), refold.uncut, capped),
                lambda key: compacted_until is not None and key[5] * 1_000_000 <= compacted_until,
            )
        ),
        (
            _told_unmatched(scan, difference)
            for difference in differences(
                scan.unmatched("stored"),
                scan.unmatched("refolded"),
                lambda key: compacted_until is not None and key[0] * DAY_US <= compacted_until,
            )
        ),
    )
    shown: list[str] = []
    count = 0
    for text in found:
        count += 1
        if len(shown) < SHOWN:
            shown.append(text)
    unknown = len({customer for _, customer in refold.unknown})
    before = int(info.get("compacted_before_seq", "0"))
    return Verification(refold.events, stored.count, last_seq, count, tuple(shown), unknown, before, compacted_until)


class _Counted:
    def __init__(self, rows: Iterator[tuple[Any, Value]]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[tuple[Any, Value]]:
        for row in self._rows:
            self.count += 1
            yield row


def _told_rollup(scan: Scan, difference: Difference) -> str:
    _, environment, customer, meter, subject, cell = difference.key
    where = " ".join(
        part
        for part in (
            "test" if environment else "live",
            scan.name(customer),
            scan.meter_key(meter),
            "other" if subject == OTHER_SUBJECT else scan.name(subject),
            datetime.fromtimestamp(cell, UTC).isoformat().replace("+00:00", "Z"),
        )
        if part
    )
    return f"{where}: stored {_told(difference.stored)}, the log has {_told(difference.refolded)}"


def _told_unmatched(scan: Scan, difference: Difference) -> str:
    day, environment, type, source = difference.key
    date = datetime.fromtimestamp(day * 86400, UTC).date()
    where = f"{'test' if environment else 'live'} unmatched {scan.name(type)} from {scan.name(source)} {date}"
    stored, refolded = (
        "none" if value is None else f"{value[0]} events up to sequence {value[1]}"
        for value in (difference.stored, difference.refolded)
    )
    return f"{where}: stored {stored}, the log has {refolded}"


def _told(value: Value | None) -> str:
    if value is None:
        return "nothing"
    events, billionths = value
    return f"{events} events, {format_quantity(Decimal(f'{billionths}e-9'))}"
