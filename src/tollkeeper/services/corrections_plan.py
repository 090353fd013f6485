"""What a correction is going to change: its events, what each comes to, and those beside them that may hold a value in their place."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from tollkeeper.core.aggregation import KEPT
from tollkeeper.core.corrections import (
    Change,
    Correction,
    EventCompacted,
    EventVoided,
    Neighbour,
    Part,
    Place,
    Quarter,
    Selection,
    Stored,
)
from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import NotFound, TooLarge
from tollkeeper.core.events import GATE_SOURCE, VOID
from tollkeeper.core.gate import instant
from tollkeeper.core.ids import ulid_value
from tollkeeper.core.metering import Meter
from tollkeeper.core.periods import CELL_US, cell_start, period_at
from tollkeeper.services.meters import ExtraEntry, MeterEntry, entry_of

MOST_EVENTS = 100_000
MOST_NEIGHBOURS = 1_000_000
EARLY_US = 25 * 3_600_000_000
"""How long before its time an event may have arrived: five minutes, and a day by which the clock may have been set back."""

Calendar = Callable[[Environment, str], "tuple[int, str, str] | None"]
"""(environment, customer) → anchor (µs) and zone of its periods, and the zone of its days; None when there is no such customer."""


class Trail(Protocol):
    """What the usage file answers."""

    def number(self, kind: str, name: str) -> int | None: ...
    def name(self, number: int) -> str: ...
    def meter_spans(self) -> list[tuple[int, Meter, int, int | None]]: ...
    def correction(self, id: str) -> Correction | None: ...
    def open(self) -> Correction | None: ...
    def corrections(self, environment: str, before: int | None, limit: int) -> list[Correction]: ...
    def correction_of(self, seq: int) -> str | None: ...
    def info(self) -> dict[str, str]: ...
    def last_seq(self) -> int: ...
    def event(self, seq: int) -> Stored | None: ...
    def gate_event(self, environment: int, id: bytes, time: int) -> int | None: ...
    def first_arrived(self, instant: int) -> int: ...
    def scan(
        self, environment: int, after: int, upto: int, start: int, end: int, customer: int | None, type: int | None
    ) -> Iterator[Stored]: ...
    def holds(self, event: Stored, meters: Sequence[int]) -> bool: ...
    def value_events(
        self, environment: int, customer: int, meters: Sequence[int], start_s: int, end_s: int, values: Sequence[str]
    ) -> dict[str, int]: ...


class Folding:
    """What events come to on the meters they were judged by, whatever the catalog has become."""

    def __init__(self, trail: Trail, calendar: Calendar, environment: Environment) -> None:
        self._name = trail.name
        self.spans = trail.meter_spans()
        self._calendar = calendar
        self._environment = environment
        self._entries: dict[tuple[int, int], tuple[MeterEntry, ...]] = {}
        self._anchors: dict[int, tuple[int, str]] = {}
        self._periods: dict[int, tuple[int, int]] = {}

    def entries(self, event: Stored) -> tuple[MeterEntry, ...]:
        where = (event.epoch, event.type)
        found = self._entries.get(where)
        if found is None:
            type = self._name(event.type)
            found = self._entries[where] = tuple(
                entry_of(number, meter)
                for number, meter, since, until in self.spans
                if meter.event_type == type and since <= event.epoch and (until is None or event.epoch < until)
            )
        return found

    def kept(self, event: Stored) -> list[int]:
        """Numbers of the meters of its type that keep a value."""
        return [entry.number for entry in self.entries(event) if entry.meter.aggregation in KEPT]

    def parts(self, event: Stored, text: str | None) -> tuple[Part, ...]:
        """What it comes to with this data. Raises QuantityInvalid, ValueInvalid."""
        data: dict[str, Any] | None = None if text is None else json.loads(text, parse_float=Decimal)
        found: list[Part] = []
        for entry in self.entries(event):
            value = entry.fold(event.quantity, data)
            if value is None:
                continue
            aggregation = entry.meter.aggregation
            if isinstance(entry, ExtraEntry) and entry.extra:
                more = entry.more(event.quantity, data)
                assert more is not None
                found.append(Part(entry.number, aggregation, *more))
            else:
                found.append(Part(entry.number, aggregation, *value, None, None))
        return tuple(found)

    def place(self, event: Stored) -> Place:
        period = self._periods.get(event.customer)
        if period is None or not period[0] <= event.time < period[1]:
            anchor = self._anchors.get(event.customer)
            if anchor is None:
                known = self._calendar(self._environment, self._name(event.customer))
                anchor = self._anchors[event.customer] = (0, "UTC") if known is None else known[:2]
            period = self._periods[event.customer] = period_at(*anchor, event.time)
        start, end = period
        return Place(cell_start(event.time, start) // 1_000_000, start // 1_000_000, end // 1_000_000)

    def neighbour(self, event: Stored) -> Neighbour:
        parts = tuple(part for part in self.parts(event, event.data) if part.aggregation in KEPT)
        return Neighbour(event, self.place(event), parts)


@dataclass(slots=True)
class Plan:
    """`skipped`: sequences of events that are left as they are. `next`: the first of `changes` that is not made yet.

    `neighbours` None: no value that stays is held by one of the events.
    """

    folding: Folding
    environment: Environment
    upto: int
    changes: list[Change] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    neighbours: dict[Quarter, list[Neighbour]] | None = None
    scanned: int = 0
    span: tuple[int, int] = (0, 0)
    customer: int | None = None
    type: int | None = None
    next: int = 0

    def skipped_in(self, after: int, upto: int) -> int:
        return bisect_right(self.skipped, upto) - bisect_right(self.skipped, after)

    def made(self, changes: Sequence[Change]) -> None:
        """These were committed."""
        self.next += len(changes)
        if self.neighbours is None:
            return
        made = {change.event.seq: change for change in changes}
        for quarter in {(change.event.customer, change.event.quarter) for change in changes}:
            kept: list[Neighbour] = []
            for one in self.neighbours.get(quarter, ()):
                change = made.get(one.event.seq)
                parts = one.parts if change is None else change.new
                kept.append(one._replace(parts=tuple(part for part in parts if part.aggregation in KEPT)))
            self.neighbours[quarter] = [one for one in kept if one.parts]


class Planner:
    """Reads only. `find(environment, source, id)` gives the sequence of an event from outside."""

    def __init__(
        self,
        trail: Trail,
        find: Callable[[int, str, str], int | None],
        calendar: Calendar,
        now_us: Callable[[], int],
        retention_us: int,
    ) -> None:
        self._trail = trail
        self._find = find
        self._calendar = calendar
        self._now_us = now_us
        self._retention_us = retention_us

    def plan(self, correction: Correction) -> Plan:
        """For a correction that is asked for. Raises NotFound, EventVoided, EventCompacted, QuantityInvalid, ValueInvalid, TooLarge."""
        selection = correction.selection
        if selection.id is not None:
            return self._one(correction, self._seq(correction.environment, selection))
        start = selection.start - selection.start % CELL_US
        compacted = self._compacted()
        if start <= compacted:
            earliest = compacted - compacted % CELL_US + CELL_US
            raise EventCompacted(f"range.from: single events are kept from {instant(earliest)} on.", field="range.from")
        if selection.meter is not None and all(m.key != selection.meter for _, m, _, _ in self._trail.meter_spans()):
            raise NotFound(f"There is no meter {selection.meter!r}.")
        return self._range(correction, self._trail.last_seq())

    def resume(self, correction: Correction) -> Plan:
        """What is left of one that was begun. Events that retention removed meanwhile are passed over."""
        if correction.selection.id is None:
            return self._range(correction, correction.upto)
        return Plan(
            self._folding(correction), _environment(correction), correction.upto
        )  # one event is one transaction

    def catch_up(self, plan: Plan) -> None:
        """The neighbours that arrived since."""
        if plan.neighbours is None:
            return
        upto = self._trail.last_seq()
        for event in self._scan(plan, plan.scanned, upto):
            self._add_neighbour(plan, event)
        plan.scanned = upto

    def _compacted(self) -> int:
        """The last instant of which single events may be missing: removed, or about to be."""
        known = self._trail.info().get("compacted_until")
        kept_since = self._now_us() - self._retention_us
        return kept_since if known is None else max(int(known), kept_since)

    def _folding(self, correction: Correction) -> Folding:
        return Folding(self._trail, self._calendar, _environment(correction))

    def _seq(self, environment: str, selection: Selection) -> int:
        source, id = str(selection.source), str(selection.id)
        flag = int(environment == "test")
        if source == GATE_SOURCE:
            number = ulid_value(id.removeprefix("evt_"))
            if number is not None and id.startswith("evt_"):
                time = (number >> 80) * 1000
                seq = self._trail.gate_event(flag, number.to_bytes(16, "big"), time)
                if seq is None and time <= self._compacted():
                    raise EventCompacted(f"Event {id!r} is older than what is kept.")
            else:
                seq = None
        else:
            seq = self._find(flag, source, id)
        if seq is None:
            raise NotFound(f"There is no {environment} event with the id {id[:80]!r} from {source[:80]!r}.")
        return seq

    def _one(self, correction: Correction, seq: int) -> Plan:
        event = self._trail.event(seq)
        id = str(correction.selection.id)
        if event is None or event.quarter * 1_000_000 <= self._compacted():
            raise EventCompacted(f"Event {id[:80]!r} is older than what is kept.")
        if event.correction == VOID:
            by = self._trail.correction_of(seq)
            raise EventVoided(
                f"Event {id[:80]!r} was voided by correction {by}. What it should count is sent as a new event."
            )
        folding = self._folding(correction)
        plan = Plan(folding, _environment(correction), self._trail.last_seq())
        if correction.data is not None and correction.data == event.data:
            plan.skipped.append(seq)
            return plan
        plan.changes.append(self._change(folding, event, correction))
        if self._trail.holds(event, folding.kept(event)):
            start = event.quarter * 1_000_000
            plan.span = (start, start + CELL_US)
            plan.customer, plan.type = event.customer, event.type
            plan.neighbours = {}
            plan.scanned = self._first(start)
            self.catch_up(plan)
        return plan

    def _range(self, correction: Correction, upto: int) -> Plan:
        selection = correction.selection
        folding = self._folding(correction)
        start, end = selection.start - selection.start % CELL_US, selection.end + -selection.end % CELL_US
        plan = Plan(folding, _environment(correction), upto, neighbours={}, span=(start, end))
        numbers: dict[str, int | None] = {}
        for kind, name in (
            ("c", selection.customer),
            ("t", selection.type),
            ("u", selection.subject),
            ("s", selection.source),
        ):
            numbers[kind] = None if name is None else self._trail.number(kind, name)
            if name is not None and numbers[kind] is None:
                return plan  # no event has it
        plan.customer, plan.type = numbers["c"], numbers["t"]
        counted = {number for number, meter, _, _ in folding.spans if meter.key == selection.meter}
        scanned = self._trail.last_seq()
        for event in self._scan(plan, self._first(start), scanned):
            wanted = (
                selection.start <= event.time < selection.end
                and correction.position < event.seq <= upto
                and numbers["u"] in (None, event.subject)
                and numbers["s"] in (None, event.source)
            )
            if event.correction == VOID:
                if wanted and selection.meter is None:
                    plan.skipped.append(event.seq)
                continue
            if wanted:
                self._choose(plan, event, correction, counted)
            self._add_neighbour(plan, event)
        plan.scanned = scanned
        if not any(part.aggregation in KEPT for change in plan.changes for part in change.old):
            plan.neighbours = None
        return plan

    def _choose(self, plan: Plan, event: Stored, correction: Correction, counted: set[int]) -> None:
        change = self._change(plan.folding, event, correction)
        if correction.selection.meter is not None and all(part.meter not in counted for part in change.old):
            return
        if correction.data is not None and correction.data == event.data:
            plan.skipped.append(event.seq)
            return
        if len(plan.changes) >= MOST_EVENTS:
            raise TooLarge(f"The range has more than {MOST_EVENTS:,} events; correct it in parts.")
        plan.changes.append(change)

    def _change(self, folding: Folding, event: Stored, correction: Correction) -> Change:
        new = () if correction.data is None else folding.parts(event, correction.data)
        return Change(event, folding.place(event), folding.parts(event, event.data), new)

    def _add_neighbour(self, plan: Plan, event: Stored) -> None:
        if plan.neighbours is None or event.correction == VOID or not plan.folding.kept(event):
            return
        beside = plan.neighbours.setdefault((event.customer, event.quarter), [])
        beside.append(plan.folding.neighbour(event))
        if len(beside) > MOST_NEIGHBOURS:
            raise TooLarge(f"A quarter of an hour has more than {MOST_NEIGHBOURS:,} events beside those to correct.")

    def _first(self, start: int) -> int:
        """The sequence after which events with a time from `start` on may stand."""
        return self._trail.first_arrived(start - EARLY_US) - 1

    def _scan(self, plan: Plan, after: int, upto: int) -> Iterator[Stored]:
        flag = int(plan.environment == "test")
        return self._trail.scan(flag, after, upto, *plan.span, plan.customer, plan.type)


def _environment(correction: Correction) -> Environment:
    return "test" if correction.environment == "test" else "live"
