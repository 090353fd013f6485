"""Bytes that two servers could read in two ways never reach the second one."""

from __future__ import annotations

import asyncio

import pytest

from .conftest import Stage

HOST = b"Host: api.test\r\n"
END = b"Connection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

REFUSED: dict[str, tuple[int, bytes]] = {
    "length and chunked": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\nX"),
    "chunked and length": (400, b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\nX"),
    "two lengths": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nXX"),
    "the same length twice": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nX"),
    "a list of lengths": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\nX"),
    "a signed length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\nX"),
    "a hexadecimal length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\nX"),
    "an unknown coding": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "chunked not last": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "two codings": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunked twice": (400, b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n"),
    "a tab before the coding": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    "a space before the colon": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    "chunked in HTTP/1.0": (400, b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n"),
    "a folded line": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\r\n c\r\n" + END),
    "a bare line feed": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\nX-B: c\r\n" + END),
    "a bare carriage return": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\rX-B: c\r\n" + END),
    "a NUL": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\0\r\n" + END),
    "a field without a name": (400, b"GET / HTTP/1.1\r\n" + HOST + b": x\r\n" + END),
    "no host": (400, b"GET / HTTP/1.1\r\n" + END),
    "two hosts": (400, b"GET / HTTP/1.1\r\n" + HOST + HOST + END),
    "a host with a path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n" + END),
    "a target without a path": (400, b"OPTIONS * HTTP/1.1\r\n" + HOST + END),
    "a bare authority": (400, b"GET http://evil.test HTTP/1.1\r\n" + HOST + END),
    "a space in the target": (400, b"GET /a b HTTP/1.1\r\n" + HOST + END),
    "bytes beyond ASCII in the target": (400, b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + END),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "CONNECT": (400, b"CONNECT evil.test:443 HTTP/1.1\r\n" + HOST + END),
    "TRACE": (405, b"TRACE / HTTP/1.1\r\n" + HOST + END),
    "a WebSocket": (501, b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    "a head that is too large": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 200_000 + b"\r\n" + END),
    "a head without end": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 400_000),
}


@pytest.mark.parametrize("shape", REFUSED)
async def test_a_shape_that_smuggles_is_refused_and_goes_nowhere(stage: Stage, shape: str) -> None:
    status, request = REFUSED[shape]
    line, _, rest = request.partition(b"\r\n")
    answer = await stage.wire(line + b"\r\nX-API-Key: " + stage.key.encode() + b"\r\n" + rest)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer[:300]
    assert b"application/problem+json" in head
    assert b"x-request-id: req_" in head.lower()
    assert b"connection: close" in head.lower()
    assert b'"request_id"' in body
    assert b"HTTP/1.1" not in body.replace(b"no HTTP/1.1 request", b"").replace(b"HTTP/1.1 is", b"").replace(
        b"in HTTP/1.1", b""
    )
    assert stage.upstream.seen == []
    assert stage.used() == "0"


async def test_a_body_that_turns_out_malformed_is_refused_once_and_not_counted(stage: Stage) -> None:
    request = f"POST / HTTP/1.1\r\nHost: x\r\nX-API-Key: {stage.key}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n"
    answer = await stage.wire(request.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 2  # the status line, and the detail that names the protocol
    assert stage.used() == "0"


async def test_a_large_body_that_comes_with_its_head_is_no_large_head(stage: Stage) -> None:
    request = f"POST / HTTP/1.1\r\nHost: x\r\nX-API-Key: {stage.key}\r\nContent-Length: 100000\r\n\r\n" + "x" * 100_000
    last = f"GET /last HTTP/1.1\r\nHost: x\r\nX-API-Key: {stage.key}\r\nConnection: close\r\n\r\n"
    answer = await stage.wire((request * 3 + last).encode())
    assert answer.count(b"HTTP/1.1 200 ") == 4


async def test_a_head_that_comes_in_pieces_is_bounded_as_a_whole(stage: Stage) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    answer = asyncio.create_task(reader.readline())
    async with asyncio.timeout(10):
        while not answer.done():
            writer.write(b"X-A: " + b"a" * 1000 + b"\r\n")
            await asyncio.sleep(0)
        assert (await answer).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_requests_on_one_connection_are_answered_in_order(stage: Stage) -> None:
    request = f"GET /{{}} HTTP/1.1\r\nHost: x\r\nX-API-Key: {stage.key}\r\n{{}}\r\n"
    answer = await stage.wire(
        "".join([request.format(n, "Connection: close\r\n" if n == 4 else "") for n in range(5)]).encode()
    )
    assert [answer.find(b'{"path": "/%d"}' % n) > 0 for n in range(5)] == [True] * 5
    assert [request.raw_path for request in stage.upstream.seen] == [f"/{n}" for n in range(5)]
    assert stage.used() == "5"


@pytest.mark.parametrize(
    "target", ["//evil.test/x", "/a/../../b/./c", "/@evil.test:80/", '/a|b"<>^`{}?x=[]|"{}^`<>', "/%2e%2e/%zz?%"]
)
async def test_a_target_goes_on_as_it_was_sent(stage: Stage, target: str) -> None:
    answer = await stage.wire(
        f"GET {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {stage.key}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [request.raw_path for request in stage.upstream.seen] == [target]
    assert stage.upstream.seen[0].headers["Host"] == stage.upstream.url.removeprefix("http://")


async def test_an_absolute_target_goes_to_the_upstream_and_nowhere_else(stage: Stage) -> None:
    answer = await stage.wire(
        f"GET http://evil.test/secret?x=1 HTTP/1.1\r\nHost: x\r\nX-API-Key: {stage.key}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [request.raw_path for request in stage.upstream.seen] == ["/secret?x=1"]
