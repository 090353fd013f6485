"""Is the log what the totals say? Every event folded again and compared with every rollup, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Protocol

from tollkeeper.core.aggregation import ranked
from tollkeeper.core.metering import Aggregation, Meter, format_quantity, join_quantity
from tollkeeper.core.refold import (
    DAY_US,
    OTHER_COMBINATION,
    OTHER_SUBJECT,
    Difference,
    MeterHistory,
    Refold,
    Row,
    Uncertain,
    comparable,
    differences,
)
from tollkeeper.core.refold_extras import LAYOUTS, Rows, Value

PIECE = 20_000
IN_MEMORY = 100_000
SHOWN = 20

Periods = Callable[[str, str, int], "tuple[int, int] | None"]
"""(environment, customer, instant µs) → that customer's period [start, end) in µs; None: there is no such customer.

MOVED for a customer who bought later than it was made: what was recorded before is cut by another calendar."""


class Scan(Protocol):
    """What the usage file answers, and where refolded rollups are kept meanwhile. `corrected`: some events were."""

    @property
    def corrected(self) -> bool: ...
    def info(self) -> dict[str, str]: ...
    def name(self, number: int) -> str: ...
    def meter_key(self, number: int) -> str: ...
    def meter_spans(self) -> list[tuple[int, Meter, int, int | None]]: ...
    def begin(self) -> int: ...
    def cuts(self) -> dict[tuple[int, int], tuple[int, ...]]: ...
    def first_seq(self) -> int: ...
    def rows(self, after_seq: int, upto_seq: int) -> Iterator[Row]: ...
    def spill(self, taken: dict[str, Rows]) -> None: ...
    def uncertain(self, uncut: set[tuple[int, int]]) -> Uncertain: ...
    def table(self, side: str, table: str) -> Iterator[tuple[tuple[Any, ...], Value]]: ...


@dataclass(frozen=True, slots=True)
class Verification:
    """`rollups` are rows of every table that is folded. `differences` is how many; `shown` tells the first of them.

    `customers_unknown`: in the log, but in no main database.

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

    spans = scan.meter_spans()
    refold = Refold(MeterHistory(spans), scan.name, period, scan.cuts())
    at = max(scan.first_seq() - 1, 0)
    while at < last_seq:
        refold.add(scan.rows(at, at + PIECE if at + PIECE < last_seq else last_seq))
        at += PIECE
        if refold.size >= IN_MEMORY:
            scan.spill(refold.take())
        progress(min(at, last_seq), last_seq)
    scan.spill(refold.take())
    info = scan.info()  # read last: retention may have gone on meanwhile, and then more is known only in part
    removed = info.get("compacted_until")
    compacted_until = None if removed is None else int(removed)
    aggregations = {number: meter.aggregation for number, meter, _, _ in spans}
    counted = _Counted()
    found = chain.from_iterable(
        [
            *(_differences(scan, table, aggregations, refold.uncut, compacted_until, counted) for table in LAYOUTS),
            _unmatched_differences(scan, compacted_until),
        ]
    )
    shown: list[str] = []
    count = 0
    for text in found:
        count += 1
        if len(shown) < SHOWN:
            shown.append(text)
    unknown = len({customer for _, customer in refold.unknown})
    before = int(info.get("compacted_before_seq", "0"))
    return Verification(refold.events, counted.rows, last_seq, count, tuple(shown), unknown, before, compacted_until)


class _Counted:
    def __init__(self) -> None:
        self.rows = 0

    def count(self, rows: Iterable[tuple[Any, Value]]) -> Iterator[tuple[Any, Value]]:
        for row in rows:
            self.rows += 1
            yield row


def _differences(
    scan: Scan,
    table: str,
    aggregations: dict[int, Aggregation],
    uncut: set[tuple[int, int]],
    compacted_until: int | None,
    counted: _Counted,
) -> Iterator[str]:
    uncertain = scan.uncertain(uncut)
    cell = LAYOUTS[table].cell
    for difference in differences(
        counted.count(comparable(scan.table("stored", table), table, uncertain)),
        comparable(scan.table("refolded", table), table, uncertain),
        lambda key: compacted_until is not None and key[cell] * 1_000_000 <= compacted_until,
    ):
        yield _told_row(scan, table, aggregations.get(difference.key[3], "count"), difference)


def _unmatched_differences(scan: Scan, compacted_until: int | None) -> Iterator[str]:
    for difference in differences(
        scan.table("stored", "unmatched"),
        scan.table("refolded", "unmatched"),
        lambda key: compacted_until is not None and key[0] * DAY_US <= compacted_until,
    ):
        stored, refolded = difference.stored, difference.refolded
        # a correction takes an event away, and leaves standing which one was the last
        if scan.corrected and stored and refolded and stored[0] == refolded[0] and stored[1] > refolded[1]:
            continue
        yield _told_unmatched(scan, difference)


def _told_row(scan: Scan, table: str, aggregation: Aggregation, difference: Difference) -> str:
    key, layout = difference.key, LAYOUTS[table]
    subject, combination = key[layout.subject], "" if layout.combination is None else key[layout.combination]
    parts = [
        "test" if key[1] else "live",
        scan.name(key[2]),
        scan.meter_key(key[3]),
        "other" if subject == OTHER_SUBJECT else scan.name(subject),
        "of other dimensions" if combination == OTHER_COMBINATION else combination,
        repr(key[-1]) if table == "seen" else "",
        datetime.fromtimestamp(key[layout.cell], UTC).isoformat().replace("+00:00", "Z"),
    ]
    stored, refolded = (_told(table, aggregation, value) for value in (difference.stored, difference.refolded))
    return f"{' '.join(part for part in parts if part)}: stored {stored}, the log has {refolded}"


def _told_unmatched(scan: Scan, difference: Difference) -> str:
    day, environment, type, source = difference.key
    date = datetime.fromtimestamp(day * 86400, UTC).date()
    where = f"{'test' if environment else 'live'} unmatched {scan.name(type)} from {scan.name(source)} {date}"
    stored, refolded = (
        "none" if value is None else f"{value[0]} events up to sequence {value[1]}"
        for value in (difference.stored, difference.refolded)
    )
    return f"{where}: stored {stored}, the log has {refolded}"


def _told(table: str, aggregation: Aggregation, value: Value | None) -> str:
    if value is None:
        return "nothing"
    if table == "kept":
        first, second, third = value
        billionths, _, seq = ranked(aggregation, (first, second, third))
        return f"{format_quantity(join_quantity(0, billionths))} of event {seq}"
    if table == "seen":
        return f"{value[0]} events"
    events, billionths = value
    return f"{events} events, {format_quantity(join_quantity(0, billionths))}"
