"""What a random event id costs as the number of stored ids grows.

    python -m benchmarks.growth_ids [--ids 5000000] [--limit-mb 2048] [--row-bytes 80] [--directory DIR]

Transactions of 1,000 new ids on one core: find_many, add, every step that is due, commit (WAL, synchronous=FULL), and a stand-in
for the log's own row of `--row-bytes` random bytes, so that the page cache has the company it has in use. "ids" is the time in the
index, "cpu" what of it was spent on the processor; "all" adds the rows, the commit and the checkpoints, but not making the input.
Ratios compare the mean of the last five million with the first million. The memory limit covers the page cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.memory_limit import memory_limit
from benchmarks.processes import python
from tollkeeper.storage.sql.usage.connection import PAGE_SIZE, connect
from tollkeeper.storage.sql.usage.random_ids import RandomIds

BATCH = 1000
CHECKPOINT_BYTES = 16_384 * PAGE_SIZE
MILLION = 1_000_000


def digest(number: int) -> bytes:
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).digest()


def grow(path: Path, count: int, row_bytes: int) -> dict[str, object]:
    db = connect(path)
    db.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;" + RandomIds.SCHEMA)
    ids = RandomIds(db)
    clock, cpu = time.perf_counter, time.thread_time
    seq, longest_step, longest_turn, in_ids, in_cpu, in_all = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    series: list[dict[str, float]] = []
    while seq < count:
        digests = [digest(number) for number in range(seq + 1, seq + BATCH + 1)]
        bodies = os.urandom(row_bytes * BATCH)
        rows = [(seq + i + 1, bodies[i * row_bytes : (i + 1) * row_bytes]) for i in range(BATCH)]
        start = clock()
        db.execute("BEGIN IMMEDIATE")
        begun, begun_cpu = clock(), cpu()
        assert not ids.find_many(digests)
        for d in digests:
            seq += 1
            ids.add(d, seq)
        while True:
            before = clock()
            more = ids.step()
            longest_step = max(longest_step, clock() - before)
            if not more:
                break
        done, done_cpu = clock(), cpu()
        db.executemany("INSERT INTO event VALUES (?, ?)", rows)
        db.execute("COMMIT")
        committed = clock()
        ids.committed(seq)
        turn = done - begun + clock() - committed
        in_ids += turn
        in_cpu += done_cpu - begun_cpu
        longest_turn = max(longest_turn, turn)
        if seq % (64 * BATCH) == 0 and path.with_name(path.name + "-wal").stat().st_size > CHECKPOINT_BYTES:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        in_all += clock() - start
        if seq % MILLION == 0:
            point = {
                "million": seq // MILLION,
                "ids_us": round(in_ids, 3),
                "cpu_us": round(in_cpu, 3),
                "all_us": round(in_all, 3),
                "runs": sum(map(len, ids._by_shift.values())),
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "longest_step_ms": round(longest_step * 1e3, 2),
                "longest_turn_ms": round(longest_turn * 1e3, 2),
            }
            series.append(point)
            print(
                "{million:3} M  ids {ids_us:6.3f} µs  cpu {cpu_us:6.3f} µs  all {all_us:6.3f} µs  {runs:2} runs  {rss_mb} MB rss  "
                "longest step {longest_step_ms} ms, a transaction's {longest_turn_ms} ms".format(**point),
                flush=True,
            )
            in_ids = in_cpu = in_all = longest_step = longest_turn = 0.0
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    pages = "SELECT sum(pgsize) FROM dbstat WHERE aggregate = TRUE AND name LIKE 'id!_%' ESCAPE '!'"
    size: int = db.execute(pages).fetchone()[0]
    result: dict[str, object] = {"ids": count, "series": series, "bytes_per_id": round(size / count, 2)}
    db.close()
    return result | reopened(path, count)


def reopened(path: Path, count: int) -> dict[str, object]:
    """Opening again with nothing in the page cache, and finding: old ids (each a hit) and strangers."""
    handle = os.open(path, os.O_RDONLY)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)
    result: dict[str, object] = {}
    for name in ("cold", "warm"):
        start = time.perf_counter()
        db = connect(path)
        ids = RandomIds(db)
        opened = time.perf_counter()
        tail = range(ids.covered_seq + 1, count + 1)
        ids.replay(((digest(number), number) for number in tail), count)
        result[f"reopen_{name}_ms"] = round((opened - start) * 1e3, 1)
        result[f"replay_{name}_ms"] = round((time.perf_counter() - opened) * 1e3, 1)
        result["replayed"] = len(tail)
        if name == "cold":
            db.close()
    step = max(count // 20_000, 1)
    old = list(range(1, count + 1, step))
    for name, numbers in (("duplicate", old), ("stranger", list(range(count + 1, count + 200_001)))):
        batches = [[digest(n) for n in numbers[i : i + BATCH]] for i in range(0, len(numbers), BATCH)]
        start = time.perf_counter()
        found = [ids.find_many(batch) for batch in batches]
        result[f"{name}_us"] = round((time.perf_counter() - start) / len(numbers) * 1e6, 2)
        assert sum(map(len, found)) == (len(numbers) if name == "duplicate" else 0)
    assert ids.find(digest(old[-1])) == old[-1]
    single = [digest(count + 300_000 + n) for n in range(20_000)]
    start = time.perf_counter()
    for d in single:
        ids.find(d)
    result["stranger_alone_us"] = round((time.perf_counter() - start) / len(single) * 1e6, 2)
    db.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=5 * MILLION)
    parser.add_argument("--limit-mb", type=int, default=2048)
    parser.add_argument("--row-bytes", type=int, default=80)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.inside:
        with memory_limit(args.limit_mb << 20) as limit:
            print(f"memory: {limit.reason}", flush=True)
            command = [*limit.command, *python("-m", "benchmarks.growth_ids", *sys.argv[1:], "--inside")]
            status = subprocess.run(command, check=False).returncode
            print(f"peak memory, page cache included: {(limit.peak_bytes() or 0) >> 20} MB")
        sys.exit(status)
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        result = grow(Path(directory) / "ids.db", args.ids, args.row_bytes)
    series: list[dict[str, float]] = result["series"]  # type: ignore[assignment]
    if len(series) > 1:
        last = series[-5:] if len(series) >= 10 else series[-1:]
        for key in ("ids_us", "cpu_us", "all_us"):
            result[f"ratio_{key}"] = round(sum(point[key] for point in last) / len(last) / series[0][key], 2)
    print(json.dumps({key: value for key, value in result.items() if key != "series"}))


if __name__ == "__main__":
    main()
