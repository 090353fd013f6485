"""A check that the protocol answers itself is answered as the application would, whatever the connection does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import apsw
import pytest

from listening import listening
from spine import CATALOG
from tollkeeper.server import Server, opened
from tollkeeper.settings import Settings
from tollkeeper.web.direct import Direct, Exchange

ADMIN = "admin-token-of-the-tests"


class Wire:
    """A server on a socket. `taken` counts the checks that were answered without a task, `left` those handed to the application."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.toll = server.toll
        self.toll.catalog.apply(CATALOG)
        self.customer = self.toll.customers.create(name="Ann", plan="pro").customer.id
        self.key = self.toll.keys.create(customer=self.customer).key
        self.port = 0
        self.taken = self.left = 0
        self._writers: list[asyncio.StreamWriter] = []
        app: Any = server.app
        app.direct = {(b"POST", b"/v1/check"): self._counted(app.direct[b"POST", b"/v1/check"])}
        app.direct_below = [(method, begin, self._counted(direct)) for method, begin, direct in app.direct_below]

    def _counted(self, direct: Direct) -> Direct:
        def counted(exchange: Exchange) -> bool:
            taken = direct(exchange)
            self.taken += taken
            self.left += not taken
            return taken

        return counted

    def request(
        self, *lines: str, version: str = "1.1", token: str = ADMIN, path: str = "/v1/check", **fields: Any
    ) -> bytes:
        body = json.dumps({"key": self.key, "meter": "api_calls", **fields})
        head = [
            f"POST {path} HTTP/{version}",
            "Host: toll.test",
            f"Authorization: Bearer {token}",
            "Content-Type: application/json",
            *lines,
        ]
        if not any(line.startswith("Transfer-Encoding") for line in lines):
            head.append(f"Content-Length: {len(body)}")
        return ("\r\n".join(head) + "\r\n\r\n" + body).encode()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        """The clients' ends."""
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ask(self, *parts: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
        """One request on a connection of its own, in so many writes."""
        reader, writer = await self.connect()
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        return await answer(reader)

    def used(self) -> str:
        return self.toll.usage.query("api_calls", customer=self.customer).total


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict[str, Any]]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    body = await asyncio.wait_for(reader.readexactly(int(headers["content-length"])), 20)
    return int(head[0].split()[1]), headers, json.loads(body)


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    settings = Settings.load({"PORT": "0", "TOLLKEEPER_ADMIN_TOKEN": ADMIN}, tmp_path)
    async with AsyncExitStack() as stack:
        site = Wire(stack.enter_context(opened(settings)))
        url = await stack.enter_async_context(listening(site.server.app, plain=False))
        site.port = int(url.rpartition(":")[2])
        stack.push_async_callback(site.close)
        yield site


async def test_a_key_met_for_the_first_time_goes_to_the_application_and_then_no_more(wire: Wire) -> None:
    for taken, left in ((0, 1), (1, 1), (2, 1)):
        status, headers, body = await wire.ask(wire.request())
        assert (status, body["code"], headers["x-request-id"]) == (200, "VALID", body["request_id"])
        assert (wire.taken, wire.left) == (taken, left)
    assert wire.used() == "3"


async def test_both_ways_give_the_same_answers_and_the_same_headers(wire: Wire) -> None:
    wire.toll.gate.load(wire.key)
    wrong = {"meter": "nothing"}
    ways: list[dict[str, Any]] = [
        {},
        wrong,
        {"cost": "x"},
        {"extra": 1},
        {"key": "tk_live_" + "0" * 36},
        {"token": "no"},
    ]
    ways += [
        {"durable": False},
        {"meter": None},
        {"scope": "write"},
        {"id": ""},
        {"cost": "1e400"},
        {"reserve": True},
        {"reserve": True, "id": "x"},
    ]
    for fields in ways:
        before = wire.taken
        mine = await wire.ask(wire.request(**fields))
        assert wire.taken == before + 1
        theirs = await wire.ask(wire.request("Connection: close", **fields))
        assert wire.taken == before + 1
        assert mine[0] == theirs[0]
        assert sorted(theirs[1]) == sorted([*mine[1], "connection"])
        for one in (mine[2], theirs[2]):
            for changing in ("request_id", "event_id", "quota", "reservation"):
                one.pop(changing, None)
                (one.get("problem") or {}).pop(changing, None)
        assert mine[2] == theirs[2]


async def test_a_request_that_comes_byte_by_byte_counts_once(wire: Wire) -> None:
    wire.toll.gate.load(wire.key)
    request = wire.request()
    status, _, body = await wire.ask(*(request[i : i + 1] for i in range(len(request))))
    assert (status, body["code"], wire.used(), wire.taken) == (200, "VALID", "1", 1)


async def test_a_chunked_body_is_read_whole(wire: Wire) -> None:
    wire.toll.gate.load(wire.key)
    head, _, body = wire.request("Transfer-Encoding: chunked").partition(b"\r\n\r\n")
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7))
    status, _, decision = await wire.ask(head + b"\r\n\r\n" + pieces + b"0\r\n\r\n")
    assert (status, decision["code"], wire.used(), wire.taken) == (200, "VALID", "1", 1)


async def test_requests_in_one_packet_are_answered_in_their_order(wire: Wire) -> None:
    wire.toll.gate.load(wire.key)
    reader, writer = await wire.connect()
    health = b"GET /livez HTTP/1.1\r\nHost: toll.test\r\n\r\n"
    writer.write(
        wire.request(id="a" * 8) + wire.request(durable=False) + health + wire.request(cost="nonsense") + wire.request()
    )
    got = [await answer(reader) for _ in range(5)]
    assert [status for status, _, _ in got] == [200, 200, 200, 400, 200]
    assert [body.get("code") for _, _, body in got] == ["VALID", "VALID", None, "quantity_invalid", "VALID"]
    assert got[1][2]["pending"] is True
    writer.write(wire.request())
    assert (await answer(reader))[0] == 200
    assert wire.used() == "4"


async def test_who_sends_without_reading_is_waited_for_and_gets_every_answer(wire: Wire) -> None:
    wire.toll.gate.load(wire.key)
    reader, writer = await wire.connect()
    number = 3000
    sending = asyncio.create_task(_send(writer, wire.request(durable=False) * number))
    got = [await answer(reader) for _ in range(number)]
    await sending
    assert {status for status, _, _ in got} == {200}
    assert len({body["event_id"] for _, _, body in got}) == number
    await _until(lambda: wire.used() == str(number))


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


@pytest.mark.parametrize(
    ("lines", "version", "status"),
    [
        (("Connection: close",), "1.1", 200),
        ((), "1.0", 200),
        (("Expect: 100-continue",), "1.1", 100),
    ],
)
async def test_what_is_not_plain_goes_to_the_application(
    wire: Wire, lines: tuple[str, ...], version: str, status: int
) -> None:
    wire.toll.gate.load(wire.key)
    reader, writer = await wire.connect()
    writer.write(wire.request(*lines, version=version))
    line = await asyncio.wait_for(reader.readline(), 20)
    assert int(line.split()[1]) == status
    assert wire.taken == wire.left == 0
    if status == 100:
        await reader.readline()
        line = b""
    _, _, body = await answer(_put_back(reader, line))
    assert body["code"] == "VALID"
    assert wire.used() == "1"


def _put_back(reader: asyncio.StreamReader, line: bytes) -> asyncio.StreamReader:
    reader._buffer[:0] = line  # type: ignore[attr-defined]
    return reader


async def test_a_body_that_is_too_large_is_refused_and_counts_nothing(wire: Wire) -> None:
    wire.toll.gate.load(wire.key)
    status, _, body = await wire.ask(wire.request(extra="x" * 70_000))
    assert (status, body["code"], wire.used(), wire.taken) == (413, "too_large", "0", 0)


async def test_a_commit_that_fails_is_told_and_counts_nothing(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.toll.gate.load(wire.key)

    def full(groups: Any) -> Any:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(wire.toll.usage_file.writer.log, "append", full)
        status, headers, body = await wire.ask(wire.request())
        assert (status, body["code"], headers["retry-after"]) == (503, "storage_unavailable", "1")
        assert wire.taken == 1
    status, _, body = await wire.ask(wire.request())
    assert (status, body["quota"]["used"], wire.used()) == (200, "1", "1")


async def test_an_id_used_for_another_check_is_a_conflict_and_given_back(wire: Wire) -> None:
    wire.toll.gate.load(wire.key)
    for cost, status, used in ((1, 200, "1"), (1, 200, "1"), (2, 409, "1")):
        assert (await wire.ask(wire.request(id="call-1", cost=cost)))[0] == status
        assert wire.used() == used
    assert wire.taken == 3


@pytest.mark.parametrize("lines", [(), ("Connection: close",)], ids=["direct", "application"])
async def test_a_token_asks_only_within_its_scopes_and_about_keys_of_its_own_environment(
    wire: Wire, lines: tuple[str, ...]
) -> None:
    """However well the gate knows the key that is asked about, and the authenticator the token that asks."""
    keys = wire.toll.keys
    of_test = keys.create(customer=wire.customer, environment="test").key
    asks: list[tuple[str, str, int, str]] = [(ADMIN, wire.key, 200, "VALID"), (ADMIN, of_test, 200, "VALID")]
    for environment in ("live", "test"):
        token = keys.create(kind="server", scopes=["check"], environment=environment).key
        for key, own in ((wire.key, "live"), (of_test, "test")):
            asks.append((token, key, 200, "VALID" if own == environment else "NOT_FOUND"))
    strangers = (keys.create(kind="server", scopes=["usage:read"]).key, wire.key)
    asks += [(token, wire.key, 403, "forbidden") for token in strangers]
    for warm in (False, True):
        before = wire.taken
        for token, key, status, code in asks:
            answered, _, body = await wire.ask(wire.request(*lines, token=token, key=key))
            assert (answered, body["code"]) == (status, code)
        if warm:
            assert wire.taken - before == (0 if lines else len(asks))
    assert wire.used() == "4"


async def test_a_revoked_token_asks_no_more(wire: Wire) -> None:
    made = wire.toll.keys.create(kind="server", scopes=["check"])
    for _ in range(2):
        assert (await wire.ask(wire.request(token=made.key)))[0] == 200
    wire.toll.keys.revoke(made.record.id)
    for _ in range(2):
        assert (await wire.ask(wire.request(token=made.key)))[0] == 401
    assert wire.used() == "2"


class Held:
    """The writer's thread, held between two commits."""

    def __init__(self, wire: Wire) -> None:
        self._let_go = threading.Event()
        self._held = threading.Event()
        writer = wire.toll.usage_file.writer

        def hold(_: Any) -> None:
            self._held.set()
            self._let_go.wait()

        self._thread = threading.Thread(target=lambda: writer.call(hold))
        self._thread.start()
        self._held.wait()

    def let_go(self) -> None:
        self._let_go.set()
        self._thread.join()


async def _until(condition: Any) -> None:
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came")


async def test_a_client_that_leaves_before_the_commit_is_counted_once_and_harms_nobody(wire: Wire) -> None:
    wire.toll.gate.load(wire.key)
    held = Held(wire)
    _, leaving = await wire.connect()
    leaving.write(wire.request())
    await _until(lambda: wire.taken == 1)
    staying, writer = await wire.connect()
    writer.write(wire.request() + wire.request())
    await _until(lambda: wire.taken == 2)
    leaving.transport.abort()
    await asyncio.to_thread(held.let_go)
    assert [(await answer(staying))[0] for _ in range(2)] == [200, 200]
    assert wire.used() == "3"


async def test_a_stop_waits_for_the_commit_and_says_that_the_connection_closes(tmp_path: Path) -> None:
    settings = Settings.load({"PORT": "0", "TOLLKEEPER_ADMIN_TOKEN": ADMIN}, tmp_path)
    with opened(settings) as server:
        wire = Wire(server)
        wire.toll.gate.load(wire.key)
        held = Held(wire)
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(listening(server.app, plain=False))
            wire.port = int(url.rpartition(":")[2])
            reader, writer = await wire.connect()
            writer.write(wire.request())
            await _until(lambda: wire.taken == 1)
            closing = asyncio.create_task(stack.aclose())
            await _until(lambda: not _listens(wire.port))
            await asyncio.to_thread(held.let_go)
            status, headers, _ = await answer(reader)
            assert (status, headers["connection"]) == (200, "close")
            assert await reader.read() == b""
            await wire.close()
            await closing
        assert wire.used() == "1"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_retry_at_a_full_quota_is_answered_as_the_first_was(wire: Wire) -> None:
    free = wire.toll.customers.create(name="Bob", plan="free").customer.id
    key = wire.toll.keys.create(customer=free).key
    first = wire.request(key=key, id="last", cost=25, meter="api_calls")
    assert (await wire.ask(first))[2]["code"] == "VALID"
    refused = (await wire.ask(wire.request(key=key, id="other")))[2]
    assert refused["code"] == "QUOTA_EXCEEDED"
    again = (await wire.ask(first))[2]
    assert (again["code"], again["quota"]["used"], again["event_id"]) == ("VALID", "25", None)
    assert wire.toll.gate.decisions["live"] | {"VALID": 0, "QUOTA_EXCEEDED": 0} == dict.fromkeys(
        wire.toll.gate.decisions["live"], 0
    )
    assert wire.toll.gate.decisions["live"]["VALID"] == 2
    assert wire.toll.gate.decisions["live"]["QUOTA_EXCEEDED"] == 1
