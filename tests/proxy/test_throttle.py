"""An upstream that cannot keep up is asked less, the callers held back are told when to come again, and nothing of theirs is counted."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from .commands import curl, free_port, run, running
from .conftest import Stage, staged


@pytest.fixture
async def adaptive(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path, adaptive=4) as up:
        yield up


async def call(stage: Stage, path: str = "/x") -> tuple[int, dict[str, str], str]:
    async with stage.client.get(stage.url + path, headers=stage.auth()) as answer:
        body = await answer.text()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, body


async def test_beyond_what_the_upstream_bears_callers_get_503_and_pay_nothing(adaptive: Stage) -> None:
    release, asked = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(request: web.Request) -> web.StreamResponse:
        asked.release()
        await release.wait()
        return web.json_response({})

    adaptive.upstream.handle = slow
    waiting = [asyncio.create_task(call(adaptive)) for _ in range(3)]  # a plan of weight 50 may use 3 of 4
    for _ in range(3):
        await asked.acquire()
    status, headers, body = await call(adaptive)
    assert (status, '"overloaded"' in body) == (503, True)
    assert int(headers["retry-after"]) >= 1
    release.set()
    assert [answer[0] for answer in await asyncio.gather(*waiting)] == [200] * 3
    assert adaptive.used() == "3"
    account = adaptive.toll.gate.account_of("live", "acme")
    assert account is not None
    assert [total.used for total in account.totals.values() if total.used] == [3 * 10**9]
    throttle = adaptive.proxy.throttle
    assert throttle is not None
    assert (throttle.in_flight, throttle.shed) == (0, 1)
    assert adaptive.proxy.counts.calls["overloaded"] == 1


async def test_every_way_to_end_gives_its_place_back(adaptive: Stage) -> None:
    throttle = adaptive.proxy.throttle
    assert throttle is not None

    async def broken(request: web.Request) -> web.StreamResponse:
        status = int(request.path.rpartition("/")[2])
        if status == 0:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=status or 200)

    adaptive.upstream.handle = broken
    before = throttle.limit
    for path, status in (("/200", 200), ("/404", 404), ("/500", 500)):
        assert (await call(adaptive, path))[0] == status
        assert throttle.in_flight == 0
    assert throttle.limit >= before
    for path, status in (("/503", 503), ("/0", 502)):
        before = throttle.limit
        assert (await call(adaptive, path))[0] == status
        assert throttle.in_flight == 0
        assert throttle.limit < before or before == 1
    assert adaptive.used() == "1"


async def test_a_caller_who_leaves_gives_the_place_back(adaptive: Stage) -> None:
    throttle = adaptive.proxy.throttle
    assert throttle is not None
    asked = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        return web.Response()

    adaptive.upstream.handle = never
    waiting = asyncio.create_task(call(adaptive))
    await asked.wait()
    assert throttle.in_flight == 1
    waiting.cancel()
    for _ in range(10_000):
        if throttle.in_flight == 0:
            break
        await asyncio.sleep(0)
    assert (throttle.in_flight, adaptive.used()) == (0, "0")


async def test_without_it_every_call_is_passed_on(stage: Stage) -> None:
    assert stage.proxy.throttle is None
    assert {status for status, _, _ in await asyncio.gather(*(call(stage) for _ in range(50)))} == {200}


def test_the_how_to(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "adaptive.md").read_text()
    [command] = re.findall(r"```sh\ntollkeeper (.*?)\n```", page)
    [catalog] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "tollkeeper.toml").write_text(catalog)
    ports = [free_port() for _ in range(2)]
    env = {"PORT": str(ports[0]), "TOLLKEEPER_ADMIN_TOKEN": "admin-token-of-the-tests"}
    here = {**env, "TOLLKEEPER_URL": f"http://127.0.0.1:{ports[0]}"}
    words = command.replace("localhost:8000", "127.0.0.1:9").split()
    with running(tmp_path, *words, "--listen", f"127.0.0.1:{ports[1]}", **env) as proxy:
        proxy.wait_for_port(str(ports[1]))
        assert run(tmp_path, "catalog", "apply", "tollkeeper.toml", "--yes", **here).returncode == 0
        run(tmp_path, "customers", "create", "Ann", "--id", "ann", "--plan", "free", **here)
        key = json.loads(run(tmp_path, "keys", "create", "--customer", "ann", "--json", **here).stdout)["key"]
        answer = curl(f"curl http://127.0.0.1:{ports[1]}/ -H 'X-API-Key: {key}'")
        assert (answer.status, answer.json()["code"]) == (502, "upstream_unreachable")
        assert proxy.stop() == 0
