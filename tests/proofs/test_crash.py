"""SIGKILL of a real process at random moments under load; then everything is counted again."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tollkeeper.bootstrap import Tollkeeper

from .crash_child import event_id

CATALOG = """
currency = "usd"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[meters.tokens]
event_type = "llm.completion"
aggregation = "sum"
value_property = "tokens"
[plans.pro]
product = "api"
"""
ROUNDS = 300 if os.environ.get("TOLLKEEPER_SOAK") else 12


def run_until_killed(url: str, customer: str, key: str, seed: int, seconds: float) -> str:
    """What the child had written when it was killed, whole lines only."""
    command = [sys.executable, str(Path(__file__).with_name("crash_child.py")), url, customer, key, str(seed)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    out = os.read(child.stdout.fileno(), 6)
    assert out == b"ready\n", child.wait()
    parts: list[bytes] = []
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([child.stdout], [], [], left)[0]:
            parts.append(os.read(child.stdout.fileno(), 1 << 20))
    child.kill()
    parts.append(child.stdout.read())
    child.stdout.close()
    assert child.wait() == -9
    text = b"".join(parts).decode()
    return text[: text.rfind("\n") + 1]


def test_every_acknowledged_event_is_there_exactly_once_after_each_kill(tmp_path: Path) -> None:
    url = str(tmp_path / "toll.db")
    with Tollkeeper(url) as app:
        app.catalog.apply(CATALOG)
        customer = app.customers.create(name="Ann", plan="pro").customer.id
        key = app.keys.create(customer=customer).key
    chance = random.Random(1)
    checks: set[str] = set()
    events: set[int] = set()
    for round_number in range(ROUNDS):
        for line in run_until_killed(url, customer, key, round_number, chance.uniform(0.05, 0.6)).splitlines():
            kind, _, what = line.partition(" ")
            if kind == "c":
                checks.add(what)
            else:
                events.add(int(what))
        with Tollkeeper(url) as app:
            logged = Counter()  # type: ignore[var-annotated]
            tokens = calls = 0
            for event in app.usage_file.reader.events():
                logged[event.source, event.id] += 1
                if event.type == "api.call":
                    calls += event.quantity
                else:
                    tokens += int((event.data or "").partition(":")[2].rstrip("}"))
            assert set(logged.values()) <= {1}
            assert {id for id in checks if ("tollkeeper:gate", id) not in logged} == set()
            assert {n for n in events if ("default", event_id(n)) not in logged} == set()
            start = (time.time_ns() // 1000) - 86_400_000_000
            assert app.usage.query("api_calls", start=start).total == str(calls)
            assert app.usage.query("tokens", start=start).total == str(tokens)
    assert len(checks) > ROUNDS
    assert len(events) > 10 * ROUNDS
