"""The process that is killed: a range is corrected in small batches while events go on coming."""

from __future__ import annotations

import os
import sys
import threading

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.corrections import Selection
from tollkeeper.core.events import UsageEvent
from tollkeeper.services import corrections
from tollkeeper.services.corrections import Asked


def main(url: str, start: int, end: int, id: str) -> None:
    corrections.BATCH = 3
    app = Tollkeeper(url)
    os.write(1, b"ready\n")

    def ingest() -> None:
        number = 0
        while True:
            number += 1
            events = [UsageEvent(f"{id}-{number}", "llm", customer="bob", data={"tokens": 1})]
            app.ingest.ingest_wait("live", events)

    threading.Thread(target=ingest, daemon=True).start()
    asked = Asked("void", "live", Selection(start=start, end=end, customer="ann"), "a test", "ada", None, "the range")
    while True:
        made = app.corrections.correct(asked, 1)
        os.write(1, f"{made.events}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
