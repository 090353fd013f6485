"""What reservations hold of quotas and limits, in memory, until it is used, given back, or lapses.

All of it happens under the gate's lock, so that a commit puts what was used in the place of what was held in one step: no check in
between sees the quota without either.
"""

from __future__ import annotations

import threading

from tollkeeper.core.events import LogRow
from tollkeeper.core.gate import Decision
from tollkeeper.core.limits import refund
from tollkeeper.core.metering import NANOS
from tollkeeper.services.snapshots import Account, MeterView, count_others, count_row

MOST = 1_000_000
"""Reservations held at once; beyond, the oldest lapses early."""


class Holds:
    """By the id of the reservation, the oldest first."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._held: dict[int, Decision] = {}
        self.lapsed = 0

    def __len__(self) -> int:
        return len(self._held)

    def keep(self, decision: Decision) -> None:
        """Hold what an admitted decision took."""
        with self._lock:
            self._held[decision.id] = decision
            if len(self._held) > MOST:
                self._lapse_oldest()

    def use(self, id: int, account: Account, row: LogRow, amount: int, steady: int) -> Decision | None:
        """Count `row` (`amount` billionths) in the place of what is held; gives the decision, None when nothing is held any more."""
        with self._lock:
            held = self._held.pop(id, None)
            count_row(account, row, 1)
            if held is not None:
                _count(held, -1)
                _weigh(held, _weight(held.amount) - _weight(amount), steady)
            return held

    def unuse(self, held: Decision | None, account: Account, row: LogRow) -> None:
        """The commit failed: as before. What a limit by weight took stays taken."""
        with self._lock:
            count_row(account, row, -1)
            if held is not None:
                _count(held, 1)
                self._held[held.id] = held

    def forget(self, id: int) -> bool:
        """Hold it no more, and give nothing back: whoever asks does. False when nothing is held any more."""
        with self._lock:
            return self._held.pop(id, None) is not None

    def release(self, id: int, steady: int) -> int:
        """Give back what is held: billionths, 0 when nothing is held any more. The request was made, so a limit by requests keeps it."""
        with self._lock:
            held = self._held.pop(id, None)
            if held is None:
                return 0
            _count(held, -1)
            _weigh(held, _weight(held.amount), steady)
            return held.amount

    def lapse(self, before_ms: int) -> int:
        """Give back what has been held since before an instant; how many."""
        lapsed = 0
        with self._lock:
            while self._held and next(iter(self._held)) >> 80 < before_ms:
                self._lapse_oldest()
                lapsed += 1
        return lapsed

    def _lapse_oldest(self) -> None:
        _count(self._held.pop(next(iter(self._held))), -1)
        self.lapsed += 1


def _weight(amount: int) -> int:
    return -(-amount // NANOS)


def _count(held: Decision, sign: int) -> None:
    """Take (1) or give back (-1) in the period that admitted it; another period does not know of it."""
    view = held.terms
    assert isinstance(view, MeterView)
    if held.amount and held.resets_at == view.account.end:
        view.total.used += sign * held.amount
        count_others(view, held.amount, sign)


def _weigh(held: Decision, back: int, steady: int) -> None:
    """Give a limit by weight back what was not used; what was used beyond is owed (negative)."""
    for bucket in held.terms.buckets:
        if bucket.weighted and back:
            spent = bucket.interval * back
            bucket.tat = refund(bucket.tat, steady, spent) if back > 0 else max(bucket.tat, steady) - spent
