"""Fill one usage file and time each day of it: `python -m benchmarks.growth_worker URL KIND EVENTS CUSTOMERS`.

KIND says who makes the ids: `gate` (the gate itself), `timed` (UUIDv7 from clients), `random` (UUIDv4 from clients). CUSTOMERS is a
file with a line per customer: its id and its key's id. Events arrive at a steady 50 million in 30 days, from a midnight on, so that
rollups are as many as they would be; half count calls, half sum tokens. Whole days are compared, since a rollup's cost follows the
hour of the day. Rows are made before the clock runs; what is timed is dedupe, log, rollups and commit by the product's own writer,
4,000 rows a commit. One line of JSON for each day of 1,666,666 events.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.events import GATE, GATE_SOURCE, UUID_RANDOM, UUID_TIMED, LogRow, digest_id
from tollkeeper.services.clock import Clock
from tollkeeper.services.meters import MeterSet
from tollkeeper.services.submissions import submit
from tollkeeper.storage.sql.files import database_files

DAY_US = 86_400_000_000
SPACING_US = 30 * DAY_US // 50_000_000
A_DAY = DAY_US // SPACING_US
BATCH = 1000
BURST = 16  # batches under way, as 16 connections would have
CELL = 900


class Rows:
    """Rows as the gate and `POST /v1/events` hand them to the writer."""

    def __init__(self, kind: str, now: list[int], customers: list[tuple[str, str]], meters: MeterSet) -> None:
        self.kind = kind
        self.now = now
        self.customers = customers
        self.calls, self.tokens = meters.by_key["api_calls"].number, meters.by_key["tokens"].number
        self.epoch = meters.epoch
        self.random = random.Random(7)
        self.count = 0

    def batch(self) -> list[LogRow]:
        rows: list[LogRow] = []
        bits, kind, customers, choose = self.random.getrandbits, self.kind, self.customers, self.random.random
        how_many, epoch = len(customers), self.epoch
        at = self.now[0]
        for _ in range(BATCH):
            at += SPACING_US
            self.count += 1
            customer, key = customers[int(choose() * how_many)]
            seconds = at // 1_000_000
            cell = seconds - seconds % CELL
            if self.count & 1:
                type, data, folds = "api.call", None, ((self.calls, cell, 1, 0),)
            else:
                type, data, folds = "llm.call", '{"tokens":12}', ((self.tokens, cell, 12, 0),)
            if kind == "gate":
                id = (at // 1000 << 80 | 7 << 40 | self.count).to_bytes(16, "big")
                rows.append((GATE << 1, GATE_SOURCE, id, None, type, key, customer, at, 1, data, folds, epoch, ()))
            elif kind == "timed":
                id = (at // 1000 << 80 | 7 << 76 | bits(12) << 64 | 2 << 62 | bits(62)).to_bytes(16, "big")
                rows.append((UUID_TIMED << 1, "api", id, None, type, None, customer, at, 1, data, folds, epoch, ()))
            else:
                id = (bits(128) & ~(0xF << 76 | 3 << 62) | 4 << 76 | 2 << 62).to_bytes(16, "big")
                h = id.hex()
                text = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
                rows.append(
                    (
                        UUID_RANDOM << 1,
                        "api",
                        id,
                        digest_id(0, "api", text),
                        type,
                        None,
                        customer,
                        at,
                        1,
                        data,
                        folds,
                        epoch,
                        (),
                    )
                )
        self.now[0] = at
        return rows


def size_of(path: Path) -> int:
    """Bytes on disk, the write-ahead log included."""
    return sum(one.stat().st_size for one in path.parent.glob(path.name + "*"))


def grow(url: str, kind: str, events: int, customers: list[tuple[str, str]]) -> None:
    midnight = time.time_ns() // 1000 // DAY_US * DAY_US
    now = [midnight - -(-events // A_DAY) * DAY_US]  # of the simulated time, in µs
    with Tollkeeper(url, clock=Clock(now_ns=lambda: now[0] * 1000)) as here:
        _grow(here, database_files(url).usage, Rows(kind, now, customers, here.meters.current), events)
    whole = {"closed": True, "stored": events, "bytes": size_of(database_files(url).usage)}
    print(json.dumps(whole), flush=True)


def _grow(here: Tollkeeper, path: Path, rows: Rows, events: int) -> None:
    writer = here.usage_file.writer
    stored, spent, slowest, since = 0, 0.0, 0.0, 0
    cpu, making = time.process_time(), 0.0
    while stored < events:
        before = time.process_time()
        batches = [rows.batch() for _ in range(BURST)]
        making += time.process_time() - before
        start = time.perf_counter()
        tickets = [submit(writer, batch) for batch in batches]
        for ticket in tickets:
            outcomes = ticket.wait()
            if outcomes is not None and any(outcome.status != "accepted" for outcome in outcomes):
                raise SystemExit("an event was not accepted")
        took = time.perf_counter() - start
        spent += took
        slowest = max(slowest, took)
        stored += BURST * BATCH
        if stored // A_DAY > since // A_DAY or stored >= events:
            line = {
                "stored": stored,
                "events": stored - since,
                "us_per_event": round(spent / (stored - since) * 1e6, 3),
                "cpu_us_per_event": round((time.process_time() - cpu - making) / (stored - since) * 1e6, 3),
                "slowest_burst_ms": round(slowest * 1000, 1),
                "bytes": size_of(path),
                "rss_mib": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20,
            }
            print(json.dumps(line), flush=True)
            spent, slowest, making, cpu, since = 0.0, 0.0, 0.0, time.process_time(), stored


if __name__ == "__main__":
    _, url, kind, events, customers = sys.argv
    known = [tuple(line.split()) for line in Path(customers).read_text().splitlines()]
    grow(url, kind, -(-int(events) // (BURST * BATCH)) * BURST * BATCH, [(one[0], one[1]) for one in known])
