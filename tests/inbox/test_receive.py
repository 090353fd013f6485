"""What arrives at /webhooks/stripe: stored byte for byte before the answer, or refused with a reason and nothing stored."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as listener

from .conftest import Post, open_post
from .parts import NOW, OTHER, event, signature, thin, written

ANSWER = {"received": True}


async def test_a_webhook_is_stored_byte_for_byte_and_answered(post: Post) -> None:
    made = event("customer.subscription.updated", about="sub_7")
    raw = written(made)
    assert 4_000 < len(raw) < 9_000
    assert await post.send(raw) == (200, ANSWER)
    [stored] = post.stored()
    assert stored.payload == raw
    assert (stored.provider, stored.id, stored.environment) == ("stripe", made["id"], "test")
    assert (stored.type, stored.object) == ("customer.subscription.updated", "sub_7")
    assert (stored.created_at, stored.received_at, stored.due_at) == (NOW * 10**6,) * 3
    assert (stored.status, stored.attempts, stored.error) == ("pending", 0, None)


async def test_the_same_event_again_is_answered_and_stored_once(post: Post) -> None:
    made = event()
    for _ in range(3):
        assert await post.send(made) == (200, ANSWER)
    assert [stored.id for stored in post.stored()] == [made["id"]]
    assert (post.inbox.received, post.inbox.repeated) == (1, 2)


async def test_fifty_copies_at_once_are_one_row(post: Post) -> None:
    made = event()
    answers = await asyncio.gather(*(post.send(made) for _ in range(50)))
    assert answers == [(200, ANSWER)] * 50
    assert len(post.stored()) == 1


async def test_a_thin_event_is_stored_with_what_it_is_about(post: Post) -> None:
    made = thin()
    assert await post.send(made) == (200, ANSWER)
    [stored] = post.stored()
    assert (stored.id, stored.object, stored.created_at) == (made["id"], "mtr_1", 1_790_000_000_246_000)


async def test_an_event_that_says_neither_its_mode_nor_its_time_is_of_the_mode_that_signed_it(post: Post) -> None:
    made = {key: value for key, value in event().items() if key not in ("livemode", "created")}
    assert await post.send(made) == (200, ANSWER)
    [stored] = post.stored()
    assert (stored.environment, stored.status, stored.created_at) == ("test", "pending", stored.received_at)


async def test_a_type_nobody_knows_is_stored(post: Post) -> None:
    assert await post.send(event("entirely.new.thing", about=None, data={})) == (200, ANSWER)
    assert [(stored.type, stored.object) for stored in post.stored()] == [("entirely.new.thing", None)]


async def test_a_large_webhook_goes_by_the_application_and_is_stored_too(post: Post) -> None:
    made = event(padding="x" * 700_000)
    assert await post.send(made) == (200, ANSWER)
    assert post.stored()[0].payload == written(made)


async def test_the_old_secret_signs_as_long_as_it_is_set(post: Post) -> None:
    assert await post.send(event(), secret=OTHER) == (200, ANSWER)


REFUSED: list[tuple[str, Any, dict[str, Any], str]] = [
    ("unsigned", event(), {"header": None}, "signature_missing"),
    ("no header", event(), {"header": "t=1"}, "signature_malformed"),
    ("forged", event(), {"secret": "whsec_of-somebody-else"}, "signature_mismatch"),
    ("stale", event(), {"at": NOW - 301}, "stale"),
    ("dated ahead", event(), {"at": NOW + 301}, "future"),
    ("truncated", written(event())[:-300], {}, "json"),
    ("empty", b"", {}, "json"),
    ("not UTF-8", written(event()).replace(b"endive", b"\xff\xfe"), {}, "encoding"),
    ("no object", b"[1, 2]", {}, "json"),
    ("without an id", {k: v for k, v in event().items() if k != "id"}, {}, "json"),
    ("an id of no length", event(id=""), {}, "json"),
    ("a long id", event(id="e" * 256), {}, "json"),
    ("an id with NUL", event(id="evt_\0"), {}, "json"),
    ("half a surrogate", written(event(id="evt_X")).replace(b"evt_X", b"\\ud800"), {}, "json"),
    ("a time that is none", event(created=-1), {}, "json"),
    ("a time without zone", event(created="2026-09-21T14:13:20"), {}, "json"),
    ("a time beyond any", event(created=10**30), {}, "json"),
    ("nested without end", b'{"a":' * 100_000, {}, "json"),
]


@pytest.mark.parametrize(("body", "how", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_what_is_not_signed_or_no_event_is_a_400_with_its_reason_and_leaves_nothing(
    post: Post, body: Any, how: dict[str, Any], reason: str
) -> None:
    status, problem = await post.send(body, **how)
    assert (status, problem["code"]) == (400, "webhook_invalid")
    assert post.stored() == []
    assert dict(post.inbox.refused) == {reason: 1}


async def test_more_than_a_mebibyte_is_a_413(post: Post) -> None:
    status, problem = await post.send(event(padding="x" * 1_100_000))
    assert (status, problem["code"], post.stored()) == (413, "too_large", [])
    assert dict(post.inbox.refused) == {"too_large": 1}


async def test_without_a_secret_the_address_is_not_there(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        post = await open_post(stack, tmp_path, secrets=None)
        status, problem = await post.send(event())
        assert (status, problem["code"], post.stored()) == (404, "not_found", [])
        assert "STRIPE_WEBHOOK_SECRET" in problem["detail"]


@pytest.mark.parametrize(("account", "live"), [("test", True), ("live", False)])
async def test_an_event_of_the_other_mode_is_kept_and_never_applied(tmp_path: Path, account: str, live: bool) -> None:
    async with AsyncExitStack() as stack:
        post = await open_post(stack, tmp_path, account=account)
        assert await post.send(event(live=live)) == (200, ANSWER)
        [stored] = post.stored()
        assert (stored.environment, stored.status) == ("live" if live else "test", "ignored")
        assert stored.error is not None
        assert f"{account} account" in stored.error


async def test_a_full_disk_is_a_503_that_stores_nothing_and_blames_no_signature(post: Post) -> None:
    engine = post.toll.database.engine
    pages = 0

    def limit(connection: sqlite3.Connection, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one() + 2
    listener.listen(engine, "checkout", limit)
    answers = [await post.send(event(padding="x" * n)) for n in (20_000, 300_000)]
    assert [(status, problem["code"]) for status, problem in answers] == [(503, "storage_unavailable")] * 2
    assert post.stored() == []
    assert dict(post.inbox.refused) == {"storage": 2}
    pages = 1 << 30
    assert await post.send(event()) == (200, ANSWER)
    assert len(post.stored()) == 1


async def test_one_event_that_cannot_be_stored_does_not_take_the_others_with_it(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = post.inbox.store

    def refuse(events: Any) -> int:
        if any(one.type == "poison" for one in events):
            raise ValueError("no")
        return store(events)

    monkeypatch.setattr(post.inbox, "store", refuse)
    made = [event("poison" if n == 3 else "invoice.paid") for n in range(8)]
    answers = await asyncio.gather(*(post.send(one) for one in made))
    assert [status for status, _ in answers] == [503 if n == 3 else 200 for n in range(8)]
    assert {stored.id for stored in post.stored()} == {one["id"] for n, one in enumerate(made) if n != 3}


async def test_both_ways_into_the_server_answer_alike(post: Post) -> None:
    """A request with `Connection: close` is no plain one: it goes by the application."""
    raw = written(event())
    reader, writer = await asyncio.open_connection("127.0.0.1", post.port)
    head = f"POST /webhooks/stripe HTTP/1.1\r\nHost: t\r\nStripe-Signature: {signature(raw)}\r\nContent-Length: {len(raw)}\r\n"
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + raw)
    told = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert told.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(told.partition(b"\r\n\r\n")[2]) == ANSWER
    assert len(post.stored()) == 1
