"""Anything at all sent to the hot endpoints: never a 5xx, always an answer that names the fault; what is refused changes nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollkeeper.web.check import MAX_CHECK_BODY
from tollkeeper.web.hot import MAX_EVENTS_BODY

from . import bodies
from .surface import ADMIN, ADMIN_TOKEN, CUSTOMER, JSON, Surface

EVENT = {"id": "corpus", "type": "api.call", "customer": CUSTOMER}
PATHS = ("/v1/check", "/v1/events")


@pytest.fixture(scope="module")
def surface(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surface]:
    made = Surface(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """`body` in chunks."""
    edges = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    return [body[begin:end] for begin, end in itertools.pairwise(edges)]


PLACES = st.lists(st.integers(0, 200), max_size=3)


@settings(max_examples=120)
@given(st.sampled_from(PATHS), st.binary(max_size=60), PLACES)
def test_any_bytes(surface: Surface, path: str, body: bytes, places: list[int]) -> None:
    surface.call(path, *cut(body, places))


@settings(max_examples=100)
@given(st.sampled_from(PATHS), bodies.VALUES.flatmap(bodies.written), PLACES)
def test_any_json(surface: Surface, path: str, text: str, places: list[int]) -> None:
    surface.call(path, *cut(encoded(text), places))


@settings(max_examples=120)
@given(st.lists(bodies.events().flatmap(bodies.written), min_size=1, max_size=4), st.booleans(), PLACES)
def test_events_that_are_nearly_right(surface: Surface, texts: list[str], batch: bool, places: list[int]) -> None:
    text = f"[{','.join(texts)}]" if batch or len(texts) > 1 else texts[0]
    surface.call("/v1/events", *cut(encoded(text), places))


@settings(max_examples=120)
@given(st.data(), PLACES)
def test_checks_that_are_nearly_right(surface: Surface, data: st.DataObject, places: list[int]) -> None:
    key = data.draw(st.sampled_from((None, surface.key, surface.key)))
    text = data.draw(bodies.checks(key).flatmap(bodies.written))
    surface.call("/v1/check", *cut(encoded(text), places))


RIGHT: dict[str, bytes] = {"/v1/events": json.dumps({**EVENT, "id": "right"}).encode()}


@settings(max_examples=120)
@given(
    st.sampled_from(PATHS),
    st.sampled_from(("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "POST", "post", "TRACE", "X")),
    st.lists(
        st.tuples(
            st.sampled_from((b"authorization", b"content-type", b"x-request-id", b"content-length", b"accept")),
            st.one_of(
                st.binary(max_size=20),
                st.sampled_from(
                    (
                        b"Bearer",
                        b"Bearer ",
                        b"bearer\t" + ADMIN_TOKEN.encode(),
                        b"Basic " + ADMIN_TOKEN.encode(),
                        b"Bearer " + ADMIN_TOKEN.encode() + b"x",
                        b"Bearer tk_live_0000000000000000000000000000000000000",
                        b"application/json; charset=utf-16",
                        b"application/cloudevents-batch+json",
                        b"text/plain",
                        b"\xff\xfe",
                    )
                ),
            ),
        ),
        max_size=3,
    ),
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            (
                b"environment=test",
                b"environment=live&environment=test",
                b"environment=%ff",
                b"environment",
                b"%",
                b"=&=&",
            )
        ),
    ),
    st.booleans(),
)
def test_any_method_headers_and_query(
    surface: Surface, path: str, method: str, headers: list[tuple[bytes, bytes]], query: bytes, admin: bool
) -> None:
    given_headers = [*(ADMIN if admin else ()), *headers]
    surface.call(path, RIGHT.get(path, b"{}"), method=method, headers=given_headers, query=query)


CORPUS: dict[str, tuple[str, bytes, int]] = {
    # name: path, body, expected status (200 of /v1/events: every event rejected)
    "empty check": ("/v1/check", b"", 400),
    "empty events": ("/v1/events", b"", 400),
    "NUL bytes": ("/v1/events", b"\0\0\0", 400),
    "NUL in an id": ("/v1/events", json.dumps({**EVENT, "id": "a\0"}).encode(), 200),
    "NUL in a key": ("/v1/check", b'{"key":"a\\u0000"}', 400),
    "half a surrogate pair": ("/v1/events", b'{"id":"\\ud800","type":"api.call","customer":"cus_fuzz"}', 400),
    "half a pair in a check": ("/v1/check", b'{"key":"\\udfff"}', 400),
    "not UTF-8": ("/v1/events", b'{"id":"\xff","type":"api.call","customer":"cus_fuzz"}', 200),
    "UTF-16": ("/v1/events", json.dumps(EVENT).encode("utf-16"), 400),
    "UTF-8 with a mark": ("/v1/events", b"\xef\xbb\xbf" + json.dumps(EVENT).encode(), 400),
    "a list that does not end": ("/v1/events", b"[" + json.dumps(EVENT).encode(), 400),
    "two values": ("/v1/check", b'{"key":"a"}{"key":"a"}', 400),
    "deep list": ("/v1/events", b"[" * 200_000, 400),
    "deep object": ("/v1/events", b'{"a":' * 200_000, 400),
    "deep check": ("/v1/check", b"[" * 30_000, 400),
    "deep data": ("/v1/events", b'{"id":"a","type":"t","data":' + b'{"a":' * 40 + b"1" + b"}" * 41, 200),
    "key twice": ("/v1/events", b'{"id":"a","id":"b","type":"api.call","customer":"cus_fuzz"}', 200),
    "key twice, deep": (
        "/v1/events",
        b'[{"id":"a","type":"api.call","customer":"cus_fuzz","data":{"x":[{"a":1,"a" :2}]}}]',
        200,
    ),
    "key twice by escape": ("/v1/check", b'{"key":"a","k\\u0065y":"b"}', 400),
    "cost of 5,000 digits": ("/v1/check", b'{"key":"a","cost":' + b"9" * 5000 + b"}", 400),
    "cost NaN": ("/v1/check", b'{"key":"a","cost":NaN}', 400),
    "huge value": (
        "/v1/events",
        b'{"id":"a","type":"llm.completion","customer":"cus_fuzz","data":{"tokens":1e400}}',
        200,
    ),
    "long value": (
        "/v1/events",
        b'{"id":"a","type":"llm.completion","customer":"cus_fuzz","data":{"tokens":' + b"9" * 100_000 + b"}}",
        200,
    ),
    "exponent beyond reason": (
        "/v1/events",
        b'{"id":"a","type":"llm.completion","customer":"cus_fuzz","data":{"x":1e99999999999999999999}}',
        200,
    ),
    "long data": ("/v1/events", json.dumps({**EVENT, "data": {"a": "x" * 20_000}}).encode(), 200),
    "id of 257": ("/v1/events", json.dumps({**EVENT, "id": "x" * 257}).encode(), 200),
    "id of a megabyte": ("/v1/events", json.dumps({**EVENT, "id": "x" * 1_000_000}).encode(), 200),
    "year 1": ("/v1/events", json.dumps({**EVENT, "time": "0001-01-01T00:00:00+23:59"}).encode(), 200),
    "year 9999": ("/v1/events", json.dumps({**EVENT, "time": "9999-12-31T23:59:59-23:59"}).encode(), 200),
    "leap second": ("/v1/events", json.dumps({**EVENT, "time": "2026-06-30T23:59:60Z"}).encode(), 200),
    "no zone": ("/v1/events", json.dumps({**EVENT, "time": "2026-09-21T12:00:00"}).encode(), 200),
    "the gate's source": ("/v1/events", json.dumps({**EVENT, "source": "tollkeeper:gate"}).encode(), 200),
    "10,001 events": ("/v1/events", json.dumps([EVENT] * 10_001).encode(), 413),
    "10,001 that are no events": ("/v1/events", b"[" + b",".join([b"1"] * 10_001) + b"]", 413),
    "8 MiB and 1": ("/v1/events", b"[" + b" " * MAX_EVENTS_BODY, 413),
    "64 KiB and 1": ("/v1/check", b'{"key":"' + b"a" * MAX_CHECK_BODY, 413),
}


@pytest.mark.parametrize("name", CORPUS)
def test_a_known_evil_is_refused_and_changes_nothing(surface: Surface, name: str) -> None:
    path, body, status = CORPUS[name]
    middle = len(body) // 2
    for chunks in ([body], [body[:middle], b"", body[middle:]]):
        before = surface.app.usage_file.reader.last_seq()
        answer = surface.call(path, *chunks)
        assert answer.status == status, answer
        assert surface.app.usage_file.reader.last_seq() == before
        if path == "/v1/events" and status == 200:
            assert answer.json["rejected"] == len(answer.json["results"])
            assert all(result["code"] and result["detail"] for result in answer.json["results"])


@pytest.mark.parametrize(
    ("query", "test_key", "status"),
    [
        (b"enviroment=test", False, 400),  # misspelt: it would have been billed
        (b"environment=test&x", False, 400),
        (b"environment=live", True, 403),
        (b"environment=test", True, 200),
        (b"environment=test", False, 200),
    ],
)
def test_a_parameter_that_would_be_passed_over_is_refused(
    surface: Surface, query: bytes, test_key: bool, status: int
) -> None:
    headers = (*ADMIN, *JSON)
    if test_key:
        token = surface.app.keys.create(kind="server", environment="test", scopes=["events:write"]).key
        headers = ((b"authorization", b"Bearer " + token.encode()), *JSON)
    event = {**EVENT, "id": f"query {query!r} {test_key}"}
    assert surface.call("/v1/events", json.dumps(event).encode(), headers=headers, query=query).status == status


def test_a_client_that_leaves_half_way_changes_nothing(surface: Surface) -> None:
    body = json.dumps({**EVENT, "id": "half"}).encode()
    for chunks in ([body], [body[:10]], [body[:10], body[10:]]):
        assert surface.call("/v1/events", *chunks, gone=True).status == 400
    check = json.dumps({"key": surface.key, "meter": "api_calls"}).encode()
    assert surface.call("/v1/check", check, gone=True).status == 400


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"authorization", b"Basic " + ADMIN_TOKEN.encode())],
        [(b"authorization", ADMIN_TOKEN.encode())],
        [(b"authorization", b"Bearer " + ADMIN_TOKEN.encode()[:-1])],
        [(b"authorization", b"Bearer nobody"), (b"authorization", b"Bearer " + ADMIN_TOKEN.encode())],
    ],
)
def test_nobody_gets_in_with_a_broken_authorization(
    surface: Surface, path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    assert surface.call(path, RIGHT.get(path, b"{}"), headers=[*headers, *JSON]).status == 401


def test_a_customers_own_key_may_neither_check_nor_send_events(surface: Surface) -> None:
    headers = [(b"authorization", b"Bearer " + surface.key.encode()), *JSON]
    for path in PATHS:
        assert surface.call(path, RIGHT.get(path, b"{}"), headers=headers).status == 403


def test_a_total_that_would_not_fit_is_refused_whole(surface: Surface) -> None:
    """The cell's sum would pass 64 bits: the batch is refused, and the customer's other usage goes on."""
    most = str(10**15 - 1)
    customer = surface.spine.customer("pro")

    def batch(name: str, count: int) -> bytes:
        event: dict[str, Any] = {"type": "llm.completion", "customer": customer, "data": {"tokens": most}}
        return json.dumps([{**event, "id": f"{name}-{i}"} for i in range(count)]).encode()

    assert surface.call("/v1/events", batch("first", 9_000)).json["accepted"] == 9_000
    answer = surface.call("/v1/events", batch("second", 400))
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert surface.call("/v1/events", batch("third", 1)).json["accepted"] == 1
    assert surface.app.usage.query("tokens", customer=customer).total == str(9_001 * (10**15 - 1))


def test_totals_beyond_64_bits_over_several_cells_are_read_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each cell fits, their sum does not: it is added exactly, not by SQL's integers."""
    surface = Surface(tmp_path_factory.mktemp("large"))
    most = 10**15 - 1
    for name, minutes in (("a", 0), ("b", 15)):
        surface.spine.time.move(minutes * 60 * 10**9)
        events = [
            {"id": f"{name}{i}", "type": "llm.completion", "customer": CUSTOMER, "data": {"tokens": most}}
            for i in range(9_000)
        ]
        assert surface.call("/v1/events", json.dumps(events).encode()).json["accepted"] == 9_000
    surface.spine.reopen()
    app = surface.app = surface.spine.app
    decision = app.gate.check(surface.key, "api_calls")
    assert decision.code == "VALID"
    account = app.gate.account_of("live", CUSTOMER)
    assert account is not None
    assert sorted(total.used for total in account.totals.values()) == [10**9, 18_000 * most * 10**9]
    surface.close()
