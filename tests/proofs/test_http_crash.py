"""A real server, killed again and again under HTTP load, then stopped in order; everything it answered is counted again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import pytest

from tollkeeper.bootstrap import Tollkeeper

from .http_load import ADMIN_TOKEN, Checks, ChecksWithId, Client, Events, get, name_id
from .recount import refolded_log, stored_rollups

ROUNDS = 300 if os.environ.get("TOLLKEEPER_SOAK") else 6
QUOTA = 40 * ROUNDS
CATALOG = f"""
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
[plans.capped]
product = "api"
quotas = [{{meter = "api_calls", limit = "{QUOTA}", kind = "hard"}}]
"""
SINCE = "2020-01-01T00:00:00Z"


class Installation:
    """Files in a folder, and the clients that use them through whichever server process is up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        (folder / ".env").write_text(
            f"PORT={self.port}\nTOLLKEEPER_ADMIN_TOKEN={ADMIN_TOKEN}\nTOLLKEEPER_DATABASE_URL=sqlite:///toll.db\n"
            "TOLLKEEPER_LOG_LEVEL=error\n"
        )
        with Tollkeeper(str(folder / "toll.db")) as app:
            app.catalog.apply(CATALOG)
            self.open_customer = app.customers.create(name="Ann", plan="pro").customer.id
            self.capped_customer = app.customers.create(name="Bob", plan="capped").customer.id
            open_key = app.keys.create(customer=self.open_customer).key
            capped_key = app.keys.create(customer=self.capped_customer).key
        self.checks = Checks(1, key=open_key)
        self.capped = [Checks(2, key=capped_key), Checks(3, key=capped_key)]
        self.named = ChecksWithId(4, key=open_key)
        self.events = [Events(5, customer=self.open_customer), Events(6, customer=self.open_customer)]
        self.clients: Sequence[Client] = (self.checks, *self.capped, self.named, *self.events)

    def start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server_child.py")), str(self.folder)],
            stdout=subprocess.PIPE,
            cwd=self.folder,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline().startswith(b"Tollkeeper listens"), child.wait()
        return child

    def run_until(self, answers: int, then: signal.Signals, later: float = 0.0) -> int:
        """Start, let every client send, give the signal after so many answers (and a moment); the exit code."""
        child = self.start()
        lock, enough, faults = threading.Lock(), threading.Event(), list[BaseException]()
        left = answers

        def answered() -> None:
            nonlocal left
            with lock:
                left -= 1
                if left == 0:
                    enough.set()

        def work(client: Client) -> None:
            try:
                client.run(self.port, answered, threading.Event())
            except BaseException as fault:
                faults.append(fault)
                enough.set()

        threads = [threading.Thread(target=work, args=(client,)) for client in self.clients]
        for thread in threads:
            thread.start()
        enough.wait()
        threading.Event().wait(later)  # so that the kill is not in step with an answer
        child.send_signal(then)
        for thread in threads:
            thread.join()
        code = child.wait()
        if faults:
            raise faults[0]
        return code

    def finish(self) -> None:
        """A last server: what had no answer is sent again, the capped customer asks until refused; then usage over HTTP is compared."""
        child = self.start()
        for client in (self.named, *self.events):
            if client.pending is not None:
                stop = threading.Event()
                client.run(self.port, stop.set, stop)
        refused = self.capped[0].refused
        while self.capped[0].refused == refused:
            stop = threading.Event()
            self.capped[0].run(self.port, stop.set, stop)
        self.used = {
            (customer, meter): Decimal(
                get(self.port, f"/v1/usage?customer={customer}&meter={meter}&from={quote(SINCE)}")["total"]
            )
            for customer in (self.open_customer, self.capped_customer)
            for meter in ("api_calls", "tokens")
        }
        child.send_signal(signal.SIGTERM)
        assert child.wait() == 0

    def recount(self) -> None:
        with Tollkeeper(str(self.folder / "toll.db")) as app:
            assert stored_rollups(app) == refolded_log(app)
            logged = Counter[tuple[str, str]]()
            used = Counter[tuple[str, str]]()
            for event in app.usage_file.reader.events():
                logged[event.source, event.id] += 1
                if event.type == "api.call":
                    used[event.customer, "api_calls"] += event.quantity
                else:
                    used[event.customer, "tokens"] += int((event.data or "").rpartition(":")[2].rstrip("}"))
        assert set(logged.values()) == {1}
        assert self.used == {where: used[where] for where in self.used}
        self._recount_checks(logged, used)
        self._recount_events(logged)

    def _recount_checks(self, logged: Counter[tuple[str, str]], used: Counter[tuple[str, str]]) -> None:
        acknowledged = self.checks.counted.union(*(client.counted for client in self.capped))
        by_gate = {id for source, id in logged if source == "tollkeeper:gate"}
        assert acknowledged <= by_gate
        assert len(by_gate - acknowledged) <= self.checks.unknown + sum(client.unknown for client in self.capped)
        named = {id for source, id in logged if source == "tollkeeper:check"}
        assert named == self.named.counted.keys()
        costs = sum(self.named.counted.values())
        least = costs + len(self.checks.counted)
        assert least <= used[self.open_customer, "api_calls"] <= least + self.checks.unknown
        # asked until refused: the quota is full, and not by one call more
        assert used[self.capped_customer, "api_calls"] == QUOTA

    def _recount_events(self, logged: Counter[tuple[str, str]]) -> None:
        sent = set().union(*(client.sent for client in self.events))
        counted = set().union(*(client.counted for client in self.events))
        accepted = [number for client in self.events for number in client.accepted]
        assert len(accepted) == len(set(accepted))
        assert sent == counted  # what had no answer was sent again
        assert {id for source, id in logged if source == "default"} == {name_id(n % 3, n) for n in counted}


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_what_a_killed_server_answered_is_counted_exactly_once(installation: Installation) -> None:
    chance = random.Random(11)
    for _ in range(ROUNDS):
        code = installation.run_until(chance.randrange(1, 250), signal.SIGKILL, chance.uniform(0, 0.03))
        assert code == -signal.SIGKILL
    installation.finish()
    installation.recount()
    assert len(installation.named.counted) > ROUNDS
    assert len(installation.events[0].counted) > 10 * ROUNDS
    assert sum(client.refused for client in installation.capped) > 0


def test_a_server_that_is_told_to_stop_loses_no_answer_and_leaves_the_way_free_for_the_next(
    installation: Installation,
) -> None:
    for answers in (1, 100):
        assert installation.run_until(answers, signal.SIGTERM) == 0
        with Tollkeeper(str(installation.folder / "toll.db")) as app:  # the files are free at once
            wal = Path(f"{app.files.usage}-wal")
            assert not wal.exists() or wal.stat().st_size == 0  # and nothing is left to recover
    installation.finish()
    installation.recount()
