"""`Gate.check` in this process, with its usage event recorded: `python -m benchmarks.gate_worker FOLDER CALLS`.

Two ways. `durable`: the call returns after the commit, and the time inside the ticket's `wait` is taken off. `early`: the call
returns when the event is handed to the writer, whose thread runs beside it under the same interpreter lock.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from benchmarks.limiters import timed
from benchmarks.tollkeeper_server import CATALOG
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.services.submissions import Waited


class Waits:
    """How long threads waited for their commits, from now on."""

    def __init__(self) -> None:
        self.nanoseconds = 0
        wait = Waited.wait

        def timed_wait(submission: Waited) -> Any:
            start = perf_counter_ns()
            try:
                return wait(submission)
            finally:
                self.nanoseconds += perf_counter_ns() - start

        Waited.wait = timed_wait  # type: ignore[method-assign]


def durable(check: Callable[[], Any], waits: Waits, calls: int) -> dict[str, float]:
    """Median and p99 in µs of a check without its wait, and the median of the wait."""
    for _ in range(500):
        check()
    gc.collect()
    spent, waited = [0] * calls, [0] * calls
    for n in range(calls):
        waits.nanoseconds = 0
        start = perf_counter_ns()
        check()
        whole = perf_counter_ns() - start
        spent[n] = whole - waits.nanoseconds
        waited[n] = waits.nanoseconds
    spent.sort()
    waited.sort()
    return {
        "median_us": spent[calls // 2] / 1000,
        "p99_us": spent[calls * 99 // 100] / 1000,
        "wait_median_us": waited[calls // 2] / 1000,
    }


def main(folder: Path, calls: int) -> dict[str, Any]:
    with Tollkeeper(f"sqlite:///{folder / 'tollkeeper.db'}") as here:
        here.catalog.apply(CATALOG)
        keys = {}
        for plan in ("hard", "soft"):
            customer = here.customers.create(name=plan, plan=plan).customer.id
            keys[plan] = (customer, here.keys.create(customer=customer, environment="live", name="bench").key)
        waits = Waits()
        hard, soft = keys["hard"][1], keys["soft"][1]

        def wait_for_commit() -> None:
            if here.gate.check(hard, "api_calls").code != "VALID":
                raise RuntimeError("refused")

        def hand_over() -> None:
            if here.gate.check(soft, "api_calls", wait=False).code != "VALID":
                raise RuntimeError("refused")

        answer = {"durable": durable(wait_for_commit, waits, calls // 10), "early": timed(hand_over, calls)}
    with Tollkeeper(f"sqlite:///{folder / 'tollkeeper.db'}") as here:
        for plan, expected in (("hard", calls // 10 + 500), ("soft", calls + 2000)):
            if (total := int(here.usage.query("api_calls", customer=keys[plan][0]).total)) != expected:
                raise RuntimeError(f"{expected} checks were VALID, {total} are in the usage total")
    return answer


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
