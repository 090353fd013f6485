"""The benchmark may not flatter: a wrong answer voids a run, a missed or unmeasured target is never called met."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.load import RunInvalid, parse
from benchmarks.report import Figure, ratios


def result(**changed: object) -> str:
    """The line that benchmarks/lua/common.lua prints after a good run of 10 s: 1,000 counted requests, 100 for the drain."""
    line = {
        "requests": 1100,
        "microseconds": 11_000_000,
        "bytes": 110_000,
        "p50": 2000,
        "p99": 5000,
        "max": 9000,
        "sent": 1000,
        "good": 1100,
        "answered": -1,
        "bad": 0,
        "in_window": 990,
        "errors": 0,
        "first_bad": "",
    } | changed
    return "Running 11s test\n\nRESULT\t" + "\t".join(map(str, line.values())) + "\n"


def test_a_run_counts_the_answers_inside_its_window() -> None:
    load = parse(result(), seconds=10, connections=64, cpu_seconds=5.5)
    assert (load.per_second, load.p99_ms, load.sent, load.drained, load.client_busy) == (99, 5, 1000, 100, 0.5)


@pytest.mark.parametrize(
    "fault",
    [
        {"bad": 1, "good": 1099, "first_bad": "500 oops"},
        {"errors": 1},
        {"good": 1063, "requests": 1063},
        {"requests": 1101},
    ],
)
def test_one_wrong_missing_or_unchecked_answer_voids_a_run(fault: dict[str, object]) -> None:
    with pytest.raises(RunInvalid):
        parse(result(**fault), seconds=10, connections=64, cpu_seconds=5.5)


def test_a_script_that_tells_the_drain_apart_needs_no_further_answers() -> None:
    assert (
        parse(result(good=1001, requests=1001, answered=1000), seconds=10, connections=64, cpu_seconds=0).sent == 1000
    )


def test_a_client_that_fell_over_is_no_result() -> None:
    with pytest.raises(RunInvalid, match="unable to connect"):
        parse("unable to connect to 127.0.0.1", seconds=10, connections=64, cpu_seconds=0)


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.45, 0.45, None, "met"),
        (0.4499, 0.45, None, "not met"),
        (1.2, None, 1.2, "met"),
        (1.2001, None, 1.2, "not met"),
        (None, 0.45, None, "not measured"),
        (3.0, None, None, ""),
    ],
)
def test_a_target_is_met_only_by_a_measured_value_within_it(
    value: float | None, low: float | None, high: float | None, verdict: str
) -> None:
    assert Figure("figure", value, "×", at_least=low, at_most=high).verdict == verdict


def test_a_ratio_compares_runs_of_the_same_round() -> None:
    assert ratios([10, 30], [20, 40]) == [0.5, 0.75]
