"""Bodies pass as they come, both ways; whoever goes away is noticed on the other side."""

from __future__ import annotations

import asyncio
import gzip
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tollkeeper.web.proxy_call import Call

from .conftest import Stage

WAIT = 10


async def until(true: Callable[[], bool]) -> None:
    """Let everything run until something is so."""
    async with asyncio.timeout(WAIT):
        while not true():  # noqa: ASYNC110 - what is waited for happens in code that has no event of its own
            await asyncio.sleep(0)


async def test_each_server_sent_event_passes_before_the_next_is_made(stage: Stage) -> None:
    released = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: 1\n\n")
        await released.wait()
        await answer.write(b"data: 2\n\n")
        return answer

    stage.upstream.handle = handle
    async with asyncio.timeout(WAIT), stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert await answer.content.readany() == b"data: 1\n\n"
        assert stage.used() == "1"
        released.set()
        assert await answer.content.read() == b"data: 2\n\n"
    assert stage.used() == "1"


async def test_an_upload_passes_while_it_is_sent(stage: Stage) -> None:
    """The upstream reads the first part before the client sends the second."""
    first = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        assert await request.content.readany() == b"one"
        first.set()
        return web.Response(body=await request.content.read())

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        await first.wait()
        yield b"two"

    stage.upstream.handle = handle
    async with asyncio.timeout(WAIT), stage.client.post(f"{stage.url}/", headers=stage.auth(), data=parts()) as answer:
        assert (answer.status, await answer.read()) == (200, b"two")
    assert stage.upstream.seen[0].headers["Transfer-Encoding"] == "chunked"


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_large_body_comes_back_whole(stage: Stage, chunked: bool) -> None:
    body = bytes(range(256)) * 16_000

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        if not chunked:
            answer.content_length = request.content_length
        await answer.prepare(request)
        async for chunk in request.content.iter_any():
            await answer.write(chunk)
        return answer

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 300_000):
            yield body[at : at + 300_000]

    stage.upstream.handle = handle
    async with stage.client.post(
        f"{stage.url}/", headers=stage.auth(), data=parts() if chunked else io.BytesIO(body)
    ) as answer:
        assert await answer.read() == body
    assert ("Content-Length" in stage.upstream.seen[0].headers) is not chunked


async def test_a_client_that_does_not_read_stops_the_upstream(stage: Stage) -> None:
    """Of an endless answer only what the buffers hold is taken from the upstream."""
    written = turns_without = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal written, turns_without
        answer = web.StreamResponse()
        await answer.prepare(request)
        while written < 1 << 28:
            await answer.write(b"x" * 65_536)
            written, turns_without = written + 65_536, 0
        return answer

    def stalled() -> bool:
        nonlocal turns_without
        turns_without += 1
        return written == 1 << 28 or (written > 0 and turns_without > 2_000)

    stage.upstream.handle = handle
    _, writer = await asyncio.open_connection("127.0.0.1", stage.port, limit=1024)
    writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: {stage.key}\r\n\r\n".encode())
    await until(stalled)
    assert written < 1 << 26
    writer.transport.abort()


async def test_the_time_until_the_answer_does_not_run_while_the_client_sends(stage: Stage) -> None:
    class Deadline:
        at: float | None = 0.0

        def reschedule(self, when: float | None) -> None:
            self.at = when

    seen: list[float | None] = []
    sent = [b"one", b"two", b""]

    async def receive() -> Any:
        seen.append(deadline.at)
        if not sent:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": sent.pop(0), "more_body": bool(sent)}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    call = Call(stage.proxy, {"type": "http"}, receive, send)
    deadline: Any = Deadline()
    call._deadline = deadline
    running = [(chunk, deadline.at is not None) async for chunk in call._body()]
    assert running == [(b"one", True), (b"two", True)]
    assert seen == [None, None, None]
    assert deadline.at is not None


async def test_a_client_that_leaves_before_the_answer_cancels_the_upstream_and_pays_nothing(stage: Stage) -> None:
    cancelled, never = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        try:
            await never.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return web.Response()

    stage.upstream.handle = handle
    _, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: {stage.key}\r\n\r\n".encode())
    await until(lambda: len(stage.upstream.seen) == 1)
    writer.transport.abort()
    async with asyncio.timeout(WAIT):
        await cancelled.wait()
    await until(lambda: stage.proxy.counts.in_flight == 0)
    assert stage.used() == "0"
    assert stage.proxy.counts.calls == {"CLIENT_GONE": 1}


async def test_a_client_that_leaves_within_the_answer_cancels_the_upstream_and_has_paid(stage: Stage) -> None:
    cancelled, never = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"one")
        try:
            await never.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return answer

    stage.upstream.handle = handle
    async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
        assert await answer.content.readany() == b"one"
    async with asyncio.timeout(WAIT):
        await cancelled.wait()
    await until(lambda: stage.proxy.counts.in_flight == 0)
    assert stage.used() == "1"


async def test_a_client_that_leaves_within_its_upload_cancels_the_upstream(stage: Stage) -> None:
    ended = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        try:
            await request.content.read()
        finally:
            ended.set()
        return web.Response()

    stage.upstream.handle = handle
    _, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(f"POST / HTTP/1.1\r\nHost: x\r\nX-API-Key: {stage.key}\r\nContent-Length: 9\r\n\r\nhalf".encode())
    await until(lambda: len(stage.upstream.seen) == 1)
    writer.transport.abort()
    async with asyncio.timeout(WAIT):
        await ended.wait()
    await until(lambda: stage.proxy.counts.in_flight == 0)
    assert stage.used() == "0"
    assert stage.proxy.counts.calls == {"CLIENT_GONE": 1}


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_an_upstream_that_breaks_off_is_not_mistaken_for_a_whole_answer(stage: Stage, framing: str) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        if framing == "length":
            answer.content_length = 10
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return answer

    stage.upstream.handle = handle
    async with stage.client.get(f"{stage.url}/", headers=stage.auth()) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert stage.proxy.counts.calls["UPSTREAM_BROKE"] == 1


async def test_an_early_refusal_of_the_upstream_reaches_a_client_that_still_sends(stage: Stage) -> None:
    never = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=413, text="too large")

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        await never.wait()

    stage.upstream.handle = handle
    async with asyncio.timeout(WAIT), stage.client.post(f"{stage.url}/", headers=stage.auth(), data=parts()) as answer:
        assert (answer.status, await answer.text()) == (413, "too large")
    await until(lambda: stage.proxy.counts.in_flight == 0)
    assert stage.used() == "0"


async def test_compressed_bodies_pass_as_they_are(stage: Stage) -> None:
    body = gzip.compress(b"hello" * 1000)

    async def handle(request: web.Request) -> web.Response:
        assert await request.content.read() == b"hello" * 1000  # the upstream's server unpacks, the proxy does not
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    stage.upstream.handle = handle
    sent = {**stage.auth(), "Content-Encoding": "gzip"}
    async with stage.client.post(f"{stage.url}/", headers=sent, data=body) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert await answer.read() == body
    assert stage.upstream.seen[0].headers["Content-Length"] == str(len(body))


async def test_head_passes_the_length_without_a_body(stage: Stage) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 77)

    stage.upstream.handle = handle
    async with stage.client.head(f"{stage.url}/", headers=stage.auth()) as answer:
        assert (answer.status, answer.headers["Content-Length"], await answer.read()) == (200, "77", b"")
    async with stage.client.head(f"{stage.url}/") as answer:
        assert (answer.status, await answer.read()) == (401, b"")
    assert stage.used() == "1"


async def test_continue_is_sent_to_an_allowed_upload_only(stage: Stage) -> None:
    def head(key: str) -> bytes:
        return f"POST / HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n".encode()

    async def handle(request: web.Request) -> web.Response:
        assert "Expect" not in request.headers
        return web.Response(body=await request.content.read(), headers={"Connection": "close"})

    stage.upstream.handle = handle
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    async with asyncio.timeout(WAIT):
        writer.write(head(stage.key))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await reader.readuntil(b"abc")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    refused = await stage.wire(head("junk"))
    assert refused.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in refused
    assert len(stage.upstream.seen) == 1
