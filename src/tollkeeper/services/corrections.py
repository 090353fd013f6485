"""Void and amend: tried first, then made in bounded batches, each of which commits with how far the whole is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tollkeeper.core.corrections import SHOWN_CHANGES, Action, Applied, Batch, Correction, Selection
from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import Conflict, InvalidRequest
from tollkeeper.core.ids import new_id
from tollkeeper.services.clock import Clock
from tollkeeper.services.corrections_plan import Calendar, Plan, Planner, Trail
from tollkeeper.services.corrections_reckon import reckon
from tollkeeper.services.gate import Gate
from tollkeeper.services.ingest import MAX_DATA
from tollkeeper.services.usage_values import Cells

BATCH = 100
"""Events of a transaction: the writer does nothing else meanwhile."""
AT_ONCE = 5_000
"""Events that are corrected before a request is answered; the runner, or the same request again, does the rest."""


class Writer(Protocol):
    """The usage file's writer. Both wait; they raise StorageUnavailable."""

    def seq_of(self, environment: int, source: str, id: str) -> int | None: ...

    def correct(self, batch: Batch) -> Applied: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A correction as it is asked for. `id` None: one is made. `data`: a JSON object, for amend alone."""

    action: Action
    environment: Environment
    selection: Selection
    reason: str
    author: str
    data: dict[str, Any] | None = None
    id: str | None = None


class Corrections:
    """One correction at a time. `canonical` encodes a JSON object as the log has it."""

    def __init__(
        self,
        gate: Gate,
        writer: Writer,
        trail: Trail,
        cells: Cells,
        canonical: Callable[[Any], str],
        calendar: Calendar,
        clock: Clock,
        *,
        retention_days: int = 400,
    ) -> None:
        self._gate = gate
        self._writer = writer
        self._trail = trail
        self._cells = cells
        self._canonical = canonical
        self._clock = clock
        self._planner = Planner(trail, writer.seq_of, calendar, clock.now_us, retention_days * 86_400_000_000)
        self._lock = threading.Lock()
        self._begun: tuple[int, Plan] | None = None

    def preview(self, asked: Asked) -> Correction:
        """What it would change; `events` it would correct, `skipped` it would leave. Nothing is written.

        An id that was used before is answered with that correction. Raises what `correct` raises.
        """
        with self._lock:
            return self._known(asked) or self._reckoned(asked)[0]

    def correct(self, asked: Asked, most: int | None = None) -> Correction:
        """Make it, or go on with it: with `most`, that many events at most, to the next whole batch.

        The same id again changes nothing twice. Another one that was begun comes to its end first, so that corrections take effect in the
        order in which they were asked for. Raises NotFound, EventVoided, EventCompacted, Conflict (the id was used for another
        correction), InvalidRequest, TooLarge, StorageUnavailable; after the last, the same id goes on where it ended.
        """
        with self._lock:
            correction = self._known(asked)
            if correction is None:
                self._written(asked)  # refused before anything is gone on with
                while (begun := self._trail.open()) is not None:
                    self._go_on(begun, self._plan_of(begun), None)
                correction, plan = self._reckoned(asked)
                correction = self._go_on(correction, plan, most)
            elif correction.applied_at is None:
                correction = self._go_on(correction, self._plan_of(correction), most)
            return correction

    def run_once(self) -> bool:
        """Go on with what was begun and did not come to its end; true while more is left. A background step."""
        if self._trail.open() is None:
            return False
        with self._lock:
            correction = self._trail.open()
            if correction is not None:
                self._go_on(correction, self._plan_of(correction), BATCH)
        return self._trail.open() is not None

    def list(self, environment: Environment, before: int | None, limit: int) -> list[Correction]:
        """The trail, newest first, those whose number is below `before`."""
        return self._trail.corrections(environment, before, limit)

    def _known(self, asked: Asked) -> Correction | None:
        found = None if asked.id is None else self._trail.correction(asked.id)
        if found is not None and found.asked != self._written(asked).asked:
            raise Conflict(f"Correction {found.id!r} was another one. Use a new id.")
        return found

    def _written(self, asked: Asked) -> Correction:
        if (asked.data is None) is not (asked.action == "void"):
            raise InvalidRequest("data: amend needs it, void takes none.", field="data")
        text = None if asked.data is None else self._canonical(asked.data)
        if text is not None and len(text) > MAX_DATA:
            raise InvalidRequest(f"data: {len(text)} bytes; at most {MAX_DATA} are kept.", field="data")
        now = self._clock.now_us()
        id = asked.id or new_id("cor", now // 1000, self._clock.random_bits(80))
        return Correction(id, asked.action, asked.environment, asked.selection, text, asked.reason, asked.author, now)

    def _reckoned(self, asked: Asked) -> tuple[Correction, Plan]:
        written = self._written(asked)
        plan = self._planner.plan(written)
        changes = tuple(reckon(self._cells, self._trail, plan))
        events, skipped = len(plan.changes), len(plan.skipped)
        return replace(written, upto=plan.upto, changes=changes, events=events, skipped=skipped), plan

    def _plan_of(self, correction: Correction) -> Plan:
        if self._begun is not None and self._begun[0] == correction.number:
            return self._begun[1]
        return self._planner.resume(correction)

    def _go_on(self, correction: Correction, plan: Plan, most: int | None) -> Correction:
        """Raises with what was committed before, which stays."""
        self._begun = None  # a plan that failed half way is not gone on with
        done = 0
        while True:
            correction, finished = self._batch(correction, plan)
            done += BATCH
            if finished:
                break
            if most is not None and done >= most:
                self._begun = (correction.number, plan)
                break
        recorded = self._trail.correction(correction.id)
        assert recorded is not None
        return recorded

    def _batch(self, correction: Correction, plan: Plan) -> tuple[Correction, bool]:
        self._planner.catch_up(plan)
        changes = plan.changes[plan.next : plan.next + BATCH]
        finished = plan.next + len(changes) == len(plan.changes)
        position = plan.upto if finished else changes[-1].event.seq
        batch = Batch(
            replace(correction, changes=correction.changes[:SHOWN_CHANGES]),
            changes,
            plan.skipped_in(correction.position, position),
            position,
            finished,
            plan.neighbours,
            plan.scanned,
            plan.folding.neighbour,
        )
        number = correction.number

        def commit() -> list[tuple[str, int, int, int]]:
            nonlocal number
            applied = self._writer.correct(batch)
            number = applied.number
            return [(self._trail.name(one.customer), one.meter, one.cell, one.billionths) for one in applied.deltas]

        self._gate.correct(plan.environment, commit)
        plan.made(changes)
        return replace(correction, number=number, position=position), finished
