"""The fast reading of hot bodies agrees with a slow and exact one: what is taken, and what it means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.services.ingest import Result
from tollkeeper.web.check import CheckRequest, decode_check
from tollkeeper.web.events import decode_events

from . import bodies, exact


def meant(event: Any) -> dict[str, Any]:
    names = (*exact.TEXT, "data")
    found = {name: value for name in names if (value := getattr(event, name)) is not None}
    if found["source"] == "default":
        del found["source"]
    return found


def expected(body: bytes) -> dict[str, Any] | None:
    try:
        event = exact.read_event(body)
    except exact.Refused:
        return None
    if event.get("source") == "default":
        del event["source"]
    return event


def typed(value: Any) -> Any:
    """1, 1.0 and true are different values."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return (type(value).__name__, str(value))


def compare(texts: Sequence[str], decoded: Sequence[Any]) -> None:
    assert len(decoded) == len(texts)
    for text, event in zip(texts, decoded, strict=True):
        right = expected(text.encode("utf-8", "surrogatepass"))
        if isinstance(event, Result):
            assert event.status == "rejected"
            assert right is None, (text, event)
        else:
            assert right is not None, (text, event)
            assert typed(meant(event)) == typed(right), text


WRITTEN = bodies.events().flatmap(bodies.written)


@settings(max_examples=250)
@given(st.lists(WRITTEN, min_size=1, max_size=4), bodies.SPACE)
@example(['{"id":"a","type":"t","id":"b"}'], "")
@example(['{"id":"a","type":"t","data":{"a":":","b" :1,"b":2}}'], "")
@example(['{"id":"a","type":"t","subject":null,"data":{"a":{"b":1,"b":2}}}'], "")
@example(['{"id":"a","type":"t","data":{"x":' + "9" * 41 + "}}"], "")
@example(['{"id":"a","type":"t","data":{"x":-' + "9" * 40 + "}}"], "")
@example(['{"id":"a","type":"t","data":{"x":0.' + "0" * 50 + "}}"], "")
@example(['{"id":"a","type":"t","data":{"x":[1e39,1e-40,0.00]}}'], "")
@example(['{"id":"a","type":"t","data":{"x":1e40}}'], "")
@example(['{"id":"a","type":"t","data":{"x":1e' + "9" * 30 + "}}"], "")
@example(['{"id":"a","type":"t"}', '{"id":"a","type":"t","data":{"x":1,"\\u0078":2}}'], "")
def test_a_batch_is_read_as_the_exact_reading_reads_it(texts: list[str], space: str) -> None:
    body = f"{space}[{','.join(texts)}]{space}".encode("utf-8", "surrogatepass")
    try:
        decoded = decode_events(body)
    except InvalidRequest:
        assert any(expected(text.encode("utf-8", "surrogatepass")) is None for text in texts)
        return
    compare(texts, decoded)


@settings(max_examples=120)
@given(WRITTEN)
def test_a_single_event_is_read_as_the_exact_reading_reads_it(text: str) -> None:
    try:
        decoded = decode_events(text.encode("utf-8", "surrogatepass"))
    except InvalidRequest:  # no event at all
        assert expected(text.encode("utf-8", "surrogatepass")) is None
        return
    compare([text], decoded)


@settings(max_examples=200)
@given(bodies.checks().flatmap(bodies.written))
@example('{"key":"a","meter":"m","meter":"n"}')
@example('{"key":"a","meter":"m","\\u006deter":"n"}')
@example('{"key":"a","id" :"m","id":"n"}')
def test_a_check_is_read_as_the_exact_reading_reads_it(text: str) -> None:
    body = text.encode("utf-8", "surrogatepass")
    try:
        request = decode_check(body)
    except InvalidRequest:
        assert not valid_check(body), text
        return
    value = exact.read(body)
    assert {name: getattr(request, name) for name in value} == value


def valid_check(body: bytes) -> bool:
    try:
        value = exact.read(body)
    except exact.Refused:
        return False
    return (
        isinstance(value, dict)
        and value.keys() <= set(CheckRequest.__struct_fields__)
        and isinstance(value.get("key"), str)
        and all(isinstance(value.get(name), str | None) for name in ("meter", "scope", "ip"))
        and (type(value.get("cost", "1")) in (str, int))
        and all(type(value.get(name, False)) is bool for name in ("reserve", "durable"))
        and not value.get("reserve")
        and (value.get("id") is None or (isinstance(value["id"], str) and 0 < len(value["id"]) <= 256))
    )


@pytest.mark.parametrize("depth", [1, 5, 31, 32, 33, 500, 60_000])
def test_nesting_is_bounded_in_the_same_place_whatever_else_the_batch_holds(depth: int) -> None:
    inner = '{"a":' * depth + "1" + "}" * depth
    event = f'{{"id":"a","type":"t","data":{inner}}}'
    results = []
    for body in (event, f"[{event}]", f'[{{"id" :"b","type":"t"}},{event}]'):
        try:
            results.append(isinstance(decode_events(body.encode())[-1], Result))
        except InvalidRequest:
            results.append(True)
    assert len(set(results)) == 1, results


def test_the_exact_reading_itself_knows_the_difference() -> None:
    assert exact.read(b'{"a":[{"b":1}]}') == {"a": [{"b": 1}]}
    for body in (
        b'{"a":1,"a":1}',
        b'{"a":[{"b":1,"\\u0062":1}]}',
        b'"\\u0000"',
        b"1" * 41,
        b"NaN",
        b'"\\ud800"',
        b"\xff",
    ):
        with pytest.raises(exact.Refused):
            exact.read(body)
    assert json.loads(b'{"a":1,"a":2}') == {"a": 2}  # which the standard reading takes
