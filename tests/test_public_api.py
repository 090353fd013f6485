"""What `import tollkeeper` offers, pinned."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import tollkeeper
from tollkeeper.core.errors import AlreadyOpen, InvalidRequest, StorageUnavailable, TollkeeperError
from tollkeeper.core.events import UsageEvent

CATALOG = """
currency = "usd"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[plans.free]
quotas = [{meter = "api_calls", limit = "2", kind = "hard"}]
"""


def test_the_public_names_are_these() -> None:
    assert tollkeeper.__all__ == ["Client", "Decision", "Gate", "__version__"]
    assert [n for n, _ in inspect.getmembers(tollkeeper.Gate, inspect.isfunction) if n[0] != "_"] == [
        "check",
        "check_async",
        "close",
        "commit",
        "count",
        "count_async",
        "counts_attempts",
        "judge",
        "judge_async",
        "record",
        "refund",
        "refund_async",
        "release",
        "reserve",
        "usage",
    ]
    with pytest.raises(AttributeError):
        tollkeeper.nothing  # noqa: B018


def test_importing_loads_no_vendor_package_and_starts_nothing() -> None:
    code = "import sys, threading, tollkeeper; print(sorted(sys.modules)); print(threading.active_count())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for package in ("apsw", "sqlalchemy", "fastapi", "msgspec", "uvicorn", "typer", "asyncio", "sqlite3"):
        assert f"'{package}'" not in out
    assert out.splitlines()[-1] == "1"


def test_the_gate_in_a_program_checks_counts_and_looks_up(tmp_path: Path) -> None:
    catalog = tmp_path / "tollkeeper.toml"
    catalog.write_text(CATALOG)
    url = str(tmp_path / "toll.db")
    with tollkeeper.Gate.open(url, catalog=catalog) as gate:
        customer = gate.toll.customers.create(name="Ann", plan="free").customer.id
        key = gate.toll.keys.create(customer=customer).key
        assert gate.check(key, "api_calls").allowed
        assert [r.status for r in gate.record([{"id": "1", "type": "api.call", "customer": customer}] * 2)] == [
            "accepted",
            "duplicate",
        ]
        assert gate.check(key, "api_calls").code == "QUOTA_EXCEEDED"
        assert gate.usage("api_calls", customer=customer).total == "2"
        with pytest.raises(AlreadyOpen, match="open already"):
            tollkeeper.Gate.open(url)
    with tollkeeper.Gate.open(url) as again:
        assert again.usage("api_calls", customer=customer).total == "2"


SURROGATE = "\ud800"
RECURSIVE: dict[str, Any] = {}
RECURSIVE["again"] = RECURSIVE


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[tollkeeper.Gate]:
    catalog = tmp_path / "tollkeeper.toml"
    catalog.write_text(CATALOG.replace('"2"', '"100"'))
    with tollkeeper.Gate.open(str(tmp_path / "toll.db"), catalog=catalog) as opened:
        opened.toll.customers.create(id="ann", name="Ann", plan="free")
        yield opened


@pytest.mark.parametrize(
    "fault",
    [
        {"id": ""},
        {"id": "x" * 257},
        {"id": SURROGATE},
        {"id": "a\0"},
        {"id": 5},
        {"id": b"a"},
        {"key": None},
        {"key": b"tk"},
        {"meter": ["api_calls"]},
        {"cost": Decimal("snan")},
        {"cost": 1.0},
    ],
)
def test_a_malformed_check_of_a_program_is_named_and_counts_nothing(
    gate: tollkeeper.Gate, fault: dict[str, Any]
) -> None:
    key = gate.toll.keys.create(customer="ann").key
    with pytest.raises(InvalidRequest, match=next(iter(fault))):
        gate.check(**{"key": key, "meter": "api_calls", **fault})
    decision = gate.check(key, "api_calls", 0)
    assert decision.quota is not None
    assert (decision.quota.used, gate.usage("api_calls", customer="ann").total) == ("0", "0")


@pytest.mark.parametrize(
    "event",
    [
        None,
        "id",
        {"type": "api.call", "customer": "ann"},
        {"id": "1", "customer": "ann"},
        {"id": "1", "type": "api.call", "customer": "ann", "user": "x"},
        {"id": 1, "type": "api.call", "customer": "ann"},
        {"id": SURROGATE, "type": "api.call", "customer": "ann"},
        {"id": "1", "type": "a\0b", "customer": "ann"},
        {"id": "1", "type": "api.call", "customer": "ann", "subject": SURROGATE},
        {"id": "1", "type": "api.call", "customer": 5},
        {"id": "1", "type": "api.call", "customer": "ann", "time": "2026-11-21T00:00:00Z"},
        {"id": "1", "type": "api.call", "customer": "ann", "data": [1]},
        {"id": "1", "type": "api.call", "customer": "ann", "data": RECURSIVE},
        {"id": "1", "type": "api.call", "customer": "ann", "data": {1: 2}},
        {"id": "1", "type": "api.call", "customer": "ann", "data": {"a": SURROGATE}},
        {"id": "1", "type": "api.call", "customer": "ann", "data": {"a": 10**5000}},
    ],
)
def test_what_is_no_event_is_rejected_and_spoils_no_other(gate: tollkeeper.Gate, event: Any) -> None:
    good = {"id": "good", "type": "api.call", "customer": "ann"}
    first, second = gate.record([event, good])
    assert (first.status, first.code, bool(first.detail)) == ("rejected", "invalid_event", True)
    assert second.status == "accepted"
    assert gate.usage("api_calls", customer="ann").total == "1"


def test_an_environment_that_is_none_is_refused(gate: tollkeeper.Gate) -> None:
    with pytest.raises(InvalidRequest, match="live or test"):
        gate.record([{"id": "1", "type": "api.call", "customer": "ann"}], "Test")  # type: ignore[arg-type]
    assert gate.usage("api_calls", customer="ann").total == "0"


def test_a_text_that_no_file_can_hold_does_not_spoil_what_commits_with_it(gate: tollkeeper.Gate) -> None:
    writer = gate.toll.usage_file.writer
    bad, good = UsageEvent(SURROGATE, "api.call", customer="ann"), UsageEvent("1", "api.call", customer="ann")
    outcomes: list[Any] = []

    def send(event: UsageEvent) -> None:
        try:
            outcomes.append(gate.toll.ingest.ingest_wait("live", [event])[0].status)
        except TollkeeperError as error:
            outcomes.append(error.code)

    entered, release = threading.Event(), threading.Event()
    stall = threading.Thread(target=writer.call, args=(lambda log: (entered.set(), release.wait()),))
    stall.start()
    entered.wait()
    threads = [threading.Thread(target=send, args=(event,)) for event in (good, bad)]
    for thread in threads:
        thread.start()
    while writer.queued < 2:
        os.sched_yield()
    release.set()
    for thread in [*threads, stall]:
        thread.join()
    assert sorted(outcomes) == ["accepted", "invalid_request"]
    assert (writer.failed, gate.usage("api_calls", customer="ann").total) == (None, "1")


def test_a_closed_gate_says_so_and_closes_once(gate: tollkeeper.Gate) -> None:
    key = gate.toll.keys.create(customer="ann").key
    gate.close()
    gate.close()
    for call in (
        lambda: gate.check(key, "api_calls"),
        lambda: gate.usage("api_calls"),
        lambda: gate.record([{"id": "1", "type": "api.call", "customer": "ann"}]),
    ):
        with pytest.raises(StorageUnavailable, match="closed"):
            call()


def test_a_gate_opened_before_a_fork_says_so_in_the_child_instead_of_waiting_for_ever(tmp_path: Path) -> None:
    code = """if True:
        import os, sys, tollkeeper
        gate = tollkeeper.Gate.open(sys.argv[1])
        if os.fork() == 0:
            try:
                gate.check("key")
            except Exception as error:
                print(error)
            gate.close()
            try:
                tollkeeper.Gate.open(sys.argv[1])
            except Exception as error:
                print(error, flush=True)
            os._exit(0)
        os.wait()
        print(gate.check("key").code)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "toll.db")], capture_output=True, text=True, timeout=30
    )
    forked, second, parent = done.stdout.splitlines()
    assert "forked after Gate.open" in forked
    assert "Gate.open is for one process" in second
    assert "Gate.connect" in second
    assert parent == "NOT_FOUND"


def test_what_was_judged_is_settled_once(gate: tollkeeper.Gate) -> None:
    key = gate.toll.keys.create(customer="ann").key
    counted, returned = gate.judge(key, "api_calls", 3), gate.judge(key, "api_calls", 5)
    checked = gate.check(key, "api_calls")
    reserved = gate.reserve(key, "api_calls", 7)
    for decision in (counted, returned):
        assert gate.usage("api_calls", customer="ann").total == "1"
        assert decision.allowed
    gate.count(counted)
    gate.refund(returned)
    for _ in range(2):
        for decision in (counted, returned, checked, reserved):
            gate.count(decision)
            gate.refund(decision)
    left = gate.check(key, "api_calls", 0)
    assert left.quota is not None
    assert (left.quota.used, gate.usage("api_calls", customer="ann").total) == ("11", "4")


async def test_on_an_event_loop_a_check_counts_as_in_a_thread(gate: tollkeeper.Gate) -> None:
    key = gate.toll.keys.create(customer="ann").key
    for _ in range(2):
        assert (await gate.check_async(key, "api_calls", id="same")).allowed
    assert (await gate.check_async("junk", "api_calls")).code == "NOT_FOUND"
    with pytest.raises(InvalidRequest, match="id"):
        await gate.check_async(key, "api_calls", id="")
    assert gate.usage("api_calls", customer="ann").total == "1"
