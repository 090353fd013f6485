"""The head of a request, cleaned: what must never reach an upstream does not, whatever the client sends."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.web.errors import MethodNotAllowed, NotSupported
from tollkeeper.web.key_places import KeyPlaces
from tollkeeper.web.proxy_head import Head, answer_head, read_head

PLACES = KeyPlaces()
KEY = "tk_live_0123456789012345678901234567893pUxV3"
TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+.^_`|~-", min_size=1, max_size=20).map(str.encode)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30).map(str.encode)
SEPARATOR = st.sampled_from(list("-_.!~+"))


def scope(*headers: tuple[bytes, bytes], query: bytes = b"", method: str = "GET", **more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "raw_path": b"/",
        "query_string": query,
        "http_version": "1.1",
        "scheme": "http",
        "client": ("203.0.113.9", 1234),
        "headers": [(b"host", b"api.test"), *headers],
        **more,
    }


def read(*headers: tuple[bytes, bytes], places: KeyPlaces = PLACES, trusted: int = 0, **more: Any) -> Head:
    return read_head(scope(*headers, **more), places, trusted)


def names(head: Head) -> list[str]:
    return [name for name, _ in head.fields]


@given(st.lists(st.tuples(SEPARATOR, SEPARATOR, st.sampled_from(["customer", "key", "plan", "x"])), min_size=1), VALUE)
def test_no_identity_field_of_the_client_survives_in_any_spelling(
    spellings: list[tuple[str, str, str]], value: bytes
) -> None:
    sent = [(f"x{one}tollkeeper{two}{word}".encode(), value) for one, two, word in spellings]
    assert names(read(*sent)) == ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=8), st.sampled_from(["bearer", "header", "query", "twice"]))
def test_a_key_is_found_wherever_it_may_stand_and_never_goes_on(others: list[tuple[bytes, bytes]], place: str) -> None:
    framing = {b"content-length", b"transfer-encoding", b"host", b"upgrade", b"expect", b"authorization", b"x-api-key"}
    sent = [(name.lower(), value) for name, value in others if name.lower() not in framing | {b"connection"}]
    query = b"a=1"
    if place in ("bearer", "twice"):
        sent.append((b"authorization", f"bearer  {KEY} ".encode()))
    if place == "header":
        sent.append((b"x-api-key", KEY.encode()))
    if place in ("query", "twice"):
        query = f"a=1&%61pi_key={KEY}&b=%20+2".encode()
    head = read(*sent, query=query)
    assert head.keys == {KEY}
    assert KEY not in head.target
    assert not [field for field in head.fields if KEY in field[1]]


def test_a_key_in_a_referer_goes_no_further_than_the_key() -> None:
    head = read((b"referer", f"http://gate.test/a?api_key={KEY}&b=1".encode()), query=f"api_key={KEY}".encode())
    assert ("referer", "http://gate.test/a?api_key=&b=1") in head.fields


def test_the_rest_of_the_query_goes_on_byte_for_byte() -> None:
    assert read(query=b"a=%7e+&&b&=c&api_key=x&d=%zz;e=1&A=~").target == "/?a=%7e+&&b&=c&d=%zz;e=1&A=~"
    assert read(query=b"api_key=x").target == "/"


def test_bytes_that_no_query_may_hold_are_encoded_not_changed() -> None:
    assert read(query=b"q=\xc3\xa9 x\x00").target == "/?q=%C3%A9%20x%00"


def test_different_keys_are_all_seen_so_that_none_wins_silently() -> None:
    head = read((b"authorization", b"Bearer tk_a"), (b"x-api-key", b"tk_b"), query=b"api_key=tk_c")
    assert head.keys == {"tk_a", "tk_b", "tk_c"}


def test_the_upstreams_own_authorization_passes_beside_a_key_of_ours() -> None:
    head = read((b"authorization", b"Bearer eyJ"), (b"x-api-key", KEY.encode()))
    assert head.keys == {KEY}
    assert ("authorization", "Bearer eyJ") in head.fields
    basic = read((b"authorization", b"Basic dTpw"))
    assert basic.keys == frozenset()
    assert ("authorization", "Basic dTpw") in basic.fields


def test_a_foreign_bearer_token_alone_is_taken_for_a_key_and_refused_later() -> None:
    head = read((b"authorization", b"Bearer eyJ"))
    assert head.keys == {"eyJ"}
    assert "authorization" not in names(head)


def test_only_the_places_named_hold_keys() -> None:
    places = KeyPlaces(False, frozenset({b"x-token"}), frozenset())
    head = read((b"authorization", b"Bearer tk_a"), (b"x-token", b"tk_b"), query=b"api_key=c", places=places)
    assert head.keys == {"tk_b"}
    assert head.target == "/?api_key=c"
    assert ("authorization", "Bearer tk_a") in head.fields


@given(st.lists(TOKEN.filter(lambda name: b"_" not in name), max_size=5), st.sampled_from([b",", b" , ", b",\t"]))
def test_hop_by_hop_fields_and_those_named_by_connection_stay_here(tokens: list[bytes], comma: bytes) -> None:
    named = [b"x-" + token.lower() for token in tokens]
    sent = [(name, b"1") for name in named]
    fixed = [(name, b"1") for name in (b"keep-alive", b"te", b"trailer", b"proxy-authorization", b"proxy-connection")]
    head = read(
        *sent, *fixed, (b"upgrade", b"h2c"), (b"connection", comma.join([*named, b"close"])), (b"accept", b"*/*")
    )
    assert names(head) == ["accept", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]


def test_connection_cannot_take_away_what_the_proxy_says() -> None:
    head = read((b"connection", b"x-forwarded-for, x-forwarded-host, content-length"), (b"content-length", b"3"))
    assert ("x-forwarded-for", "203.0.113.9") in head.fields
    assert ("content-length", "3") in head.fields


def test_forwarding_fields_of_a_client_are_not_believed() -> None:
    head = read(
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"x_forwarded_for", b"10.0.0.2"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"evil.test"),
        (b"x-forwarded-port", b"1"),
        (b"forwarded", b"for=10.0.0.3"),
        (b"x-real-ip", b"10.0.0.4"),
    )
    assert head.fields == [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "api.test"),
    ]
    assert head.ip == "203.0.113.9"


@pytest.mark.parametrize(
    ("sent", "trusted", "ip", "told"),
    [
        (b"198.51.100.7", 1, "198.51.100.7", "198.51.100.7, 203.0.113.9"),
        (b"1.1.1.1, 198.51.100.7", 1, "198.51.100.7", "198.51.100.7, 203.0.113.9"),
        (b"1.1.1.1, 198.51.100.7, 10.0.0.1", 2, "198.51.100.7", "198.51.100.7, 10.0.0.1, 203.0.113.9"),
        (b"198.51.100.7:4711", 1, "198.51.100.7", "198.51.100.7:4711, 203.0.113.9"),
        (b"[2001:db8::1]:4711", 1, "2001:db8::1", "[2001:db8::1]:4711, 203.0.113.9"),
        (b"unknown", 1, None, "unknown, 203.0.113.9"),
        (b"", 1, "203.0.113.9", "203.0.113.9"),
    ],
)
def test_as_many_proxies_as_are_trusted_are_believed(sent: bytes, trusted: int, ip: str | None, told: str) -> None:
    head = read((b"x-forwarded-for", sent), (b"x-forwarded-proto", b"https"), trusted=trusted)
    assert head.ip == ip
    assert dict(head.fields)["x-forwarded-for"] == told
    assert head.scheme == "https"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"1"), (b"content-length", b"1")],
        [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"+1")],
        [(b"content-length", b"1" * 19)],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"host", b"other.test")],
        [(b"expect", b"200-ok")],
        [(b"x-name", b"\xe9")],
    ],
)
def test_shapes_that_can_be_understood_in_two_ways_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidRequest):
        read(*headers)


@pytest.mark.parametrize("target", [b"*", b"@evil.test/", b"evil.test:80"])
def test_a_target_that_would_change_the_authority_is_refused(target: bytes) -> None:
    with pytest.raises(InvalidRequest, match="target"):
        read(raw_path=target)


def test_what_cannot_be_passed_on_is_named() -> None:
    with pytest.raises(NotSupported, match="WebSockets"):
        read((b"connection", b"upgrade"), (b"upgrade", b"WebSocket"))
    for method in ("CONNECT", "TRACE"):
        with pytest.raises(MethodNotAllowed):
            read(method=method)
    with pytest.raises(InvalidRequest, match=r"HTTP/1\.1"):
        read(http_version="0.9")
    with pytest.raises(InvalidRequest, match="chunked"):
        read((b"transfer-encoding", b"chunked"), http_version="1.0")


def test_fields_that_only_look_like_framing_stay_here() -> None:
    assert not {"transfer_encoding", "content_length"} & set(
        names(read((b"transfer_encoding", b"chunked"), (b"content_length", b"5")))
    )


def pass_back(status: int, *raw: tuple[bytes, bytes], public: str = "https://api.test") -> list[tuple[bytes, bytes]]:
    return answer_head(status, raw, [(b"x-request-id", b"ours")], "http://up:8000", public)


def test_an_answers_hop_by_hop_fields_and_request_id_stay_behind() -> None:
    got = pass_back(
        200,
        (b"Connection", b"close, X-Hop"),
        (b"X-Hop", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Length", b"5"),
        (b"X-Request-Id", b"theirs"),
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=\xe9"),
    )
    assert got == [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=\xe9"), (b"x-request-id", b"ours")]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_no_length(status: int) -> None:
    assert pass_back(status, (b"Content-Length", b"5")) == [(b"x-request-id", b"ours")]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"http://up:8000/items/", b"https://api.test/items/"),
        (b"http://up:8000", b"https://api.test"),
        (b"HTTP://UP:8000/a", b"https://api.test/a"),
        (b"http://up:80001/a", b"http://up:80001/a"),
        (b"http://up:8000.evil.test/", b"http://up:8000.evil.test/"),
        (b"/items/", b"/items/"),
    ],
)
def test_a_redirect_to_the_upstream_leads_back_through_the_gate(sent: bytes, told: bytes) -> None:
    assert (b"Location", told) in pass_back(307, (b"Location", sent))


def test_the_links_of_an_answer_lead_back_through_the_gate() -> None:
    sent = b'<http://up:8000/a?page=2>; rel="next", <HTTP://up:8000>; rel=first, <http://up:80001/>, </b>'
    told = b'<https://api.test/a?page=2>; rel="next", <https://api.test>; rel=first, <http://up:80001/>, </b>'
    assert (b"Link", told) in pass_back(200, (b"Link", sent))
    assert (b"Link", sent) in pass_back(200, (b"Link", sent), public="")


@pytest.mark.parametrize(
    "raw",
    [
        [(b"Content-Length", b"1"), (b"Content-Length", b"2")],
        [(b"Content-Length", b"x")],
        [(b"X-A", b"a\x00b")],
        [(b"X A", b"b")],
    ],
)
def test_an_answer_that_cannot_be_passed_on_is_refused(raw: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ValueError, match="its"):
        pass_back(200, *raw)
