"""A real server process on a real file, and clients that note what they were told."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tollkeeper.bootstrap import Tollkeeper

TOKEN = "tk_admin_for-the-tests-of-operation"
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


@dataclass
class Place:
    """A folder with a database that has one customer with one key."""

    folder: Path
    customer: str
    key: str

    @property
    def url(self) -> str:
        return str(self.folder / "toll.db")

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOLLKEEPER_", "OTEL_"))}
        return kept | {
            "TOLLKEEPER_DATABASE_URL": f"sqlite:///{self.url}",
            "TOLLKEEPER_ADMIN_TOKEN": TOKEN,
            "TOLLKEEPER_LOG_FORMAT": "json",
            "PORT": "0",
            **more,
        }

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tollkeeper", *words],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
        )

    def logged(self) -> list[str]:
        """Ids of the events in the log, of a server that has ended."""
        with Tollkeeper(self.url) as app:
            return [event.id for event in app.usage_file.reader.events()]


def make_place(folder: Path) -> Place:
    with Tollkeeper(str(folder / "toll.db")) as app:
        app.catalog.apply(CATALOG)
        customer = app.customers.create(name="Ann", plan="pro").customer.id
        return Place(folder, customer, app.keys.create(customer=customer).key)


@dataclass
class Served:
    """A running server. `log` is what it wrote to standard error, once it has ended."""

    process: subprocess.Popen[str]
    port: int
    log_path: Path

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {"authorization": f"Bearer {TOKEN}"} if headers is None else headers
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]


@contextmanager
def serving(place: Place, **environment: str) -> Iterator[Served]:
    """Ends the server with SIGTERM unless the block did, and requires that it ends well."""
    log_path = place.folder / "server.log"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tollkeeper", "serve"],
            cwd=place.folder,
            env=place.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"listens on http://127\.0\.0\.1:(\d+)", line):
                yield Served(process, int(found[1]), log_path)
                break
        else:
            raise AssertionError(log_path.read_text())
        process.terminate()
        assert process.wait(30) == 0, log_path.read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass
class Load:
    """Clients that check and send events as fast as they are answered. `acknowledged`: ids of what was answered with success."""

    served: Served
    place: Place
    clients: int = 4
    acknowledged: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)]
        self._stop = threading.Event()
        self._enough = threading.Condition()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Until that many more were acknowledged."""
        wanted = len(self.acknowledged) + count
        with self._enough:
            assert self._enough.wait_for(lambda: len(self.acknowledged) >= wanted, 60)

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=30)
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        sent, run = 0, self.served.process.pid
        while not self._stop.is_set():
            sent += 1
            id = f"event-{run}-{number}-{sent}"
            if sent % 2:
                path, body = "/v1/check", json.dumps({"key": self.place.key, "meter": "api_calls"})
            else:
                event = {"id": id, "type": "llm.completion", "customer": self.place.customer, "data": {"tokens": 3}}
                path, body = "/v1/events", json.dumps([event])
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                break  # the server is gone, and what was under way with it
            if answer.status != 200:
                self.refused.append(answer.status)
                continue
            told = json.loads(text)
            if path == "/v1/check":
                assert told["code"] == "VALID"
                id = told["event_id"]
            else:
                assert told["accepted"] == 1
            with self._enough:
                self.acknowledged.append(id)
                self._enough.notify_all()
        connection.close()
