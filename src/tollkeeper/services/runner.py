"""Background work: steps that each do a bounded piece and say whether more is due, driven by one thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from tollkeeper.services.clock import Clock

logger = logging.getLogger("tollkeeper.runner")

LONGEST_BACKOFF = 300.0
FIRST_SECONDS = 60.0
STOP_SECONDS = 1.0


class Step:
    """`run_once()` works for a fraction of a second at most; true: come back in `again_after` seconds, false: in `every`.

    `at_start`: due as soon as the runner starts, for what must not be put off by a process that is started for moments only.
    """

    __slots__ = (
        "again_after",
        "at_start",
        "due",
        "every",
        "failures",
        "failures_in_a_row",
        "name",
        "run_once",
        "runs",
        "succeeded_at",
    )

    def __init__(
        self,
        name: str,
        run_once: Callable[[], bool],
        every: float,
        again_after: float = 0.0,
        *,
        at_start: bool = False,
    ) -> None:
        self.name = name
        self.run_once = run_once
        self.every = every
        self.again_after = again_after
        self.at_start = at_start
        self.due = 0.0
        self.runs = 0
        self.failures = 0
        self.failures_in_a_row = 0
        self.succeeded_at: int | None = None


class Runner:
    """Runs each step when it is due, give or take a tenth, the longest overdue first.

    A step that raises is logged, counted, and tried again later: after its interval, then twice that, up to five minutes or
    the interval itself, whichever is longer. It never holds up the others.
    """

    def __init__(self, steps: Sequence[Step], clock: Clock) -> None:
        self.steps = tuple(steps)
        self._clock = clock
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Drive the steps on a thread of this process until `stop`; each is first due after its interval, or a minute, or at once."""
        now = self._now()
        for step in self.steps:
            step.due = now + (0.0 if step.at_start else self._jittered(min(step.every, FIRST_SECONDS)))
        self._thread = threading.Thread(target=self._run, name="runner", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin no further step and wait for the one under way, at most a second."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                logger.warning("a background step is still running; leaving without it")

    def wake(self) -> None:
        """Make every step due now; from any thread."""
        self._wake.set()

    def turn(self) -> float:
        """Run the step that is due, if one is; the seconds until the next is."""
        now = self._now()
        step = min(self.steps, key=lambda step: step.due)
        if step.due <= now:
            self._run_step(step)
        return max(0.0, min(step.due for step in self.steps) - self._now())

    def _run(self) -> None:
        while self.steps and not self._stopping.is_set():
            if self._wake.wait(self.turn()):
                self._wake.clear()
                for step in self.steps:
                    step.due = 0.0

    def _run_step(self, step: Step) -> None:
        step.runs += 1
        try:
            again = step.run_once()
        except Exception as error:
            step.failures += 1
            step.failures_in_a_row += 1
            doublings = min(step.failures_in_a_row - 1, 16)
            wait = min(step.every * 2**doublings, max(step.every, LONGEST_BACKOFF))
            step.due = self._now() + self._jittered(wait)
            logger.error("background step %s failed", step.name, exc_info=error, extra={"step": step.name})
            return
        step.failures_in_a_row = 0
        step.succeeded_at = self._clock.now_us()
        step.due = self._now() + (step.again_after if again else self._jittered(step.every))

    def _now(self) -> float:
        return self._clock.steady_ns() / 1e9

    def _jittered(self, seconds: float) -> float:
        """Between 0.9 and 1.1 of it, so that many processes started together drift apart."""
        return seconds * (0.9 + 0.2 * self._clock.random_bits(32) / 2**32)
