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
    OTHER_SUBJECT,
    Difference,
    MeterHistory,
    Refold,
    Row,
    Uncertain,
    comparable,
    differences,
    own_differences,
)
from tollkeeper.core.refold_extras import LAYOUTS, OTHER_COMBINATION, Rows, Value

PIECE = 20_000
IN_MEMORY = 100_000
SHOWN = 20
OWN_TABLES = ("own_subjects", "own_combinations")

Periods = Callable[[str, str, int], "tuple[int, int] | None"]
"""(environment, customer, instant µs) → that customer's period [start, end) in µs; None: there is no such customer.

MOVED for a customer who bought later than it was made: what was recorded before is cut by another calendar."""


class Scan(Protocol):
    """What the usage file answers, and where refolded rollups are kept meanwhile. It is an `Own`, too.

    `own_since`: the first day of which it is known what has rows of its own.
    """

    @property
    def own_since(self) -> int: ...
    @property
    def check_source(self) -> int | None: ...
    def subject(self, day: int, environment: int, customer: int, subject: int) -> bool: ...
    def combination(self, start: int, environment: int, customer: int, meter: int, text: str) -> bool: ...
    def info(self) -> dict[str, str]: ...
    def name(self, number: int) -> str: ...
    def meter_key(self, number: int) -> str: ...
    def meter_spans(self) -> list[tuple[int, Meter, int, int | None]]: ...
    def begin(self) -> int: ...
    def cuts(self) -> dict[tuple[int, int], tuple[int, ...]]: ...
    def first_seq(self) -> int: ...
    def rows(self, after_seq: int, upto_seq: int) -> Iterator[Row]: ...
    def amended(self, after_seq: int, upto_seq: int) -> Iterator[Row]: ...
    def told(self, after_seq: int, upto_seq: int) -> Iterator[Row]: ...
    def spill(self, taken: dict[str, Rows]) -> None: ...
    def uncertain(self, uncut: set[tuple[int, int]], since_of: Callable[[int, int, int], int | None]) -> Uncertain: ...
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
    meters = MeterHistory(spans)
    # as they were sent; with the data that counts; and what the log once said, which decides what has rows of its own
    refold, amended, told = (Refold(meters, scan.name, period, scan, scan.cuts()) for _ in range(3))
    at = max(scan.first_seq() - 1, 0)
    while at < last_seq:
        upto = min(at + PIECE, last_seq)
        refold.add(scan.rows(at, upto))
        amended.add(scan.amended(at, upto))
        told.add(scan.told(at, upto))
        at = upto
        if refold.size + amended.size + told.size >= IN_MEMORY:
            _spill(scan, refold, amended, told)
        progress(at, last_seq)
    _spill(scan, refold, amended, told)
    info = scan.info()  # read last: retention may have gone on meanwhile, and then more is known only in part
    removed = info.get("compacted_until")
    compacted_until = None if removed is None else int(removed)
    aggregations = {number: meter.aggregation for number, meter, _, _ in spans}
    counted = _Counted()
    uncut = refold.uncut | amended.uncut | told.uncut

    def since_of(environment: int, customer: int, day: int) -> int | None:
        found = period(environment, customer, day * DAY_US)
        return None if found is None else found[0] // 1_000_000

    uncertain = scan.uncertain(uncut, since_of)
    found = chain.from_iterable(
        [
            *(_differences(scan, table, aggregations, uncertain, compacted_until, counted) for table in LAYOUTS),
            _unmatched_differences(scan, compacted_until),
            *(_own_differences(scan, table, uncut, compacted_until) for table in OWN_TABLES),
        ]
    )
    shown: list[str] = []
    count = 0
    for text in found:
        count += 1
        if len(shown) < SHOWN:
            shown.append(text)
    unknown = len({customer for _, customer in refold.unknown | amended.unknown})
    before = int(info.get("compacted_before_seq", "0"))
    events = refold.events + amended.events
    return Verification(events, counted.rows, last_seq, count, tuple(shown), unknown, before, compacted_until)


def _spill(scan: Scan, refold: Refold, amended: Refold, told: Refold) -> None:
    scan.spill(refold.take())
    scan.spill({table: rows for table, rows in amended.take().items() if table not in OWN_TABLES})
    once = told.take()
    unmatched: Rows = [(key, (0, last)) for key, (_, last) in once["unmatched"]]
    scan.spill({**{table: once[table] for table in OWN_TABLES}, "unmatched": unmatched})


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
    uncertain: Uncertain,
    compacted_until: int | None,
    counted: _Counted,
) -> Iterator[str]:
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
        stored, refolded = difference.stored or (0, 0), difference.refolded or (0, 0)
        # an earlier version removed rows without events, and told no amendment
        if difference.key[0] < scan.own_since and stored[0] == refolded[0]:
            continue
        yield _told_unmatched(scan, difference)


def _own_differences(scan: Scan, table: str, uncut: set[tuple[int, int]], compacted_until: int | None) -> Iterator[str]:
    seconds = 86400 if table == "own_subjects" else 1
    for key, has in own_differences(
        scan.table("stored", table),
        scan.table("refolded", table),
        lambda group: compacted_until is not None and group[0] * seconds * 1_000_000 <= compacted_until,
    ):
        start, environment, customer, *_ = key
        uncertain = start * seconds // 86400 < scan.own_since or (seconds == 1 and (environment, customer) in uncut)
        if not uncertain:
            yield _told_own(scan, table, key, has)


def _told_own(scan: Scan, table: str, key: tuple[Any, ...], has: bool) -> str:
    start, environment, customer, *meter, what = key
    where = f"{'test' if environment else 'live'} {scan.name(customer)}"
    if table == "own_subjects":
        name = "other" if what == OTHER_SUBJECT else scan.name(what)
        where = f"{where} {name} {datetime.fromtimestamp(start * 86400, UTC).date()}"
    else:
        instant = datetime.fromtimestamp(start, UTC).isoformat().replace("+00:00", "Z")
        name = "of other dimensions" if what == OTHER_COMBINATION else what
        where = f"{where} {scan.meter_key(meter[0])} {name} of the period from {instant}"
    own = ("no rows of its own", "rows of its own")
    return f"{where}: stored {own[has]}, the log has {own[not has]}"


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
