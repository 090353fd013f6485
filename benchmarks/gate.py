"""`Gate.check` inside a program, beside libraries that limit inside a program."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.limiters import LIMITERS
from benchmarks.processes import python
from benchmarks.report import Figure, Section, median, paragraphs

CALLS = 100_000

CONDITIONS = """
    One thread calls. Nothing is pinned, so the writer's thread may have the other core. Single calls are timed by a
    clock that itself takes {clock} µs, which every figure contains.

    Without the wait: each call waits for its own commit, and the wait ({wait} µs in the median) is taken off. What is
    left contains waking the writer's thread, and runs on caches that the commit has cooled.

    Handed to the writer: the call returns at once (early answer, soft quota); the writer's thread commits beside it
    and takes its share of the interpreter lock.

    The others: one bucket in memory, no key, no quota, nothing recorded.
"""


def _worker(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(python("-m", *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def measure(work: Path, rounds: int) -> Section:
    ours, theirs = [], {name: [] for name in LIMITERS}  # type: tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]
    for turn in range(rounds):
        folder = work / f"gate-{turn}"
        folder.mkdir()
        ours.append(_worker("benchmarks.gate_worker", str(folder), str(CALLS)))
        for name in LIMITERS:
            theirs[name].append(_worker("benchmarks.limiters", name, str(CALLS)))
    section = Section(
        "gate",
        f"Gate.check in a program, {CALLS:,} calls, {rounds} rounds in turn",
        ("", "median µs", "p99 µs", "does"),
        raw={"tollkeeper": ours, **theirs},
    )

    def row(name: str, runs: list[dict[str, Any]], does: str) -> tuple[float, float]:
        middle, late = median(one["median_us"] for one in runs), median(one["p99_us"] for one in runs)
        section.rows.append((name, f"{middle:.2f}", f"{late:.2f}", does))
        return middle, late

    durable = [one["durable"] for one in ours]
    middle, late = row("Tollkeeper, without the wait for the commit", durable, "key, limit, hard quota, event, commit")
    early, early_late = row(
        "Tollkeeper, event handed to the writer", [one["early"] for one in ours], "key, limit, soft quota, event"
    )
    for name, (title, _) in LIMITERS.items():
        row(title, theirs[name], "limit")
    section.figures = [
        Figure("Gate.check with recording, median, event handed to the writer", early, "µs", at_most=2),
        Figure("Gate.check with recording, p99, event handed to the writer", early_late, "µs", at_most=50),
        Figure("Gate.check with recording, median, one commit a call, without the wait", middle, "µs", at_most=2),
        Figure("Gate.check with recording, p99, one commit a call, without the wait", late, "µs", at_most=50),
    ]
    section.conditions = paragraphs(
        CONDITIONS.format(
            clock=f"{ours[0]['early']['clock_us']:.2f}", wait=f"{median(one['wait_median_us'] for one in durable):.0f}"
        )
    )
    return section
