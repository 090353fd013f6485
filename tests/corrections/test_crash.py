"""SIGKILL in the middle of a range, again and again: what was answered stays, nothing is voided twice, and it comes to its end."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.corrections import Selection
from tollkeeper.core.events import UsageEvent
from tollkeeper.services.corrections import Asked
from tollkeeper.upkeep import verify_database

from .world import CATALOG, DAY_US

EVENTS = 4_000 if os.environ.get("TOLLKEEPER_SOAK") else 1_500
ROUNDS = 40 if os.environ.get("TOLLKEEPER_SOAK") else 5


def killed_after(batches: int, *arguments: str) -> int:
    """How many events it had said were voided when it was killed: in the batch after these, wherever that was."""
    command = [sys.executable, str(Path(__file__).with_name("crash_child.py")), *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    told = "".join(child.stdout.readline().decode() for _ in range(batches))
    child.kill()
    told += child.stdout.read().decode()
    child.stdout.close()
    assert child.wait() == -9
    whole = told[: told.rfind("\n") + 1].split()
    return int(whole[-1]) if whole else 0


def test_a_range_survives_kills_without_doubling_and_comes_to_its_end(tmp_path: Path) -> None:
    url = str(tmp_path / "toll.db")
    now = time.time_ns() // 1000
    start, end = now - DAY_US, now + DAY_US
    with Tollkeeper(url) as app:
        app.catalog.apply(CATALOG)
        for customer in ("ann", "bob"):
            app.customers.create(id=customer, name=customer, plan="free")
        for first in range(0, EVENTS, 500):
            events = [
                UsageEvent(f"e{n}", "llm", customer="ann", data={"tokens": n, "model": "ab"[n % 2]})
                for n in range(first, first + 500)
            ]
            assert {result.status for result in app.ingest.ingest_wait("live", events)} == {"accepted"}
    chance = random.Random(3)
    done = 0
    for number in range(ROUNDS):
        told = killed_after(chance.randrange(60), url, str(start), str(end), f"round-{number}")
        verification = verify_database(url)
        assert verification.ok, verification.shown
        with Tollkeeper(url) as app:
            found = app.corrections.list("live", None, 1)
            voided = [e.id for e in app.usage_file.reader.events() if e.state == "voided"]
            assert len(voided) == (found[0].events if found else 0) >= max(told, done)
            done = len(voided)
            left = [n for n in range(EVENTS) if f"e{n}" not in set(voided)]
            since = {"customer": "ann", "start": start}
            assert app.usage.query("tokens", **since).total == str(sum(left))  # type: ignore[arg-type]
            assert app.usage.query("largest", **since).total == (str(max(left)) if left else None)  # type: ignore[arg-type]
    assert 0 < done < EVENTS
    with Tollkeeper(url) as app:
        while app.corrections.run_once():
            pass
        asked = Asked(
            "void", "live", Selection(start=start, end=end, customer="ann"), "a test", "ada", None, "the range"
        )
        made = app.corrections.correct(asked)
        assert (made.events, made.skipped, made.applied_at is not None) == (EVENTS, 0, True)
        assert app.usage.query("tokens", customer="ann", start=start).total == "0"
        assert app.usage_file.reader._db().execute("SELECT count(*) FROM corrected").get == EVENTS
    assert verify_database(url).ok
