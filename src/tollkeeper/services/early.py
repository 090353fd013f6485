"""A check that was answered before its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.events import LogRow, Outcome
from tollkeeper.core.gate import Decision

if TYPE_CHECKING:
    from tollkeeper.services.gate import Gate


class Early:
    """A submission that nobody waits for. What the log then refuses, or knows already, is given back and counted."""

    __slots__ = ("_decision", "_gate", "error", "outcomes", "rows")

    loop = None
    early = True

    def __init__(self, gate: Gate, decision: Decision, rows: tuple[LogRow]) -> None:
        self._gate = gate
        self._decision = decision
        self.rows = rows
        self.outcomes: list[Outcome] | None = None
        self.error: TollkeeperError | None = None

    def done(self) -> None:
        if self.error is not None:
            self._gate.early_lost += 1
            self._gate.refund(self._decision)
        elif self.outcomes is not None and self.outcomes[0].status != "accepted":
            self._gate.early_repeated += 1
            self._gate.refund(self._decision)
