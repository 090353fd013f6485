"""The rows and rollups of `POST /v1/events` without HTTP: `python -m benchmarks.direct_worker FOLDER BATCH IDS SECONDS`."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections import deque
from pathlib import Path

from benchmarks.tollkeeper_server import CATALOG
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.events import LogRow, digest_id, pack_id
from tollkeeper.core.ids import ulid
from tollkeeper.services.meters import MeterSet
from tollkeeper.services.submissions import submit

CUSTOMERS = [f"cus_{number:026d}" for number in range(200)]
UNDER_WAY = 16
CHUNK = 100_000


def make_id(ids: str, ms: int) -> str:
    if ids == "ulid":
        return ulid(ms, secrets.randbits(80))
    if ids == "uuid7":
        number = ms << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    else:
        number = secrets.randbits(128) & ~(0xF << 76 | 3 << 62) | 4 << 76 | 2 << 62
    h = f"{number:032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def make_rows(ids: str, count: int, meters: MeterSet) -> list[LogRow]:
    rows: list[LogRow] = []
    calls, tokens = meters.by_key["api_calls"].number, meters.by_key["tokens"].number
    for number in range(count):
        at = time.time_ns() // 1000
        cell = at // 1_000_000 // 900 * 900
        kind, stored = pack_id(text := make_id(ids, at // 1000))
        digest = digest_id(0, "api", text) if ids == "uuid4" else None
        place = number % len(CUSTOMERS)
        if place % 2:
            type, data, fold = "llm.call", '{"tokens":12}', (tokens, cell, 12, 0)
        else:
            type, data, fold = "api.call", None, (calls, cell, 1, 0)
        customer = CUSTOMERS[place]
        rows.append((kind << 1, "api", stored, digest, type, None, customer, at, 1, data, (fold,), meters.epoch, ()))
    return rows


def main(folder: Path, batch: int, ids: str, seconds: float) -> dict[str, float]:
    with Tollkeeper(f"sqlite:///{folder / 'tollkeeper.db'}") as here:
        here.catalog.apply(CATALOG)
        writer = here.usage_file.writer
        spent, events = 0.0, 0
        while spent < seconds:
            rows = make_rows(ids, CHUNK, here.meters.current)
            batches = [rows[start : start + batch] for start in range(0, CHUNK, batch)]
            start = time.perf_counter()
            under_way = deque(submit(writer, one) for one in batches[:UNDER_WAY])
            for one in batches[UNDER_WAY:]:
                under_way.popleft().wait()
                under_way.append(submit(writer, one))
            while under_way:
                under_way.popleft().wait()
            spent += time.perf_counter() - start
            events += CHUNK
    return {"events": events, "seconds": round(spent, 3), "events_per_second": events / spent}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))))
