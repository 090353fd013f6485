"""Each format is read as it is written, and a line of any content is a call or a reason, never a fault."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.accesslog import Hit, target_of
from tollkeeper.core.accesslog_callers import key_reader, label, network, reader, shown
from tollkeeper.core.accesslog_times import any_time, log_time

from .logs import ALB, caddy, combined, parse, when

AT = when("2026-11-21T06:00:32")
US = 1_795_240_832_000_000
PARSE = parse()
SALT = b"0123456789abcdef"
seconds = st.integers(788_918_400, 7_258_118_400)  # 1995 to 2199
moments = seconds.map(lambda at: datetime.fromtimestamp(at, UTC))
words = st.text(st.characters(codec="utf-8", exclude_characters=' []"\\', exclude_categories=("C", "Z")), min_size=1)


@given(moments, words, words, words, st.integers(100, 599), st.integers(-14 * 60, 14 * 60), st.booleans())
def test_a_line_of_the_common_or_combined_format_is_read_as_it_was_written(
    at: datetime, address: str, user: str, path: str, status: int, east: int, common: bool
) -> None:
    line = combined(at, address, user, "/" + path, status, east, common)
    assert PARSE(line) == Hit(round(at.timestamp()) * 1_000_000, status, address, user, f"GET /{path} HTTP/1.1")


def test_what_stands_in_quotes_does_not_end_the_request() -> None:
    line = combined(AT).replace("/v1/x", r"/a\"b\\")
    assert PARSE(line) == Hit(US, 200, "192.0.2.7", "-", r"GET /a\"b\\ HTTP/1.1")


def test_a_user_may_have_spaces_and_a_line_may_end_as_on_windows() -> None:
    assert PARSE(combined(AT, user="Ann Lee", common=True).removesuffix(" 512") + "\r") == Hit(
        US, 200, "192.0.2.7", "Ann Lee", "GET /v1/x HTTP/1.1"
    )


def test_a_host_before_everything_is_left_aside() -> None:
    for line in (combined(AT), combined(AT, address="2001:db8::1:80", user="ann", common=True)):
        assert PARSE("www.example.com:443 " + line) == PARSE(line)


def test_caddys_json_is_read() -> None:
    assert PARSE(caddy(AT, "Bearer abc", 404)) == Hit(US, 404, "192.0.2.7", "", "/v1/x", "Bearer abc")


NGINX = {"remote_addr": "192.0.2.7", "remote_user": "ann", "request": "GET /v1/x HTTP/2.0", "status": "200"}


@pytest.mark.parametrize(
    "time",
    [
        {"time_iso8601": "2026-11-21T06:00:32+00:00"},
        {"time_local": "21/Nov/2026:07:00:32 +0100"},
        {"msec": "1795240832.000", "time_iso8601": "2026-11-21T06:00:31+00:00"},
        {"ts": 1795240832},
        {"timestamp": 1795240832000},
        {"time": 1795240832000000},
        {"@timestamp": 1795240832000000000},
    ],
)
def test_nginx_json_is_read_with_any_of_its_times(time: dict[str, Any]) -> None:
    line = json.dumps({**NGINX, **time, "http_x_api_key": "abc", "http_authorization": "-"})
    assert PARSE(line) == Hit(US, 200, "192.0.2.7", "ann", "GET /v1/x HTTP/2.0", "abc")


def test_a_named_field_or_header_is_where_the_key_stands() -> None:
    read = parse("X-Client")
    assert read(json.dumps({**NGINX, "ts": 1, "X-Client": "abc", "http_authorization": "other"}))[5] == "abc"
    line = json.loads(caddy(AT, "Bearer other"))
    line["request"]["headers"]["X-client"] = ["abc"]
    assert read(json.dumps(line))[5] == "abc"


def test_a_load_balancers_line_is_read() -> None:
    hit = PARSE(ALB)
    assert isinstance(hit, Hit)
    assert (hit.at, hit.status, hit.address) == (1_530_570_180_186_641, 200, "192.168.131.39")
    assert target_of(hit.request) == "/v1/x?api_key=0123456789abcdefghij"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("\0\0\0", "no format that is known"),
        ("\x1b[2J\x1b]0;title\x07", "no format that is known"),
        (combined(AT).replace("21/Nov", "31/Nov"), "a time that is none"),
        (combined(AT).replace("06:00:32", "24:00:32"), "a time that is none"),
        (ALB.replace("07-02T22", "13-02T22", 1), "a time that is none"),
        ('{"status": 200', "broken JSON"),
        ("{" * 100_000, "broken JSON"),
        ("[" * 100_000, "no format that is known"),
        ('{"status": 2000, "ts": 1}', "JSON without a status"),
        ('{"status": "２００", "ts": 1}', "JSON without a status"),
        ('{"status": true, "ts": 1}', "JSON without a status"),
        ('{"status": 200, "ts": 1e300}', "JSON without a time"),
        ('{"status": 200, "ts": -1}', "JSON without a time"),
        ('{"status": 200, "ts": "yesterday"}', "JSON without a time"),
    ],
)
def test_what_is_no_call_has_a_reason(line: str, reason: str) -> None:
    assert PARSE(line) == reason


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["status", "ts", "time", "msec", "request", "headers", "uri", "remote_addr", "authorization", "remote_user"]


@given(st.dictionaries(st.sampled_from(NAMES), anything))
def test_json_of_any_content_is_a_call_or_a_reason(line: dict[str, Any]) -> None:
    found = PARSE(json.dumps(line))
    assert isinstance(found, Hit | str)


@given(st.text(), st.sampled_from([combined(AT), ALB, caddy(AT)]), st.integers(0, 700))
def test_text_of_any_content_is_a_call_or_a_reason(text: str, line: str, cut: int) -> None:
    for one in (text, line[:cut] + text, line[:cut] + text + line[cut:]):
        assert isinstance(PARSE(one), Hit | str)


@pytest.mark.parametrize(
    "line",
    [
        "a - [" * 50_000,
        "a - - [21/Nov/2026:06:00:32 +0000] " * 7_000,
        'a - - [21/Nov/2026:06:00:32 +0000] "' + "\\" * 250_000,
        'a - - [21/Nov/2026:06:00:32 +0000] "' + '\\" 20 ' * 35_000,
        "http " * 50_000,
        "http 2018-07-02T22:23:00Z a b c d e f 200 a b c " + '"' + "a" * 200_000,
    ],
    ids=["brackets", "times", "escapes", "ends", "words", "quotes"],
)
def test_a_line_made_to_be_read_again_and_again_is_read_once(line: str) -> None:
    assert PARSE(line) == "no format that is known"  # by patterns that went back, this would take hours


@given(moments)
def test_log_times_are_those_of_the_calendar(at: datetime) -> None:
    text = combined(at).partition("[")[2].partition("]")[0]
    assert log_time(text) == round(at.timestamp()) * 1_000_000
    assert any_time(at.isoformat()) == any_time(text) == any_time(int(at.timestamp())) == log_time(text)


@pytest.mark.parametrize(
    ("address", "shown_as"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("client.example.com", "client.example.com"),
        ("-", ""),
    ],
)
def test_a_network_is_a_24_or_a_64(address: str, shown_as: str) -> None:
    assert network(address) == shown_as


def test_a_key_stands_in_its_header_or_in_the_query() -> None:
    key = key_reader(["api_key", "token"])
    assert key(Hit(1, 200, "", "", "/x?a=1&token=t%2Fk", "")) == "t/k"
    assert key(Hit(1, 200, "", "", "/x?token=other", "Bearer  abc")) == "abc"
    assert key(Hit(1, 200, "", "", "/x?token=abc", "REDACTED")) == "abc"
    assert key(Hit(1, 200, "", "", "/x?xtoken=abc", "REDACTED")) == ""
    assert reader("user", [])(Hit(1, 200, "", "-", "", "")) == ""


@given(st.text(min_size=1))
def test_of_a_key_at_most_its_ends_are_shown(secret: str) -> None:
    text = label("key", secret, SALT)
    assert text.isprintable()
    if len(secret) < 16:
        assert text == f"key #{text[5:]}"
        assert text != label("key", secret, b"another salt")
    else:
        beginning, _, end = text.rpartition("…")
        assert len(end) == 4
        assert len(secret) - len(beginning) - len(end) >= 8


@pytest.mark.parametrize(
    ("value", "key", "user"),
    [
        ("abc", "abc", ""),
        ("bearer  abc ", "abc", ""),
        ("ApiKey abc", "abc", ""),
        ("Basic YW5uOnNlY3JldA==", "", "ann"),  # ann:secret
        ("Basic c2tfbGl2ZV9hYmM6", "sk_live_abc", ""),  # sk_live_abc:
        ("Basic !", "", ""),
        ('Digest username="ann", nonce="1"', "", ""),
        ("AWS4-HMAC-SHA256 Credential=A, Signature=b", "", ""),
        (" ", "", ""),
    ],
)
def test_credentials_are_a_key_or_a_user_and_never_a_password(value: str, key: str, user: str) -> None:
    hit = Hit(1, 200, "", "", "/x", value)
    assert (reader("key", [])(hit), reader("user", [])(hit)) == (key, user)
    assert reader("user", [])(hit._replace(user="bob")) == "bob"


def test_the_kind_of_a_key_is_shown_with_its_ends() -> None:
    assert label("key", "tk_live_" + "x" * 30 + "abc123", SALT) == "tk_live_…c123"
    assert label("key", "0123456789abcdef0123", SALT) == "0123…0123"


@given(st.text())
def test_nothing_that_steers_a_terminal_is_shown(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 48
