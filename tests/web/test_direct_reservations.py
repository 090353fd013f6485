"""A commit and a release that the protocol answers itself, beside the same ones answered by the application."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import bodies
from listening import listening
from tollkeeper.server import opened
from tollkeeper.settings import Settings as Configured
from web.test_direct import ADMIN, Held, Wire, _until, answer, wire

__all__ = ["wire"]

JSON = "Content-Type: application/json"
CHANGING = ("request_id", "event_id", "x-request-id", "date", "connection", "content-length")


def reserved(wire: Wire, cost: int = 5, environment: str = "live") -> str:
    gate = wire.toll.gate
    key = wire.key if environment == "live" else wire.toll.keys.create(customer=wire.customer, environment="test").key
    decision = gate.judge(gate.find(key) or gate.load(key), "api_calls", cost)
    wire.toll.reservations.hold(decision)
    return str(decision.reservation)


def post(path: str, body: bytes | str = b"", *lines: str, token: str | None = ADMIN) -> bytes:
    body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    head = [f"POST {path} HTTP/1.1", "Host: toll.test", f"Content-Length: {len(body)}", *lines]
    if token is not None:
        head.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def commit(token: str, body: bytes | str, *lines: str, sender: str | None = ADMIN) -> bytes:
    return post(f"/v1/reservations/{token}/commit", body, *(lines or (JSON,)), token=sender)


async def test_a_commit_and_a_release_need_no_task(wire: Wire) -> None:
    token, other = reserved(wire), reserved(wire)
    status, headers, body = await wire.ask(commit(token, '{"quantity":"3"}'))
    assert (status, body["status"], body["reserved"], body["quantity"]) == (200, "accepted", "5", "3")
    assert headers["cache-control"] == "no-store"
    assert (await wire.ask(commit(token, "{}")))[0] == 409  # null is what was reserved, which is another quantity
    assert (await wire.ask(commit(token, '{"quantity":3}')))[2]["status"] == "duplicate"
    for released in ("5", "0"):
        status, _, body = await wire.ask(post(f"/v1/reservations/{other}/release"))
        assert (status, body["released"]) == (200, released)
    assert (wire.taken, wire.left, wire.used()) == (5, 0, "3")
    assert len(wire.toll.gate.holds) == 0


async def same(wire: Wire, request: bytes) -> tuple[int, dict[str, Any]]:
    """Ask in both ways, by a connection that stays and by one that closes, which the protocol leaves to the application."""
    first = await wire.ask(request)
    left = wire.left
    closing = request.replace(b"\r\nHost:", b"\r\nConnection: close\r\nHost:", 1)
    second = await wire.ask(closing)
    assert wire.left == left
    for _, headers, body in (first, second):
        for name in CHANGING:
            headers.pop(name, None)
            body.pop(name, None)
    assert first == second
    return first[0], first[2]


async def test_both_ways_give_the_same_answers(wire: Wire) -> None:
    token, spent = reserved(wire), reserved(wire, 2)
    assert (await wire.ask(commit(spent, "{}")))[0] == 200
    toll = wire.toll
    weak = toll.keys.create(kind="server", scopes=["usage:read"]).key
    of_test = toll.keys.create(kind="server", scopes=["check"], environment="test").key
    quantity = '{"quantity":"2"}'
    asks = [
        (200, commit(spent, "{}")),
        (200, commit(spent, quantity)),
        (200, commit(spent, '{"quantity":2}', "Content-Type: application/json; charset=utf-8")),
        (409, commit(spent, '{"quantity":"7"}')),
        (400, commit(token, '{"quantity":"-1"}')),
        (400, commit(token, '{"quantity":1.5}')),
        (400, commit(token, '{"quantity":true}')),
        (400, commit(token, '{"quantity":"x"}')),
        (400, commit(token, '{"quantity":1,"quantity":2}')),
        (400, commit(token, '{"quantity":1,"other":2}')),
        (400, commit(token, '{"quantity":' + "9" * 41 + "}")),
        (400, commit(token, "[]")),
        (400, commit(token, b"\xff")),
        (400, commit(token, "")),
        (415, commit(token, quantity, "X-Nothing: 1")),
        (415, commit(token, quantity, "Content-Type: text/plain")),
        (401, commit(token, quantity, sender=None)),
        (401, commit(token, quantity, sender="tk_live_nothing")),
        (403, commit(token, quantity, sender=weak)),
        (403, commit(token, quantity, sender=wire.key)),
        (404, commit(token, quantity, sender=of_test)),
        (400, commit("rsv_" + token[5:], quantity)),
        (400, commit(token[:-1], quantity)),
        (400, commit("pass_" + token.removeprefix("rsv_"), quantity)),
        (400, post(f"/v1/reservations/{token}/commit?quantity=1", quantity, JSON)),
        (404, post(f"/v1/reservations/{token}/commit/", quantity, JSON)),
        (404, post(f"/v1/reservations/{token}/take", quantity, JSON)),
        (400, post("/v1/reservations/rsv_/release")),
        (403, post(f"/v1/reservations/{token}/release", token=weak)),
    ]
    for status, request in asks:
        for _ in range(2):  # cold and warm
            assert (await same(wire, request))[0] == status, request
    assert len(toll.gate.holds) == 1
    assert wire.used() == "2"


BODIES = st.one_of(
    st.binary(max_size=40),
    bodies.VALUES.flatmap(bodies.written),
    bodies.VALUES.flatmap(lambda value: bodies.written({"quantity": value})),
    st.sampled_from(['{"quantity":"5"}', '{"quantity":5}', "{}", '{"quantity":null}', ' {"quantity" : "5"}\n']),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_sent_both_ways_answer_alike_and_count_alike(site: Any, data: st.DataObject) -> None:
    runner, wire = site
    runner.run(_alike(wire, data))


async def _alike(wire: Wire, data: st.DataObject) -> None:
    token = reserved(wire)
    way = data.draw(st.sampled_from(["commit", "commit", "commit", "release"]))
    mark = data.draw(st.one_of(st.just(token), st.text("rsv_AZaz09-%/.", max_size=12)))
    body = data.draw(BODIES)
    path, before = f"/v1/reservations/{mark}/{way}", int(wire.used())
    status, _, answered = await wire.ask(post(path, body, JSON))
    again, _, repeated = await wire.ask(post(path, body, JSON, "Connection: close"))
    assert again == status
    told, retold = {**answered}, {**repeated}
    if status == 200 and way == "commit":
        assert (told.pop("status"), retold.pop("status")) == ("accepted", "duplicate")
    elif status == 200:
        assert (told.pop("released"), retold.pop("released")) == ("5", "0")
    for one in (told, retold):
        one.pop("request_id", None)
    assert told == retold
    assert status < 500
    assert int(wire.used()) - before == (int(answered["quantity"]) if way == "commit" and status == 200 else 0)
    wire.toll.reservations.release(token)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("direct")
    configured = Configured.load({"PORT": "0", "TOLLKEEPER_ADMIN_TOKEN": ADMIN}, folder)
    with asyncio.Runner() as runner, opened(configured) as server:
        made = Wire(server)
        stack = AsyncExitStack()
        url = runner.run(stack.enter_async_context(listening(server.app, plain=False)))
        made.port = int(url.rpartition(":")[2])
        yield runner, made
        runner.run(made.close())
        runner.run(stack.aclose())


async def test_a_commit_that_the_log_does_not_take_is_told_and_held_again(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = reserved(wire)

    def full(groups: Any) -> Any:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(wire.toll.usage_file.writer.log, "append", full)
        status, headers, body = await wire.ask(commit(token, '{"quantity":4}'))
        assert (status, body["code"], headers["retry-after"]) == (503, "storage_unavailable", "1")
    assert (wire.taken, len(wire.toll.gate.holds), wire.used()) == (1, 1, "0")
    assert (await wire.ask(commit(token, '{"quantity":4}')))[2]["status"] == "accepted"
    assert (len(wire.toll.gate.holds), wire.used()) == (0, "4")


async def test_a_customer_who_must_be_read_goes_to_the_application_and_then_no_more(wire: Wire) -> None:
    tokens = [reserved(wire), reserved(wire)]
    wire.toll.gate.drop(wire.customer)
    for token, taken, left in zip(tokens, (0, 1), (1, 1), strict=True):
        assert (await wire.ask(commit(token, "{}")))[0] == 200
        assert (wire.taken, wire.left) == (taken, left)
    assert wire.used() == "10"


async def test_a_client_that_leaves_before_the_commit_has_committed_once(wire: Wire) -> None:
    token = reserved(wire)
    held = Held(wire)
    _, leaving = await wire.connect()
    leaving.write(commit(token, '{"quantity":3}'))
    await _until(lambda: wire.taken == 1)
    leaving.transport.abort()
    reader, writer = await wire.connect()
    writer.write(commit(token, '{"quantity":3}') * 2)
    await _until(lambda: wire.taken == 2)
    await asyncio.to_thread(held.let_go)
    assert [json.dumps((await answer(reader))[2]["status"]) for _ in range(2)] == ['"duplicate"'] * 2
    assert wire.used() == "3"
