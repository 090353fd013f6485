"""What the strict decoder takes and refuses, and that its fast judgement never differs from the exact one."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.web.json import MAX_DEPTH, StrictDecoder, count_keys, inspect


class Order(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    amount: int = 0
    data: dict[str, Any] | None = None


def order_keys(order: Order) -> int:
    data = 0 if order.data is None else 1 + count_keys(order.data, 2)
    return 1 + (order.amount != 0) + data


ANY: StrictDecoder[Any] = StrictDecoder()
ORDER: StrictDecoder[Order] = StrictDecoder(Order, order_keys)

REFUSED = {
    b"": "The body is empty; JSON is expected.",
    b"{": "The body is not JSON: expecting property name enclosed in double quotes at line 1, column 2.",
    b'{"a":1} x': "The body is not JSON: extra data at line 1, column 9.",
    b'{"id":"a","id":"b"}': "The body: the key 'id' appears twice.",
    b'{"id":"a" ,"id"\n:"b"}': "The body: the key 'id' appears twice.",
    b'{"x":{"y":[1,{"id":1,"id":2}]}}': "x.y[1]: the key 'id' appears twice.",
    b'{"id":"a","\\u0069d":"b"}': "The body: the key 'id' appears twice.",
    b'{"a":"x\\u0000y"}': "a: a NUL character is not allowed.",
    b'{"a\\u0000":1}': "The body: a NUL character is not allowed.",
    b'{"a":"x\x00y"}': "The body is not JSON: invalid control character at at line 1, column 8.",
    b'{"a":"\xff"}': "The body is not UTF-8: byte 6 cannot be read.",
    b'{"a":"\xed\xa0\x80"}': "The body is not UTF-8: byte 6 cannot be read.",
    '{"a":1}'.encode("utf-16"): "The body is not UTF-8: byte 0 cannot be read.",
    b"\xef\xbb\xbf{}": "The body begins with a byte order mark; send JSON in UTF-8 without one.",
    b'{"a":"\\ud800"}': "a: half of a surrogate pair is not a character.",
    b'{"a":NaN}': "a: NaN is not JSON.",
    b'{"a":-Infinity}': "a: -Infinity is not JSON.",
    b'{"a":[' + b"9" * 41 + b"]}": "a[0]: a number has more than 40 digits.",
    b'{"a":' + b"9" * 5000 + b"}": "a: a number has more than 40 digits.",
    b'{"a":1e400}': "a: a number has more than 40 digits.",
    b'{"a":1e-99}': "a: a number has more than 40 digits.",
    b'{"a":1e99999999999999999999}': "a: a number has more than 40 digits.",
    b'{"a":' + b"[" * 32 + b"]" * 32 + b"}": "a" + "[0]" * 31 + ": nested deeper than 32 levels.",
    b"[" * 100_000: "The body is nested deeper than 32 levels.",
}


@pytest.mark.parametrize("raw", REFUSED, ids=lambda raw: repr(raw[:40]))
def test_a_faulty_document_is_refused_with_the_fault_and_its_place(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ANY.decode(raw)
    assert caught.value.detail == REFUSED[raw]


def test_a_fault_inside_a_typed_document_names_the_field() -> None:
    for raw, detail in {
        b'{"id":5}': "id: expected str, got int.",
        b'{"id":"a","amount":1.5}': "amount: expected int, got float.",
        b'{"id":"a","cost":1}': "cost: there is no such field.",
        b'{"amount":1}': "id: this field is missing.",
        b"[]": "The body: expected object, got array.",
        b'{"id":"a","data":{"x":1,"x":1}}': "data: the key 'x' appears twice.",
        b'{"id":"a","amount":0,"amount":0}': "The body: the key 'amount' appears twice.",
    }.items():
        with pytest.raises(InvalidRequest) as caught:
            ORDER.decode(raw)
        assert caught.value.detail == detail


def test_depth_at_the_bound_is_taken() -> None:
    raw = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert count_keys(ANY.decode(raw)) == 0


def test_forty_digits_are_taken_exactly() -> None:
    assert ANY.decode(b"[" + b"9" * 40 + b"]") == [10**40 - 1]
    assert ANY.decode(b"[0.1,1e39,12.50]") == [Decimal("0.1"), Decimal("1e39"), Decimal("12.50")]


def test_text_that_only_looks_suspicious_is_taken() -> None:
    value = {"a": ":x", "b :": '":', "c": "\\u0000", "d": "9" * 41, "e\n:": [{"f": 'say ":" twice'}]}
    assert ANY.decode(json.dumps(value).encode()) == value
    assert ANY.decode(json.dumps(value, indent=2, separators=(" ,", " : ")).encode()) == value


class Pairs(list[tuple[str, Any]]):
    """An object as it stands in the text, with equal keys kept."""


texts = st.text(st.sampled_from('ab":\\ \n\t0é'), max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**45), 10**45) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(texts, inner), max_size=4).map(Pairs),
    max_leaves=12,
)


def write(value: Any, gap: str) -> str:
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}{gap}:{gap}{write(item, gap)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + gap.join(["", ",".join(write(item, gap) for item in value), ""]) + "]"
    return json.dumps(value)


@given(values, st.sampled_from(["", " ", "\n", "\t"]))
@example(Pairs([("a", 1), ("a", 1)]), "")
@example(Pairs([("a", ":"), ("b", 1), ("b", 2)]), "")
def test_the_fast_judgement_and_the_exact_reading_agree(value: Any, gap: str) -> None:
    raw = write(value, gap).encode()
    assert outcome(ANY.decode, raw) == outcome(inspect, raw)


def outcome(read: Any, raw: bytes) -> Any:
    try:
        return read(raw)
    except InvalidRequest as error:
        return error.detail


@given(st.binary(max_size=40) | st.text(st.sampled_from('{}[]",:\\u0012e-.truefalsn '), max_size=40).map(str.encode))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    outcome(ANY.decode, raw)
    outcome(ORDER.decode, raw)
