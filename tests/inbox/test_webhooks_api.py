"""`/v1/webhooks/events` and the metrics: what is told of the inbox."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from spine import SECOND
from tollkeeper.integrations.metrics import make_registry

from .conftest import ADMIN, Post
from .parts import event, written


async def ask(post: Post, method: str, path: str, body: Any = None, token: str = ADMIN) -> tuple[int, Any]:
    def asking() -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", post.port, timeout=30)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        return answer.status, told

    return await asyncio.to_thread(asking)


async def test_a_list_is_newest_first_in_pages_that_miss_and_repeat_nothing(post: Post) -> None:
    sent = []
    for number in range(7):
        made = event("invoice.paid" if number % 2 else "charge.refunded")
        await post.send(made)
        sent.append(made["id"])
        post.time.move(SECOND * (number % 3))  # some arrive in the same microsecond
    seen: list[str] = []
    cursor = ""
    while True:
        status, page = await ask(post, "GET", f"/v1/webhooks/events?limit=3{cursor}")
        assert status == 200
        seen += [one["id"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(seen) == sorted(sent)
    assert seen == [one.id for one in reversed(post.stored())]
    _, paid = await ask(post, "GET", "/v1/webhooks/events?type=invoice.paid&status=pending")
    assert {one["id"] for one in paid["data"]} == set(sent[1::2])
    for cursor in ("x", "1.", ".e", "-1.e", "9" * 30 + ".e", "1%2E5"):
        status, told = await ask(post, "GET", f"/v1/webhooks/events?cursor={cursor}")
        assert status == (200 if cursor == "1%2E5" else 400), told


async def test_one_event_is_shown_with_its_bytes(post: Post) -> None:
    made = event(note='\\ud800 "é" ')
    await post.send(made)
    status, shown = await ask(post, "GET", f"/v1/webhooks/events/{made['id']}")
    assert status == 200
    assert shown["payload"].encode() == written(made)
    assert (shown["status"], shown["attempts"], shown["processed_at"]) == ("pending", 0, None)
    assert (await ask(post, "GET", "/v1/webhooks/events/evt_none"))[0] == 404
    assert (await ask(post, "GET", "/v1/webhooks/events", token="no"))[0] == 401


async def test_a_replay_makes_pending_and_one_of_the_other_mode_is_refused(post: Post) -> None:
    mine, other = event(), event(live=True)
    await post.send(mine)
    await post.send(other)
    with post.toll.database.write() as rows:
        found = rows.inbox.get("stripe", mine["id"])
        assert found is not None
        rows.inbox.settle(found, "dead", 1, "no")
    assert (await ask(post, "POST", "/v1/webhooks/replay", {"status": "dead"})) == (200, {"replayed": 1})
    status, again = await ask(post, "POST", f"/v1/webhooks/events/{mine['id']}/replay", {})
    assert (status, again["status"], again["error"]) == (200, "pending", None)
    status, problem = await ask(post, "POST", f"/v1/webhooks/events/{other['id']}/replay", {})
    assert (status, problem["code"]) == (409, "conflict")
    assert (await ask(post, "POST", "/v1/webhooks/events/evt_none/replay", {}))[0] == 404


async def test_every_number_of_the_inbox_is_a_metric(post: Post) -> None:
    made = event()
    await post.send(made)
    await post.send(made)
    await post.send(event(), at=1)
    post.time.move(90 * SECOND)

    def shown() -> dict[Any, float]:
        text = generate_latest(make_registry(post.server._sources())).decode()
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    found = shown()
    assert found[("tollkeeper_webhooks_received_total",)] == 1
    assert found[("tollkeeper_webhooks_repeated_total",)] == 1
    assert found["tollkeeper_webhooks_refused_total", "stale"] == 1
    assert found[("tollkeeper_provider_events_caught_total",)] == 0
    assert found[("tollkeeper_inbox_pending",)] == 1
    assert found[("tollkeeper_inbox_dead",)] == 0
    assert found[("tollkeeper_inbox_oldest_pending_seconds",)] == 90
    assert found["tollkeeper_background_runs_total", "inbox"] == 0
    post.toll.database.close()
    assert ("tollkeeper_inbox_pending",) not in shown()
