"""Clients of a server that may be killed at any moment. Each remembers an answer before it sends the next request."""

from __future__ import annotations

import http.client
import json
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ADMIN_TOKEN = "admin-token-of-the-crash-test"


def name_id(kind: int, number: int) -> str:
    """The same number gives the same id: text, a random UUID, one that carries its time."""
    if kind == 0:
        return f"order-{number}"
    value = uuid.uuid5(uuid.NAMESPACE_URL, str(number)).int
    if kind == 1:
        return str(uuid.UUID(int=value, version=4))
    return str(uuid.UUID(int=(1_790_000_000_000 + number) << 80 | 7 << 76 | 2 << 62 | (value & (1 << 62) - 1)))


def post(connection: http.client.HTTPConnection, path: str, body: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def get(port: int, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, body
    return body


@dataclass
class Client:
    """`pending` is a request without an answer: it is sent again before anything else. `run` returns when the server is gone."""

    seed: int
    chance: random.Random = field(init=False)
    pending: Any = None
    asked_before: bool = False

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def run(self, port: int, answered: Callable[[], None], stop: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not stop.is_set():
            if self.pending is None:
                self.pending, self.asked_before = self.next(), False
            try:
                status, answer = post(connection, self.path(), self.pending)
            except (OSError, http.client.HTTPException, ValueError):
                self.asked_before = True
                self.unanswered()
                connection.close()
                return
            if status == 503:  # it is stopping, and says that nothing was recorded
                connection.close()
                return
            assert status == 200, answer
            self.remember(answer)
            self.pending = None
            answered()
        connection.close()

    def path(self) -> str:
        return "/v1/check"

    def next(self) -> Any:
        raise NotImplementedError

    def remember(self, answer: Any) -> None:
        raise NotImplementedError

    def unanswered(self) -> None:
        """By default the same request is sent again."""


@dataclass
class Checks(Client):
    """Checks without an id: one without an answer may have counted, and is never sent again."""

    key: str = ""
    counted: set[str] = field(default_factory=set)
    unknown: int = 0
    refused: int = 0

    def next(self) -> Any:
        return {"key": self.key, "meter": "api_calls"}

    def remember(self, answer: Any) -> None:
        if answer["code"] == "VALID":
            assert answer["event_id"] not in self.counted
            self.counted.add(answer["event_id"])
        else:
            assert answer["code"] == "QUOTA_EXCEEDED"
            assert answer["quota"]["used"] == answer["quota"]["limit"]
            self.refused += 1

    def unanswered(self) -> None:
        self.unknown += 1
        self.pending = None


@dataclass
class ChecksWithId(Client):
    """Checks with an id, some sent twice on purpose. `counted`: id → cost."""

    key: str = ""
    counted: dict[str, int] = field(default_factory=dict)
    number: int = 0

    def next(self) -> Any:
        if self.counted and self.chance.random() < 0.2:
            id = self.chance.choice(list(self.counted))
            return {"key": self.key, "meter": "api_calls", "id": id, "cost": str(self.counted[id])}
        self.number += 1
        id = name_id(self.number % 3, self.seed * 10**6 + self.number)
        return {"key": self.key, "meter": "api_calls", "id": id, "cost": str(1 + self.number % 3)}

    def remember(self, answer: Any) -> None:
        assert answer["code"] == "VALID"
        id, cost = self.pending["id"], int(self.pending["cost"])
        if answer["event_id"] is None:
            assert id in self.counted or self.asked_before
        else:
            assert id not in self.counted
        self.counted[id] = cost


@dataclass
class Events(Client):
    """Batches of events; numbers are shared with the other senders, so ids meet. `counted`: ids that are counted for certain."""

    customer: str = ""
    counted: set[int] = field(default_factory=set)
    sent: set[int] = field(default_factory=set)
    accepted: list[int] = field(default_factory=list)

    def path(self) -> str:
        return "/v1/events"

    def next(self) -> Any:
        numbers = [self.chance.randrange(40_000) for _ in range(self.chance.choice((1, 5, 40)))]
        self.sent.update(numbers)
        return [
            {
                "id": name_id(n % 3, n),
                "type": "llm.completion",
                "customer": self.customer,
                "data": {"tokens": n % 7, "n": n},
            }
            for n in numbers
        ]

    def remember(self, answer: Any) -> None:
        assert len(answer["results"]) == len(self.pending)
        for event, result in zip(self.pending, answer["results"], strict=True):
            number = event["data"]["n"]
            if result["status"] == "accepted":
                self.accepted.append(number)
            else:
                assert result["status"] == "duplicate", result
            self.counted.add(number)
