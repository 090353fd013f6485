"""The process that is killed: checks and events under load, each acknowledgement written to standard output before the next request.

Lines: `c EVENT_ID` a check that was answered VALID; `e NUMBER` an event answered accepted or duplicate.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import uuid

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.events import UsageEvent
from tollkeeper.storage.sql.usage.random_ids import RandomIds


def event_id(number: int) -> str:
    """The same number gives the same id: of each kind in turn."""
    kind = number % 3
    if kind == 0:
        return f"order-{number}"
    value = uuid.uuid5(uuid.NAMESPACE_URL, str(number)).int
    if kind == 1:
        return str(uuid.UUID(int=value, version=4))
    return str(uuid.UUID(int=(1_790_000_000_000 + number) << 80 | 7 << 76 | 2 << 62 | (value & (1 << 62) - 1)))


def main(url: str, customer: str, key: str, seed: int) -> None:
    RandomIds.__init__.__kwdefaults__["flush_at"] = 512  # type: ignore[index]  # so that runs are flushed and merged all the time
    app = Tollkeeper(url)
    os.write(1, b"ready\n")

    def checks() -> None:
        while True:
            decision = app.gate.check(key, "api_calls")
            os.write(1, f"c {decision.event_id}\n".encode())

    def events(chance: random.Random) -> None:
        while True:
            numbers = [chance.randrange(200_000) for _ in range(chance.choice((1, 5, 40)))]
            batch = [
                UsageEvent(event_id(n), "llm.completion", customer=customer, data={"tokens": n % 7}) for n in numbers
            ]
            results = app.ingest.ingest_wait("live", batch)
            lines = [f"e {n}\n" for n, r in zip(numbers, results, strict=True) if r.status in ("accepted", "duplicate")]
            assert len(lines) == len(numbers), results
            os.write(1, "".join(lines).encode())

    for target in (checks, checks):
        threading.Thread(target=target, daemon=True).start()
    for i in range(4):
        threading.Thread(target=events, args=(random.Random(seed * 10 + i),), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
