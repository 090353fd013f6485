"""`Gate.connect`: the same answers as `Gate.open`, exact over several processes, and what becomes of calls while the server is away."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

import tollkeeper
from tollkeeper.client import Unreachable as NoAnswer
from tollkeeper.connected import ConnectedGate
from tollkeeper.core.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    StorageUnavailable,
    Unauthorized,
    Unreachable,
)
from tollkeeper.core.events import UsageEvent

from . import surfaces
from .conftest import ADMIN_TOKEN, Stage

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def url(stage: Stage) -> Iterator[str]:
    with stage.served() as url:
        yield url


@pytest.fixture
def gate(url: str) -> Iterator[ConnectedGate]:
    with tollkeeper.Gate.connect(url, ADMIN_TOKEN) as gate:
        yield gate


def quota(stage: Stage) -> str:
    """What is used of the quota, counted or held."""
    found = stage.gate.check(stage.key, "api_calls", 0).quota
    assert found is not None
    return found.used


def test_it_offers_what_an_open_gate_offers() -> None:
    def offered(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(method).parameters) for name, method in methods if name[0] != "_"}

    assert offered(ConnectedGate) == offered(tollkeeper.Gate)


def test_a_decision_tells_the_same_as_an_open_gates(stage: Stage, gate: ConnectedGate) -> None:
    ours = stage.gate.check(stage.key, "api_calls", 2)
    told = gate.check(stage.key, "api_calls", 2)
    assert (told.code, told.allowed, told.status) == ("VALID", True, 200)
    assert (told.who.customer, told.who.key_id, told.who.plan, told.who.environment) == (
        ours.who.customer,
        ours.who.key_id,
        ours.who.plan,
        ours.who.environment,
    )
    assert ours.quota is not None
    assert told.quota is not None
    assert (told.quota.used, told.quota.remaining, told.quota.resets_at) == ("4", "296", ours.quota.resets_at)
    assert told.rate_limits[0].remaining == ours.rate_limits[0].remaining - 1
    assert told.request_id == f"req_{told.ulid}"
    assert told.event_id is not None
    assert told.as_dict()["code"] == "VALID"
    assert stage.used() == "4"


def test_a_refusal_tells_when_to_come_back(stage: Stage, gate: ConnectedGate) -> None:
    key = stage.new_key("slow").key
    assert [gate.check(key, "api_calls").code for _ in range(3)] == ["VALID", "VALID", "RATE_LIMITED"]
    ours, told = stage.gate.check(key, "api_calls"), gate.check(key, "api_calls")
    assert (told.retry_after(), told.explain()) == (ours.retry_after(), ours.explain())
    assert dict(told.headers())["retry-after"] == dict(ours.headers())["retry-after"]
    problem = told.problem()
    assert problem is not None
    assert (problem["status"], problem["retry_after"]) == (429, ours.retry_after())


def test_what_was_judged_counts_once_or_is_given_back(stage: Stage, gate: ConnectedGate) -> None:
    counted, returned = gate.judge(stage.key, "api_calls", 3), gate.judge(stage.key, "api_calls", 5)
    assert (quota(stage), stage.used()) == ("8", "0")
    for _ in range(2):
        gate.count(counted)
        gate.refund(counted)
        gate.refund(returned)
        gate.count(returned)
    assert (quota(stage), stage.used()) == ("3", "3")
    assert returned.quota is not None
    assert returned.quota.used == "3"


def test_a_reservation_is_committed_by_its_token(stage: Stage, gate: ConnectedGate) -> None:
    held = gate.reserve(stage.key, "api_calls", 10)
    gate.count(held)
    assert held.reservation is not None
    for status in ("accepted", "duplicate"):
        made = gate.commit(held.reservation, 4)
        assert (made.status, made.quantity, made.customer) == (status, "4", "acme")
    assert gate.release(held.reservation).released == "0"
    with pytest.raises(Conflict):
        gate.commit(held.reservation, 5)
    with pytest.raises(InvalidRequest):
        gate.release("rsv_nonsense")
    assert (quota(stage), stage.used()) == ("4", "4")


def test_usage_and_events_are_the_same_on_both_sides(stage: Stage, gate: ConnectedGate) -> None:
    event = UsageEvent("1", "api.call", customer="acme")
    results = gate.record([event, {"id": "1", "type": "api.call", "customer": "acme"}, {"id": "2", "type": "api.call"}])
    assert [(r.status, r.meters) for r in results[:2]] == [("accepted", ("api_calls",)), ("duplicate", ("api_calls",))]
    assert results[2].code == "customer_missing"
    start = 1_790_000_000_000_000
    for query in ({}, {"customer": "acme", "window": "day"}, {"start": start, "end": start, "group_by": ("customer",)}):
        assert gate.usage("api_calls", **query) == stage.gate.usage("api_calls", **query)
    with pytest.raises(NotFound):
        gate.usage("nothing")


@pytest.mark.parametrize(
    "fault",
    [{"key": 5}, {"meter": ["a"]}, {"cost": 1.5}, {"cost": "x"}, {"cost": Decimal("snan")}, {"cost": -1}, {"id": ""}],
)
def test_a_malformed_check_is_refused_and_counts_nothing(stage: Stage, gate: ConnectedGate, fault: Any) -> None:
    with pytest.raises(InvalidRequest):
        gate.check(**{"key": stage.key, "meter": "api_calls", **fault})
    with pytest.raises(NotFound, match="no meter"):
        gate.check(stage.key, "nothing")
    assert quota(stage) == "0"


def test_junk_is_refused_without_asking(stage: Stage) -> None:
    with tollkeeper.Gate.connect(NOWHERE, "token") as gate:
        assert gate.check("junk", "api_calls").code == "NOT_FOUND"
        assert gate.judge("", "api_calls").code == "NOT_FOUND"


def test_each_environment_has_its_token(stage: Stage, url: str) -> None:
    tokens = [stage.gate.toll.keys.create(kind="server", scopes=["check"], environment=e).key for e in ("live", "test")]
    test_key = stage.new_key("acme", environment="test").key
    with tollkeeper.Gate.connect(url, tokens[0]) as gate:
        assert gate.check(test_key, "api_calls").code == "NOT_FOUND"
    with tollkeeper.Gate.connect(url, tokens[0], test_token=tokens[1]) as gate:
        for key in (test_key, stage.key):
            gate.count(gate.judge(key, "api_calls"))
            held = gate.reserve(key, "api_calls", 2).reservation
            assert held is not None
            assert gate.release(held).released == "2"
    assert (stage.used(environment="test"), stage.used()) == ("1", "1")


async def test_an_event_loop_goes_on_while_the_server_thinks(stage: Stage, gate: ConnectedGate) -> None:
    with stage.stalled():
        waiting = asyncio.create_task(gate.check_async(stage.key, "api_calls"))
        assert (await gate.check_async(stage.key, "api_calls", 0)).allowed
        assert not waiting.done()
    assert (await waiting).allowed
    decision = await gate.judge_async(stage.key, "api_calls")
    await gate.count_async(decision)
    await gate.refund_async(await gate.judge_async(stage.key, "api_calls", 7))
    assert (quota(stage), stage.used()) == ("2", "2")


async def test_whoever_is_cancelled_while_being_judged_holds_nothing(stage: Stage, gate: ConnectedGate) -> None:
    asked, answer = threading.Event(), threading.Event()
    released = asyncio.Event()
    loop, ask, release = asyncio.get_running_loop(), gate._ask, gate._release

    def slow_ask(*args: Any) -> Any:
        decision = ask(*args)
        asked.set()
        answer.wait()
        return decision

    def told_release(decision: Any) -> None:
        release(decision)
        loop.call_soon_threadsafe(released.set)

    gate._ask, gate._release = slow_ask, told_release  # type: ignore[method-assign]
    task = asyncio.create_task(gate.judge_async(stage.key, "api_calls", 7))
    await asyncio.to_thread(asked.wait)
    assert quota(stage) == "7"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer.set()
    await released.wait()
    assert (quota(stage), stage.used()) == ("0", "0")


def lost_once(ask: Callable[..., Any]) -> Callable[..., Any]:
    """The first answer is lost on its way back."""
    answers = iter([True])

    def asked(*args: Any, **kwargs: Any) -> Any:
        answer = ask(*args, **kwargs)
        if next(answers, False):
            raise NoAnswer("the answer was lost")
        return answer

    return asked


def test_a_commit_whose_answer_was_lost_is_repeated_and_counts_once(stage: Stage, gate: ConnectedGate) -> None:
    decision = gate.judge(stage.key, "api_calls")
    gate.client.commit = lost_once(gate.client.commit)  # type: ignore[method-assign]
    gate.count(decision)
    assert (quota(stage), stage.used()) == ("1", "1")


def test_a_server_that_is_away_closes_the_gate(stage: Stage) -> None:
    with tollkeeper.Gate.connect(NOWHERE, "token") as gate:
        for ask in (gate.check, gate.judge):
            with pytest.raises(Unreachable, match="refuses the connection"):
                ask(stage.key, "api_calls")
        for surface in (surfaces.asgi, surfaces.wsgi, surfaces.flask):
            app = surface(gate)
            answer = app.get("/", stage.auth())
            problem = answer.json()
            assert (answer.status, problem["code"], answer.headers["retry-after"]) == (503, "gate_unreachable", "1")
            assert "127.0.0.1" not in str(problem)
            assert app.calls == []


def test_a_server_that_is_away_opens_the_gate_where_that_is_wished_and_says_how_often(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    with tollkeeper.Gate.connect(NOWHERE, "token", away="open") as gate:
        app = surfaces.asgi(gate)
        assert (app.get("/who", stage.auth()).json()["who"][:2], app.get("/").status) == ([None, None], 401)
        assert (gate.unjudged, gate.uncounted) == (1, 0)
        assert "let through unjudged" in caplog.text


@pytest.mark.parametrize(("away", "status", "uncounted"), [("closed", 503, 0), ("open", 200, 1)])
def test_a_server_that_goes_away_during_a_call(stage: Stage, url: str, away: Any, status: int, uncounted: int) -> None:
    with tollkeeper.Gate.connect(url, ADMIN_TOKEN, away=away) as gate:

        def gone(*args: Any) -> Any:
            raise NoAnswer("gone")

        gate.client.commit = gate.client.release = gone  # type: ignore[method-assign]
        assert surfaces.wsgi(gate).get("/", stage.auth()).status == status
        assert gate.uncounted == uncounted
    assert (quota(stage), stage.used()) == ("1", "0")  # held until it lapses


def test_a_commit_that_the_server_could_not_write_holds_nothing(stage: Stage, gate: ConnectedGate) -> None:
    decision = gate.judge(stage.key, "api_calls")
    with stage.full_disk(), pytest.raises(StorageUnavailable):
        gate.count(decision)
    assert (quota(stage), stage.used()) == ("0", "0")


def test_a_token_that_is_none_is_told_to_the_owner_and_not_to_the_client(
    stage: Stage, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with tollkeeper.Gate.connect(url, "wrong") as gate:
        with pytest.raises(Unauthorized):
            gate.check(stage.key, "api_calls")
        answer = surfaces.asgi(gate).get("/", stage.auth())
        assert (answer.status, answer.json()["code"]) == (500, "internal_error")
        assert "token is not known" in caplog.text
    for wrong in ({"url": "nowhere"}, {"token": "a\nb"}, {"away": "ajar"}):
        with pytest.raises(InvalidRequest):
            tollkeeper.Gate.connect(**{"url": url, "token": "t", **wrong})


def test_several_processes_with_several_threads_admit_exactly_the_quota(stage: Stage, url: str) -> None:
    code = """if True:
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from tollkeeper import Gate
        url, token, key = sys.argv[1:]
        with Gate.connect(url, token) as gate, ThreadPoolExecutor(4) as pool:
            def call(n):
                decision = gate.judge(key, "api_calls")
                if n % 2:
                    gate.refund(decision)
                    decision = gate.judge(key, "api_calls")
                gate.count(decision)
                return decision.allowed
            print(sum(pool.map(call, range(12))))
    """
    key = stage.new_key("poor").key
    command = [sys.executable, "-W", "error", "-c", code, url, ADMIN_TOKEN, key]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    admitted = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(admitted) == int(stage.used(customer="poor"))
    assert stage.gate.check(key, "api_calls", 8 - sum(admitted)).code == "QUOTA_EXCEEDED"
    more = [stage.gate.check(key, "api_calls").allowed for _ in range(8)]
    assert (sum(admitted) + sum(more), stage.used(customer="poor")) == (7, "7")


def test_it_goes_on_in_a_process_that_was_forked(stage: Stage, url: str) -> None:
    code = """if True:
        import asyncio, os, sys
        from tollkeeper import Gate
        url, token, key = sys.argv[1:]
        gate = Gate.connect(url, token)
        async def check():
            return (await gate.check_async(key, "api_calls")).code
        print(gate.check(key, "api_calls").code, asyncio.run(check()), flush=True)
        if os.fork() == 0:
            print(gate.check(key, "api_calls").code, asyncio.run(check()), flush=True)
            os._exit(0)
        os.wait()
        print(gate.check(key, "api_calls").code, asyncio.run(check()), flush=True)
    """
    command = [sys.executable, "-c", code, url, ADMIN_TOKEN, stage.key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["VALID VALID"] * 3, done.stderr
    assert stage.used() == "6"


def test_connecting_loads_no_storage() -> None:
    code = "import sys, tollkeeper; tollkeeper.Gate.connect('http://127.0.0.1:1', 't'); print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for package in ("apsw", "sqlalchemy", "fastapi", "uvicorn", "aiohttp"):
        assert f"'{package}'" not in out
