"""The process that is killed: everything that owes the provider, sent to a sandbox on a real socket.

`money_child.py DATABASE SANDBOX NOW_US MODE`: its clock goes on from NOW_US; in mode `work` for ever, in mode `drain` until nothing waits.
"""

from __future__ import annotations

import os
import sys
import time

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.money import Money
from tollkeeper.services.clock import Clock
from tollkeeper.settings import Settings


def main(url: str, sandbox: str, now: int, mode: str) -> None:
    shift = now * 1000 - time.time_ns()
    app = Tollkeeper(url, clock=Clock(lambda: time.time_ns() + shift, time.monotonic_ns))
    money = Money(app, Settings.load({"STRIPE_SECRET_KEY": "sk_test_tests1234", "STRIPE_API_BASE": sandbox}))
    assert money.dispatcher is not None
    assert money.event_poll is not None
    assert money.inbox_effects is not None
    os.write(1, b"ready\n")
    while True:
        again = money.event_poll.run_once() | money.inbox_effects.run_once() | money.reports.run_once()
        again |= money.dispatcher.run_once()
        money.dispatcher._rest_until = 0
        with app.database.read() as rows:
            counts = rows.outbox.counts()
        if mode == "drain" and not again and not any(counts[s] for s in ("pending", "queued", "sending", "unknown")):
            break
    money.close()
    app.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
