"""Corrections: an event is voided, so that it counts no more, or amended, so that other data counts in the place of what was sent.

The event stays in the log as it was sent, and its id stays taken. Each corrected event gets a row of the log with a sequence of its own,
and the time, type and customer of the event: whoever reads on from a sequence meets what a correction touched as it meets new usage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.metering import CELL_SECONDS, Aggregation

Action = Literal["void", "amend"]


class EventVoided(TollkeeperError):
    """This event was voided: it counts nothing, and can be neither voided again nor amended."""

    code = "event_voided"
    permanent = True


class EventCompacted(TollkeeperError):
    """Single events of that time are no longer kept, so nothing of it can be corrected."""

    code = "event_compacted"
    permanent = True


class Part(NamedTuple):
    """What one event comes to on one meter. `units` and `nanos`: what is added up, or the value of a max, min or latest meter.

    `value` is what a unique meter counts; `combination` the JSON array of its dimensions' values, None for a meter that has none.
    """

    meter: int
    aggregation: Aggregation
    units: int
    nanos: int
    value: str | None
    combination: str | None


class Stored(NamedTuple):
    """An event of the log in the numbers of the log, with what counts of it now.

    `correction`: 0, or the kind of the row that corrected it last (VOID, AMEND); `data` is that of an amendment, when there is one.
    """

    seq: int
    time: int
    flags: int
    source: int
    type: int
    subject: int
    customer: int
    epoch: int
    quantity: int
    data: str | None
    correction: int

    @property
    def quarter(self) -> int:
        """Start (s) of its quarter of an hour."""
        second = self.time // 1_000_000
        return second - second % CELL_SECONDS


class Place(NamedTuple):
    """The cell of an event and the period [start, end) it lies in, by its customer's calendar; all in seconds."""

    cell: int
    start: int
    end: int


class Change(NamedTuple):
    """One event to correct: what it comes to, and what it is to come to (nothing, when it is voided)."""

    event: Stored
    place: Place
    old: tuple[Part, ...]
    new: tuple[Part, ...]


class Neighbour(NamedTuple):
    """An event in the quarter of an hour of one that is corrected, with its parts on meters that keep a value."""

    event: Stored
    place: Place
    parts: tuple[Part, ...]


class Delta(NamedTuple):
    """What was added to a rollup, in billionths. `meter` is the log's number, `cell` its start in seconds."""

    customer: int
    meter: int
    cell: int
    billionths: int


Quarter: TypeAlias = "tuple[int, int]"
"""(customer, start in seconds) of a quarter of an hour, of one environment."""


@dataclass(frozen=True, slots=True)
class Selection:
    """One event by `source` and `id`, or those of [start, end) in µs, narrowed by whatever else is given. `meter`: those it counts."""

    id: str | None = None
    source: str | None = None
    start: int = 0
    end: int = 0
    customer: str | None = None
    subject: str | None = None
    type: str | None = None
    meter: str | None = None


class PeriodChange(NamedTuple):
    """What one meter of one customer came to in the period [start, end) in µs, and what it comes to; decimals as text, None for no value.

    `difference` is None where one of them is. `events`: how many more it counts, or fewer.
    """

    customer: str
    meter: str
    start: int
    end: int
    before: str | None
    after: str | None
    difference: str | None
    events: int


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction as it was asked for, and how far it is. `data` is canonical JSON text, None for void.

    `upto` is the last sequence of the log when it was asked for: later events are not its business. `position`: the last event it has dealt
    with; `events` it corrected, `skipped` it left as they were. `applied_at` None: it has not come to its end. `changes` are as they were
    reckoned when it was asked for, at most `SHOWN_CHANGES`.
    """

    id: str
    action: Action
    environment: str
    selection: Selection
    data: str | None
    reason: str
    author: str
    made_at: int
    upto: int = 0
    position: int = 0
    events: int = 0
    skipped: int = 0
    applied_at: int | None = None
    changes: tuple[PeriodChange, ...] = ()
    number: int = 0

    @property
    def asked(self) -> tuple[Any, ...]:
        """What must be the same when its id is sent again."""
        return (self.action, self.environment, self.selection, self.data, self.reason, self.author)


SHOWN_CHANGES = 1_000


@dataclass(frozen=True, slots=True)
class Batch:
    """A bounded piece of a correction, for one transaction.

    `correction.number` 0: it is not written down yet. `neighbours` (None: none is needed) are those among events up to `scanned`, before
    this batch; `fold` tells of a later one what it comes to. `done`: nothing is left after it.
    """

    correction: Correction
    changes: Sequence[Change]
    skipped: int
    position: int
    done: bool
    neighbours: Mapping[Quarter, Sequence[Neighbour]] | None = None
    scanned: int = 0
    fold: Callable[[Stored], Neighbour] | None = None


@dataclass(slots=True)
class Applied:
    """What a batch came to. `gone`: events of it that are not in the log any more, or too old by now, and were left."""

    number: int
    last_seq: int
    events: int = 0
    gone: int = 0
    deltas: list[Delta] = field(default_factory=list)
