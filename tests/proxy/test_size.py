"""A call whose size is known afterwards: reserved before, read from the answer as it passes, counted once, as much as it came to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
from aiohttp import ClientError, web
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.front import require_meters
from tollkeeper.web.proxy_options import ProxyOptions
from tollkeeper.web.proxy_size import MOST_JSON, Sized, SizeReader, read_sized
from tollkeeper.web.rules import read_rules

from .conftest import Handler, Stage, staged

Up = Callable[[str], AbstractAsyncContextManager[Stage]]
JSON = "json:usage.total_tokens"


@pytest.fixture
def up(tmp_path: Path) -> Up:
    def made(source: str, amount: str = "400") -> AbstractAsyncContextManager[Stage]:
        sized = read_sized(f"tokens={amount}", source)
        rules = read_rules("tokens", amount, ["/health"], ["/models=tokens:0", "/calls=api_calls", "/short=tokens:7"])
        return staged(tmp_path, sized=sized, rules=rules)

    return made


async def call(stage: Stage, path: str = "/x", **headers: str) -> tuple[int, bytes]:
    async with stage.client.post(stage.url + path, data=b"{}", headers={**stage.auth(), **headers}) as answer:
        return answer.status, await answer.read()


def held(stage: Stage) -> int:
    """What the quota has lost so far, in whole units: recorded and held."""
    account = stage.toll.gate.account_of("live", "acme")
    assert account is not None
    entry = stage.toll.meters.current.by_key["tokens"]
    return account.total(entry.number).used // 10**9


def answering(**options: Any) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(**options)

    return handle


def completion(tokens: object) -> dict[str, Any]:
    return {"text": json.dumps({"usage": {"total_tokens": tokens}}), "content_type": "application/json"}


@pytest.mark.parametrize(
    ("source", "answer", "used"),
    [
        (JSON, completion(123), "123"),
        (JSON, completion("12.5"), "12.5"),
        (JSON, completion(0.25), "0.25"),
        (JSON, completion(0), "0"),
        (JSON, completion(5000), "5000"),  # above what was reserved, and above the quota
        ("json:0.n", {"text": '[{"n": 3}]', "content_type": "application/json"}, "3"),
        ("header:X-Tokens-Used", {"headers": {"x-tokens-used": "77"}}, "77"),
        ("bytes", {"body": b"x" * 321}, "321"),
        ("bytes", {"status": 204}, "0"),
    ],
)
async def test_it_counts_what_the_answer_tells(up: Up, source: str, answer: dict[str, Any], used: str) -> None:
    async with up(source) as stage:
        stage.upstream.handle = answering(**answer)
        assert (await call(stage))[0] == answer.get("status", 200)
        assert stage.used("tokens") == used
        assert held(stage) == int(float(used))
        assert (stage.proxy.counts.counted, stage.proxy.counts.unread) == (1, 0)
        assert len(stage.toll.gate.holds) == 0


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        (JSON, completion(None)),
        (JSON, completion(-1)),
        (JSON, completion(True)),
        (JSON, completion("many")),
        (JSON, completion("1e9999")),
        (JSON, {"text": '{"usage": {"total_tokens": ', "content_type": "application/json"}),
        (JSON, {"text": "[" * 100_000 + '"total_tokens"', "content_type": "application/json"}),
        (JSON, {"text": '{"usage": {"total_tokens": 5}}', "content_type": "text/plain"}),
        (JSON, {"text": '{"usage":{"total_tokens":5}}' + " " * MOST_JSON, "content_type": "application/json"}),
        (JSON, {"body": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip", "Content-Type": "application/json"}}),
        ("header:X-Tokens-Used", {}),
        ("header:X-Tokens-Used", {"headers": {"X-Tokens-Used": "-5"}}),
    ],
)
async def test_a_size_that_cannot_be_read_counts_what_was_reserved_and_is_told(
    up: Up, source: str, answer: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with up(source) as stage:
        stage.upstream.handle = answering(**answer)
        assert (await call(stage))[0] == 200
        assert (stage.used("tokens"), held(stage), stage.proxy.counts.unread) == ("400", 400, 1)
    assert f"cannot be read by {source.lower() if 'header' in source else source}" in caplog.text


async def test_seconds_are_what_the_call_took_and_no_less(up: Up) -> None:
    async with up("seconds") as stage:
        loop = asyncio.get_running_loop()

        async def slow(request: web.Request) -> web.StreamResponse:
            passed = asyncio.Event()
            loop.call_later(0.01, passed.set)
            await passed.wait()
            return web.Response()

        stage.upstream.handle = slow
        before = loop.time()
        assert (await call(stage))[0] == 200
        assert 0.01 <= float(stage.used("tokens")) <= loop.time() - before + 0.001


class Stream:
    """An upstream that sends what it is told to, piece by piece, and ends, or breaks off."""

    def __init__(self, kind: str = "text/event-stream") -> None:
        self.kind = kind
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.ended = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": self.kind})
        try:
            await response.prepare(request)
            while (piece := await self.pieces.get()) is not None:
                if piece == b"break":
                    assert request.transport is not None
                    request.transport.abort()
                    break
                await response.write(piece)
        finally:
            self.ended.set()
        return response


@contextlib.asynccontextmanager
async def streaming(stage: Stage, stream: Stream) -> AsyncIterator[Any]:
    stage.upstream.handle = stream.handle
    async with stage.client.get(stage.url + "/x", headers=stage.auth()) as answer:
        yield answer


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
async def test_of_a_stream_the_last_event_with_the_number_tells_it_and_each_piece_passes_as_it_comes(
    up: Up, newline: bytes
) -> None:
    async with up(JSON) as stage:
        stream = Stream()
        events = [
            b'data: {"delta":"He","usage":null}',
            b': total_tokens 9\ndata: {"usage":{"total_tokens":3}}'.replace(b"\n", newline),
            b'event: x\ndata: {"usage":\ndata: {"total_tokens": 41}}'.replace(b"\n", newline),
            b"data: [DONE]",
        ]
        async with streaming(stage, stream) as answer:
            for event in events:
                whole = event + newline + newline
                for piece in (whole[:7], whole[7:]):
                    stream.pieces.put_nowait(piece)
                    assert await answer.content.readexactly(len(piece)) == piece  # before the next one is sent
                assert (stage.used("tokens"), held(stage)) == ("0", 400)
            stream.pieces.put_nowait(None)
            assert await answer.content.read() == b""
        assert (stage.used("tokens"), held(stage), stage.proxy.counts.unread) == ("41", 41, 0)


async def test_of_lines_of_json_the_last_tells_it_also_without_its_end(up: Up) -> None:
    async with up("json:eval_count") as stage:
        stream = Stream("application/x-ndjson")
        async with streaming(stage, stream) as answer:
            for piece in (b'{"done":false}\n{"done":tr', b'ue,"eval_count":19}', None):
                stream.pieces.put_nowait(piece)
            await answer.read()
        assert stage.used("tokens") == "19"


@pytest.mark.parametrize(
    ("source", "used", "unread"), [(JSON, "400", 1), ("bytes", "33", 0), ("header:Date", "400", 1)]
)
async def test_a_client_that_leaves_in_the_middle_pays_what_is_known_or_what_was_reserved(
    up: Up, source: str, used: str, unread: int
) -> None:
    async with up(source) as stage:
        stream = Stream()
        async with streaming(stage, stream) as answer:
            stream.pieces.put_nowait(b'data: {"usage":{"total_tokens":3}}'[:31] + b"\n\n")
            await answer.content.readexactly(33)
            answer.close()
        await asyncio.wait_for(stream.ended.wait(), 20)
        await _until(lambda: stage.proxy.counts.in_flight == 0)
        assert (stage.used("tokens"), stage.proxy.counts.unread) == (used, unread)
        assert stage.proxy.counts.calls["CLIENT_GONE"] == 1
        assert len(stage.toll.gate.holds) == 0


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came")


@pytest.mark.parametrize("source", [JSON, "bytes", "seconds"])
async def test_an_upstream_that_breaks_off_is_not_paid_for(up: Up, source: str) -> None:
    async with up(source) as stage:
        stream = Stream()
        async with streaming(stage, stream) as answer:
            stream.pieces.put_nowait(b'data: {"usage":{"total_tokens":3}}\n\n')
            await answer.content.readexactly(36)
            stream.pieces.put_nowait(b"break")
            with pytest.raises(ClientError):
                await answer.content.read()
        await _until(lambda: stage.proxy.counts.in_flight == 0)
        assert (stage.used("tokens"), held(stage), len(stage.toll.gate.holds)) == ("0", 0, 0)
        assert stage.proxy.counts.calls["UPSTREAM_BROKE"] == 1


async def test_a_failure_a_refusal_and_an_upstream_that_is_away_give_the_hold_back(up: Up) -> None:
    async with up(JSON) as stage:
        for status in (404, 429, 500, 302):
            stage.upstream.handle = answering(status=status, **completion(5))
            assert (await call(stage))[0] == status
            assert (held(stage), len(stage.toll.gate.holds)) == (0, 0)
        async with stage.client.post(stage.url + "/x", headers={"X-API-Key": "tk_live_no"}) as answer:
            assert answer.status == 401
        await stage.upstream.runner.cleanup()
        assert (await call(stage))[0] == 502
        assert (stage.used("tokens"), held(stage), len(stage.toll.gate.holds)) == ("0", 0, 0)


async def test_what_is_held_no_other_call_can_use_and_what_is_not_used_is_free_again(up: Up) -> None:
    async with up(JSON) as stage:  # 400 of 1,000
        stream = Stream("application/json")
        stage.upstream.handle = stream.handle
        waiting = [asyncio.create_task(call(stage)) for _ in range(2)]
        await _until(lambda: len(stage.toll.gate.holds) == 2)
        refused = await call(stage)
        assert (refused[0], json.loads(refused[1])["code"]) == (429, "QUOTA_EXCEEDED")
        for piece in (b'{"usage":{"total_tokens":10}}', None) * 2:
            stream.pieces.put_nowait(piece)
        # one queue serves both: whatever each got, both end
        assert [status for status, _ in await asyncio.gather(*waiting)] == [200, 200]
        stage.upstream.handle = answering(**completion(1))
        assert (await call(stage))[0] == 200


async def test_only_calls_of_that_meter_are_sized(up: Up) -> None:
    async with up(JSON) as stage:
        stage.upstream.handle = answering(**completion(5))
        async with stage.client.get(stage.url + "/health") as answer:
            assert answer.status == 200
        assert [(await call(stage, path))[0] for path in ("/models", "/calls")] == [200, 200]
        assert (stage.used("tokens"), stage.used("api_calls")) == ("0", "1")
        stage.upstream.handle = answering()
        assert (await call(stage, "/short"))[0] == 200
        assert stage.used("tokens") == "7"  # reserved at this path, and no size to be read


async def test_the_upstream_is_asked_for_json_that_is_not_compressed(up: Up) -> None:
    for source, sent in ((JSON, "identity"), ("bytes", "gzip")):
        async with up(source) as stage:
            await call(stage, **{"Accept-Encoding": "gzip"})
            assert stage.upstream.seen[0].headers.getall("Accept-Encoding") == [sent]


async def test_a_commit_that_fails_breaks_the_answer_off_and_can_be_made_up_for(
    up: Up, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with up(JSON) as stage:

        def full(groups: Any) -> Any:
            raise apsw.FullError("database or disk is full")

        stream = Stream()
        with monkeypatch.context() as patched:
            patched.setattr(stage.toll.usage_file.writer.log, "append", full)
            async with streaming(stage, stream) as answer:
                stream.pieces.put_nowait(b'data: {"usage":{"total_tokens":3}}\n\n')
                stream.pieces.put_nowait(None)
                with pytest.raises(ClientError):
                    await answer.content.read()
            stage.upstream.handle = answering(**completion(5) | {"text": ""})
            assert (await call(stage))[0] == 503  # nothing of it had been sent
        assert (stage.used("tokens"), held(stage)) == ("0", 800)
        told, _ = [record for record in caplog.records if record.levelno == logging.ERROR and "size" in record.message]
        quantity, token = told.args or ("", "")
        made = await asyncio.to_thread(partial(stage.toll.reservations.commit, str(token), str(quantity)))
        assert (made.status, stage.used("tokens"), held(stage)) == ("accepted", "3", 403)


@given(st.lists(st.binary(max_size=30) | st.just(b'data: {"n":4}\n\n') | st.just(b'{"n":'), max_size=12), st.data())
def test_anything_in_any_pieces_is_read_alike(parts: list[bytes], data: st.DataObject) -> None:
    body = b"".join(parts)
    for kind in (b"text/event-stream", b"application/x-ndjson", b"application/json"):
        sizes = []
        for width in (max(len(body), 1), 1, data.draw(st.integers(1, 9))):
            reader = SizeReader(Sized("tokens", 1, "json", "n"))
            reader.head([(b"Content-Type", kind)])
            for at in range(0, len(body), width):
                reader.feed(body[at : at + width])
            sizes.append(reader.size(0.0, ended=True))
        assert len(set(sizes)) == 1


@pytest.mark.parametrize(
    ("reserve", "source"),
    [
        ("tokens=5", None),
        (None, "bytes"),
        ("tokens", "bytes"),
        ("=5", "bytes"),
        ("tokens=0", "bytes"),
        ("tokens=-1", "bytes"),
        ("tokens=x", "bytes"),
        ("tokens=5", "bites"),
        ("tokens=5", "bytes:x"),
        ("tokens=5", "header:"),
        ("tokens=5", "header:X Y"),
        ("tokens=5", "json:"),
        ("tokens=5", "json:a..b"),
    ],
)
def test_what_cannot_be_meant_is_refused(reserve: str | None, source: str | None) -> None:
    with pytest.raises(InvalidRequest):
        read_sized(reserve, source)
    assert read_sized(None, None) is None


async def test_a_meter_that_cannot_hold_it_is_refused_before_anything_starts(up: Up) -> None:
    async with up(JSON) as stage:
        rules = read_rules("tokens", "1")
        for reserve, source, count_on in (("api_calls=1", "seconds", None), ("tokens=1", "bytes", "attempt")):
            options = ProxyOptions("http://127.0.0.1", rules, sized=read_sized(reserve, source), count_on=count_on)  # type: ignore[arg-type]
            with pytest.raises(InvalidRequest):
                require_meters(stage.toll, options)
