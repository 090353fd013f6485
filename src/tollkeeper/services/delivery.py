"""Usage brought to the provider before a period is ended at once, so that the invoice which that makes has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from tollkeeper.core.customers import Environment
from tollkeeper.core.ports import Database
from tollkeeper.core.provider import ProviderUnavailable
from tollkeeper.services.clock import Clock
from tollkeeper.services.reports import Reports

WAIT_SECONDS: Final = 20.0
PAUSE_SECONDS: Final = 0.05


class Sender(Protocol):
    """`services.dispatch.Dispatcher`."""

    def run_once(self) -> bool: ...


class Delivery:
    """`pause` lets time go by between two looks; whoever asks waits meanwhile."""

    def __init__(
        self,
        database: Database,
        reports: Reports,
        sender: Sender,
        clock: Clock,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._reports = reports
        self._sender = sender
        self._clock = clock
        self._pause = pause

    def before_cut(self, environment: Environment, customer: str, followed: bool = False) -> None:
        """Report all usage of the running periods and wait until the provider has it. `followed`: as in `Reports.flush`.

        Raises ProviderUnavailable when it does not answer for 20 seconds: then nothing is to be cut, since usage would be missing from
        the last invoice.
        """
        now = self._clock.now_us()
        with self._database.write() as rows:
            for period in rows.periods.overlapping(environment, [customer], now, now + 1):
                if now < period.end:
                    self._reports.flush(rows, environment, customer, period.start, cut=True, followed=followed)
        waited = 0.0
        while self._owed(environment, customer):
            if self._sender.run_once():
                continue
            if waited >= WAIT_SECONDS:
                raise ProviderUnavailable(
                    f"Usage of {customer} could not be delivered, so nothing was ended: its last invoice would lack it. Try again; "
                    "`tollkeeper outbox list` tells what waits."
                )
            self._pause(PAUSE_SECONDS)
            waited += PAUSE_SECONDS

    def _owed(self, environment: Environment, customer: str) -> bool:
        with self._database.read() as rows:
            return rows.outbox.owed(environment, customer)
