"""The whole HTTP surface over fresh files, called in process with any bytes, and what must hold after every call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spine import Spine
from tollkeeper.server import Server
from tollkeeper.settings import Settings
from tollkeeper.web.errors import ERRORS

ADMIN_TOKEN = "admin-token-of-the-fuzzer"
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
quotas = [{meter = "api_calls", limit = "1000000", kind = "hard"}]
"""
CUSTOMER = "cus_fuzz"
ADMIN = ((b"authorization", b"Bearer " + ADMIN_TOKEN.encode()),)
JSON = ((b"content-type", b"application/json"),)

Headers = Sequence[tuple[bytes, bytes]]


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Surface:
    def __init__(self, folder: Path) -> None:
        self.spine = Spine(folder, CATALOG)
        self.app = self.spine.app
        self.spine.customer("pro", id=CUSTOMER)
        self.key = self.spine.key(CUSTOMER)
        settings = Settings.load({"TOLLKEEPER_ADMIN_TOKEN": ADMIN_TOKEN}, folder)
        self.asgi = Server(self.app, settings).app
        self.runner = asyncio.Runner()

    def close(self) -> None:
        self.runner.close()
        self.app.close()

    def call(
        self,
        path: str,
        *chunks: bytes,
        method: str = "POST",
        headers: Headers = (*ADMIN, *JSON),
        query: bytes = b"",
        gone: bool = False,
    ) -> Answer:
        """Send, receive, and hold the answer and the state against each other. `gone`: the client leaves before the last chunk's end."""
        before = self.app.usage_file.reader.last_seq()
        answer = self.runner.run(self._call(path, chunks or (b"",), method, headers, query, gone))
        hold_answer(answer, method)
        self.app.usage_file.writer.call(lambda log: None)  # after what was answered early
        assert self.app.usage_file.reader.last_seq() - before == counted(answer)
        self.hold_totals()
        return answer

    async def _call(
        self, path: str, chunks: Sequence[bytes], method: str, headers: Headers, query: bytes, gone: bool
    ) -> Answer:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query,
            "headers": list(headers),
            "client": ("203.0.113.9", 40000),
            "server": ("127.0.0.1", 3000),
            "state": {},
        }
        last = len(chunks) - 1
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": gone or index < last}
            for index, chunk in enumerate(chunks)
        ]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.asgi(scope, receive, send)
        assert [message["type"] for message in sent[:2]] == ["http.response.start", "http.response.body"]
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return Answer(sent[0]["status"], dict(sent[0]["headers"]), body)

    def hold_totals(self) -> None:
        """What the gate counts with in memory is what the rollups say: a refused request left nothing behind."""
        for (environment, customer), account in list(self.app.gate._accounts.items()):
            stored = self.app.usage_file.reader.totals(environment, customer, account.start, account.end)
            kept = {meter: total.used for meter, total in account.totals.items() if total.used}
            assert kept == {meter: used for meter, used in stored.items() if used}


def hold_answer(answer: Answer, method: str) -> None:
    """Never a 5xx; a refusal is problem+json with a known code and the request's id."""
    assert answer.status < 500, answer
    if answer.status >= 400 and method != "HEAD":
        assert answer.headers[b"content-type"] == b"application/problem+json", answer
        problem = answer.json
        assert problem["code"] in ERRORS
        assert problem["status"] == answer.status
        assert problem["detail"]
        assert problem["request_id"] == answer.headers[b"x-request-id"].decode()


def counted(answer: Answer) -> int:
    """How many events an answer acknowledges for the first time."""
    if answer.status != 200 or not answer.headers.get(b"content-type", b"").startswith(b"application/json"):
        return 0
    body = answer.json
    if "results" in body:
        statuses = [result["status"] for result in body["results"]]
        for status in ("accepted", "duplicate", "conflict", "rejected"):
            assert body[status] == statuses.count(status)
        assert [result["index"] for result in body["results"]] == list(range(len(statuses)))
        return statuses.count("accepted")
    return int(body.get("event_id") is not None)
