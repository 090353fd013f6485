from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from tollkeeper.services.runner import LONGEST_BACKOFF, Runner, Step

from .clocks import START_US, ManualClock


def counting(answers: list[bool | Exception]) -> tuple[Callable[[], bool], list[int]]:
    calls: list[int] = []

    def run_once() -> bool:
        calls.append(len(calls))
        answer = answers.pop(0) if answers else False
        if isinstance(answer, Exception):
            raise answer
        return answer

    return run_once, calls


def test_a_step_is_first_due_after_its_interval_or_a_minute_and_at_once_where_that_matters() -> None:
    ran = {name: threading.Event() for name in ("now", "soon")}
    now = Step("now", lambda: bool(ran["now"].set()), every=300, at_start=True)
    soon = Step("soon", lambda: bool(ran["soon"].set()), every=300)
    runner = Runner([soon, now], ManualClock().clock)
    runner.start()
    assert ran["now"].wait(10)
    runner.stop()
    assert not ran["soon"].is_set()


def test_a_step_runs_when_due_and_again_at_once_while_it_says_so() -> None:
    manual = ManualClock()
    run_once, calls = counting([True, True, False])
    step = Step("sweep", run_once, every=60)
    runner = Runner([step], manual.clock)
    assert [runner.turn() for _ in range(4)] == [0.0, 0.0, 60.0, 60.0]
    assert len(calls) == step.runs == 3
    manual.advance(59.9)
    runner.turn()
    assert step.runs == 3
    manual.advance(0.1)
    assert runner.turn() == 60.0
    assert (step.runs, step.failures, step.succeeded_at) == (4, 0, START_US + 60_000_000)


def test_a_failing_step_is_counted_logged_and_tried_later_and_later(caplog: pytest.LogCaptureFixture) -> None:
    manual = ManualClock()
    run_once, _ = counting([OSError("disk")] * 8)
    step = Step("touch", run_once, every=10)
    runner = Runner([step], manual.clock)
    waits = []
    for _ in range(8):
        waits.append(runner.turn())
        manual.advance(waits[-1])
    assert waits == [10, 20, 40, 80, 160, LONGEST_BACKOFF, LONGEST_BACKOFF, LONGEST_BACKOFF]
    assert (step.failures, step.succeeded_at) == (8, None)
    assert runner.turn() == 10.0  # it works again: back to its interval
    assert step.failures_in_a_row == 0
    assert "background step touch failed" in caplog.text


def test_a_failing_step_and_a_busy_one_leave_room_for_the_others() -> None:
    manual = ManualClock()
    busy, busy_calls = counting([True] * 100)
    broken, _ = counting([ValueError()] * 100)
    calm, calm_calls = counting([])
    runner = Runner([Step("busy", busy, 1), Step("broken", broken, 1), Step("calm", calm, 1)], manual.clock)
    for _ in range(100):
        runner.turn()
        manual.advance(0.25)
    assert len(calm_calls) >= 15
    assert len(busy_calls) >= 15


def test_the_interval_varies_by_a_tenth_so_that_processes_drift_apart() -> None:
    manual = ManualClock()
    waits = []
    for bits in (0, 2**32 - 1):
        clock = type(manual.clock)(manual.clock.now_ns, manual.clock.steady_ns, lambda _, bits=bits: bits)
        waits.append(Runner([Step("a", lambda: False, 100)], clock).turn())
    assert waits == [pytest.approx(90), pytest.approx(110)]


def test_stop_ends_the_thread_without_waiting_for_the_next_run() -> None:
    ran = threading.Event()
    step = Step("once", lambda: bool(ran.set()), every=0.0)
    runner = Runner([step], type(ManualClock().clock)())
    runner.start()
    assert ran.wait(10)
    step.every = 1e9
    runner.stop()
    assert "runner" not in {thread.name for thread in threading.enumerate()}


def test_a_step_that_will_not_end_does_not_hold_up_the_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tollkeeper.services.runner.STOP_SECONDS", 0.01)
    entered, leave = threading.Event(), threading.Event()

    def run_once() -> bool:
        entered.set()
        return not leave.wait(30)

    runner = Runner([Step("stuck", run_once, every=0.0)], type(ManualClock().clock)())
    runner.start()
    assert entered.wait(10)
    with caplog.at_level(logging.WARNING):
        runner.stop()
    assert "still running" in caplog.text
    leave.set()
