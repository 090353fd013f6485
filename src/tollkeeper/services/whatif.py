"""What plans would have made of the calls in access logs: every call judged by every plan, as the gate would have, caller by caller.

Limits and hard quotas are judged by `core.gate.decide` at the log's own times; usage is kept by caller and month, exactly.
`services.whatif_report` turns it into money. Memory is bounded: `most_cells` caller-months are kept apart, some 2 kB each with three
plans; what comes beyond them is counted as a whole (`others`), and is in no amount.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final, Literal

from tollkeeper.core.accesslog import Hit, Parse, target_of
from tollkeeper.core.accesslog_callers import BYS, By, identity, label, reader
from tollkeeper.core.accesslog_json import HIDDEN
from tollkeeper.core.gate import Allowance, Bucket, decide
from tollkeeper.core.metering import NANOS, Meter
from tollkeeper.core.periods import CELL_US, SECOND_US, find_zone, period_at
from tollkeeper.core.plans import Plan

EARLIEST_US: Final = 788_918_400 * SECOND_US  # 1995: the common log format is that old
LATE_US: Final = 300 * SECOND_US
SAMPLE: Final = 1000  # calls after which the grouping is chosen,
SAMPLE_LINES: Final = 50_000  # or lines, when few of them are calls
EXAMPLES: Final = 3
MOST_CELLS: Final = 200_000

# A cell, a list of integers: all calls, calls that count, and for each plan:
CALLS, COUNTABLE, FIRST = 0, 1, 2
USED, BY_LIMIT, BY_QUOTA, WIDTH = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the logs. `by` None: chosen by what the first calls carry. `zone`: IANA name; months are its calendar's.

    `latest_us`: a call later than this has a time that cannot be. `salt`: random bytes that digests of keys are made with.
    `paths`: only targets at or below one of them; `free_paths`: none at or below these. `parameters`: of the query, that may bear a key.
    """

    plans: tuple[Plan, ...]
    meter: Meter
    zone: str
    latest_us: int
    salt: bytes
    by: By | None = None
    count_on: Literal["attempt", "success"] = "success"
    parameters: tuple[str, ...] = ("api_key",)
    paths: tuple[str, ...] = ()
    free_paths: tuple[str, ...] = ()
    most_cells: int = MOST_CELLS


class Caller:
    """One caller: its label, its cells by the month's start (µs), and the GCRA numbers of each plan's limits."""

    __slots__ = ("cells", "label", "last", "tats")

    def __init__(self, label: str, tats: list[list[int]]) -> None:
        self.label = label
        self.cells: dict[int, list[int]] = {}
        self.tats = tats
        self.last = 0


@dataclass(slots=True)
class Skipped:
    """Lines that were no calls, for one reason. `examples`: file and line number, never what stands there."""

    count: int = 0
    examples: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class Others:
    """Calls and calls that count of callers who came after the memory's bound was reached."""

    calls: int = 0
    countable: int = 0


class _Terms:
    """A plan's limits and quota. The buckets are shared by all callers: their numbers are put in before each judgement."""

    __slots__ = ("allowance", "buckets", "judges")

    def __init__(self, plan: Plan, meter: str) -> None:
        limits = [limit for limit in plan.limits if limit.meter in (None, meter)]
        quota = plan.quota(meter)
        self.buckets = [Bucket(one.name, one.limit, one.window_seconds, one.meter is not None) for one in limits]
        self.allowance = Allowance(meter, quota.limit, quota.kind == "hard") if quota else None
        self.judges = bool(self.buckets) or (quota is not None and quota.kind == "hard")


class WhatIf:
    """Reads lines of logs and keeps what they come to. `feed` each batch, then `finish`, then read the attributes."""

    def __init__(self, question: Question, parse: Parse) -> None:
        self.question = question
        self.by: By | None = None
        self.chosen: tuple[int, int] | None = (
            None  # of the first calls: how many carry what they are grouped by, how many there were
        )
        self.lines = 0
        self.skipped: dict[str, Skipped] = {}
        self.filtered = 0
        self.calls = 0
        self.countable = 0
        self.nobody = 0
        self.hidden = 0
        self.late = 0
        self.others = Others()
        self.callers: dict[bytes | str, Caller] = {}
        self.cells = 0
        self.days: dict[str, list[int]] = {}  # "2026-11-21" -> [calls, calls that count]
        self.first: int | None = None
        self.last: int | None = None
        self.whole_seconds = True
        self._parse = parse
        self._terms = [_Terms(plan, question.meter.key) for plan in question.plans]
        self._where = _calendar(question.zone)
        self._waiting: list[Hit] = []
        self._name: Callable[[Hit], str] = lambda hit: ""
        if question.by is not None:
            self._group_by(question.by)

    def feed(self, file: str, number: int, lines: Sequence[str | None]) -> None:
        """Lines of `file` from line `number` (1 is the first) on; None is one that is too long to be kept."""
        self.lines += len(lines)
        parse, latest = self._parse, self.question.latest_us
        hits: list[Hit] = []
        keep = hits.append
        for i, line in enumerate(lines, number):
            if not line:
                if line is None:
                    self._skip("longer than a line may be", file, i)
                continue
            hit = parse(line)
            if isinstance(hit, str):
                self._skip(hit, file, i)
            elif EARLIEST_US <= hit.at < latest:
                keep(hit)
            else:
                self._skip("a time before 1995, or in the future", file, i)
        if self.question.paths or self.question.free_paths:
            found = [hit for hit in hits if self._asked(hit)]
            self.filtered += len(hits) - len(found)
            hits = found
        if self.by is not None:
            self._add(hits)
        else:
            self._waiting += hits
            if len(self._waiting) >= SAMPLE or (self._waiting and self.lines >= SAMPLE_LINES):
                self._choose()

    def finish(self) -> None:
        """All lines were fed."""
        if self.by is None:
            self._choose()

    def _skip(self, reason: str, file: str, number: int) -> None:
        skipped = self.skipped.setdefault(reason, Skipped())
        skipped.count += 1
        if len(skipped.examples) < EXAMPLES:
            skipped.examples.append((file, number))

    def _asked(self, hit: Hit) -> bool:
        path = target_of(hit.request).partition("?")[0]
        if any(_below(path, one) for one in self.question.free_paths):
            return False
        return not self.question.paths or any(_below(path, one) for one in self.question.paths)

    def _choose(self) -> None:
        """By key when half of the first calls carry one, else by user, else by network."""
        waiting, self._waiting = self._waiting, []
        sample = waiting[:SAMPLE]
        for by in BYS:
            name = reader(by, self.question.parameters)
            named = sum(1 for hit in sample if name(hit))
            if by == "network" or (sample and 2 * named >= len(sample)):
                self.chosen = named, len(sample)
                self._group_by(by)
                break
        self._add(waiting)

    def _group_by(self, by: By) -> None:
        self.by = by
        self._name = reader(by, self.question.parameters)

    def _add(self, hits: list[Hit]) -> None:
        name_of, where, by, salt = self._name, self._where, self.by or "network", self.question.salt
        attempts = self.question.count_on == "attempt"
        callers, days, most = self.callers, self.days, self.question.most_cells
        nothing = [0] * (FIRST + WIDTH * len(self._terms))
        for hit in hits:
            at = hit.at
            counts = 1 if attempts or 200 <= hit.status < 300 else 0
            self.calls += 1
            self.countable += counts
            month, day = where(at // CELL_US)
            if self.whole_seconds and at % SECOND_US:
                self.whole_seconds = False
            of_day = days.get(day)
            if of_day is None:
                of_day = days[day] = [0, 0]
            of_day[0] += 1
            of_day[1] += counts
            if self.first is None or at < self.first:
                self.first = at
            if self.last is None or at > self.last:
                self.last = at
            name = name_of(hit)
            if not name:
                self.nobody += 1
                self.hidden += hit.key == HIDDEN
                continue
            id = identity(by, name, salt)
            caller = callers.get(id)
            cell = None if caller is None else caller.cells.get(month)
            if caller is None or cell is None:
                if self.cells >= most:
                    self.others.calls += 1
                    self.others.countable += counts
                    continue
                self.cells += 1
                if caller is None:
                    caller = callers[id] = Caller(label(by, name, salt), self._full())
                cell = caller.cells[month] = nothing.copy()
            cell[CALLS] += 1
            cell[COUNTABLE] += counts
            if at >= caller.last:
                caller.last = at
            elif caller.last - at > LATE_US:  # not the order in which they came: the limits begin anew
                self.late += 1
                caller.last = at
                caller.tats = self._full()
            self._judge(caller, cell, caller.last * 1000, counts)

    def _judge(self, caller: Caller, cell: list[int], now: int, counts: int) -> None:
        """By every plan, as the gate would: what is admitted takes from the limits, and from the quota when it counts."""
        slot = FIRST
        for i, terms in enumerate(self._terms):
            if not terms.judges:
                cell[slot] += counts
            else:
                buckets = terms.buckets
                for bucket, tat in zip(buckets, caller.tats[i], strict=True):
                    bucket.tat = tat
                code, _, taken = decide(buckets, now, 1, terms.allowance, cell[slot] * NANOS, NANOS)
                if code == "VALID":
                    caller.tats[i] = taken
                    cell[slot] += counts
                elif code == "RATE_LIMITED":
                    cell[slot + BY_LIMIT] += 1
                else:
                    cell[slot + BY_QUOTA] += 1
            slot += WIDTH

    def _full(self) -> list[list[int]]:
        return [[0] * len(terms.buckets) for terms in self._terms]


def _below(path: str, above: str) -> bool:
    return path.startswith(above) and (len(path) == len(above) or above.endswith("/") or path[len(above)] == "/")


def _calendar(zone: str) -> Callable[[int], tuple[int, str]]:
    """From a quarter of an hour, counted from 1970, to its month's start (µs) and its day. Both begin on quarters since 1995."""
    rules: tzinfo = find_zone(zone)
    anchor = round(datetime(2000, 1, 1, tzinfo=rules).timestamp()) * SECOND_US

    @lru_cache(maxsize=8192)
    def where(quarter: int) -> tuple[int, str]:
        at = quarter * CELL_US
        return period_at(anchor, zone, at)[0], datetime.fromtimestamp(at // SECOND_US, rules).date().isoformat()

    return where


def today_latest(now: datetime) -> int:
    """The bound for times in the future: a day after `now`, since clocks differ."""
    return (round(now.astimezone(UTC).timestamp()) + 86_400) * SECOND_US
