"""The process that is killed: usage, reports and sending, against a sandbox on a real socket.

`sender_child.py DATABASE SANDBOX OFFSET_SECONDS SEED MODE`: in mode `work` for ever, in mode `drain` until nothing waits.
"""

from __future__ import annotations

import os
import random
import sys
import time

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.outbox import METER_EVENT
from tollkeeper.integrations.stripe.account import StripeAccount
from tollkeeper.integrations.stripe.client import Calls
from tollkeeper.services.clock import Clock
from tollkeeper.services.dispatch import Dispatcher
from tollkeeper.services.reports import Reports
from tollkeeper.services.topics import MeterEvents


def main(url: str, sandbox: str, offset: int, seed: int, mode: str) -> None:
    shift = offset * 1_000_000_000
    clock = Clock(lambda: time.time_ns() + shift, time.monotonic_ns)
    chance = random.Random(seed)
    app = Tollkeeper(url, clock=clock)
    provider = StripeAccount(Calls("sk_test_tests1234", sandbox), lambda: None)
    reports = Reports(
        app.database, app.usage, app.usage_file.reader, app.usage_file.cuts, clock, (provider.name, "test")
    )
    topic = MeterEvents(app.database, provider, app.database.pair_id, lag_us=0)
    dispatcher = Dispatcher(app.database, {METER_EVENT: topic}, "test", clock, threads=3, batch=7)
    with app.database.read() as rows:
        customers = [customer.id for customer in rows.customers.list(None, 100)]
    os.write(1, b"ready\n")
    number = 0
    while mode == "work":
        for _ in range(chance.randrange(1, 20)):
            number += 1
            event = UsageEvent(
                f"{seed}-{number}",
                "llm.completion",
                "t",
                customer=chance.choice(customers),
                data={"tokens": chance.choice((1, 5, -2, "0.25"))},
            )
            app.ingest.ingest_wait("test", [event])
        reports.run_once()
        dispatcher.run_once()
    while True:
        with app.database.read() as rows:
            counts = rows.outbox.counts()
        waiting = counts["pending"] + counts["queued"] + counts["sending"] + counts["unknown"]
        if not reports.run_once() and not waiting:
            break
        dispatcher.run_once()
        dispatcher._rest_until = 0
    dispatcher.close()
    app.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
