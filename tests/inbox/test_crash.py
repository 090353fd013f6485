"""SIGKILL under load: whatever was answered 2xx is there afterwards, byte for byte."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from tollkeeper.bootstrap import Tollkeeper

from .desk import InboxDesk
from .parts import SECRET, event, send, signature, written

EFFECTS = Path(__file__).with_name("effect_child.py")
CHILD = Path(__file__).parents[1] / "proofs" / "server_child.py"
ROUNDS = 60 if os.environ.get("TOLLKEEPER_SOAK") else 4


class Sender(threading.Thread):
    """Sends webhooks, each until it is answered. `answered`: id → bytes."""

    def __init__(self, port: int, seed: int, told: threading.Semaphore) -> None:
        super().__init__()
        self.port, self.told = port, told
        self.chance = random.Random(seed)
        self.answered: dict[str, bytes] = {}

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            while True:
                made = event(padding="x" * self.chance.choice((0, 0, 10, 70_000)))
                raw = written(made)
                status, _ = send(self.port, raw, signature(raw, int(time.time())), connection)
                assert status == 200
                self.answered[made["id"]] = raw
                self.told.release()
        except (OSError, http.client.HTTPException):
            pass  # the server is gone
        finally:
            connection.close()


def test_what_was_answered_2xx_is_stored_after_a_kill(tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    (tmp_path / ".env").write_text(
        f"PORT={port}\nTOLLKEEPER_ADMIN_TOKEN=admin-token-of-the-crash-test\nTOLLKEEPER_DATABASE_URL=sqlite:///toll.db\n"
        f"TOLLKEEPER_LOG_LEVEL=error\nSTRIPE_WEBHOOK_SECRET={SECRET}\nSTRIPE_SECRET_KEY=sk_test_x\n"
    )
    chance = random.Random(5)
    answered: dict[str, bytes] = {}
    for turn in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, str(CHILD), str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline().startswith(b"Tollkeeper listens")
        told = threading.Semaphore(0)
        senders = [Sender(port, 10 * turn + n, told) for n in range(6)]
        for sender in senders:
            sender.start()
        for _ in range(chance.randrange(20, 200)):
            told.acquire()
        threading.Event().wait(chance.random() / 50)  # so that the kill is not in step with an answer
        child.send_signal(signal.SIGKILL)
        for sender in senders:
            sender.join()
            answered |= sender.answered
        child.wait()
    assert len(answered) >= 20 * ROUNDS
    with Tollkeeper(str(tmp_path / "toll.db")) as toll, toll.database.read() as rows:
        for id, raw in answered.items():
            stored = rows.inbox.get("stripe", id)
            assert stored is not None, id
            assert stored.payload == raw


def test_a_process_killed_anywhere_between_receipt_and_the_end_of_the_effect_applies_each_event_once(
    tmp_path: Path,
) -> None:
    desk = InboxDesk(tmp_path)
    ids = [desk.arrive(about=f"in_{n % 7}") for n in range(40)]
    desk.database.close()
    kills = 0
    for seed in range(1000):
        words = [sys.executable, str(EFFECTS), str(tmp_path), str(seed)]
        code = subprocess.run(
            words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    desk = InboxDesk(tmp_path)
    assert kills >= 5
    assert [desk.applied(id) for id in ids] == [1] * len(ids)
    assert {desk.get(id).status for id in ids} == {"done"}
    desk.database.close()
