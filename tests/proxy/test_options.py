"""Paths and prices: what is free or cheap cannot be widened by writing a path in another way."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.web.key_places import read_places
from tollkeeper.web.proxy_options import read_upstream
from tollkeeper.web.rules import Rule, plain_path, read_cost, read_rules

SEGMENT = st.text(st.characters(codec="utf-8", exclude_characters="/\\%", exclude_categories=("C", "Z")), min_size=1)


@given(st.lists(SEGMENT.filter(lambda text: text.partition(";")[0] not in (".", "..")), min_size=1, max_size=4))
def test_a_path_of_ordinary_segments_means_what_it_says(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    assert plain_path(quote(path, safe="/").encode()) == path


@pytest.mark.parametrize(
    "raw",
    [
        b"/docs/../v1",
        b"/docs/./v1",
        b"/docs/%2e%2e/v1",
        b"/docs/.%2E/v1",
        b"/docs/..;x=1/v1",
        b"/docs//v1",
        b"//docs",
        b"/docs%2f..%2fv1",
        b"/docs/..%5cv1",
        b"/docs\\..\\v1",
        b"/docs/%252e%252e/v1",
        b"/docs/%00",
        b"/docs/%0d%0aX",
        b"/docs/%ff",
    ],
)
def test_a_path_that_servers_read_differently_is_no_free_path(raw: bytes) -> None:
    assert plain_path(raw) is None
    assert read_rules("api_calls", "1", free=["/docs"]).find(raw) == Rule("api_calls", 1)


def test_a_prefix_stands_for_itself_and_what_is_below_it() -> None:
    rules = read_rules("api_calls", "1", free=["/docs", "/", "/v1/status/"])
    for free in (b"/docs", b"/docs/", b"/docs/a/b", b"/%64ocs/a", b"/", b"/v1/status"):
        assert rules.find(free).meter is None, free
    for paid in (b"/docsecret", b"/doc", b"/a", b"/v1", b"/v1/statuses", b"/DOCS"):
        assert rules.find(paid).meter == "api_calls", paid


def test_the_longest_prefix_decides() -> None:
    rules = read_rules(
        "api_calls", "1", free=["/search/help"], prices=["/search=searches:5", "/search/big=searches:0.5"]
    )
    assert rules.find(b"/search/a") == Rule("searches", 5)
    assert rules.find(b"/search/big/a") == Rule("searches", "0.5")
    assert rules.find(b"/search/help") == Rule(None)
    assert rules.find(b"/other") == Rule("api_calls", 1)


def test_a_rule_may_hold_for_one_method_and_a_rule_for_get_holds_for_head() -> None:
    rules = read_rules(
        "api_calls", "1", free=["GET /docs"], prices=["POST /search=searches:5", "/search=searches", "GET /search/a=a"]
    )
    assert rules.find(b"/search", "POST") == Rule("searches", 5)
    assert rules.find(b"/search/a", "POST") == Rule("searches", 5)
    assert rules.find(b"/search", "DELETE") == Rule("searches", 1)
    assert rules.find(b"/search/a", "HEAD") == Rule("a", 1)
    assert rules.find(b"/docs/x", "HEAD") == rules.find(b"/docs/x", "GET") == Rule(None)
    assert rules.find(b"/docs/x", "POST") == Rule("api_calls", 1)


def test_without_a_default_only_what_has_a_price_is_priced() -> None:
    rules = read_rules(None, prices=["/search=searches"])
    assert (rules.find(b"/search").meter, rules.find(b"/").meter) == ("searches", None)
    assert rules.meters == {"searches"}
    with pytest.raises(InvalidRequest, match="more than one way"):
        rules.find(b"/x/../search")


def test_with_several_prices_a_path_that_can_be_read_twice_is_refused() -> None:
    rules = read_rules("api_calls", "1", prices=["/search=searches:5"])
    with pytest.raises(InvalidRequest, match="more than one way"):
        rules.find(b"/x/../search")


@pytest.mark.parametrize(
    "wrong",
    [
        {"free": ["docs"]},
        {"free": ["get /docs"]},
        {"free": ["HEAD /docs"]},
        {"free": ["GET  /docs"]},
        {"free": ["GET"]},
        {"prices": ["GET /a=b", "GET /a=c"]},
        {"free": ["/docs?x"]},
        {"free": ["/a/../b"]},
        {"prices": ["/a"]},
        {"prices": ["/a=b:c"]},
        {"prices": ["/a=b:-1"]},
        {"prices": ["/a=two words"]},
        {"free": ["/a"], "prices": ["/a=b"]},
        {"meter": ""},
        {"cost": "-1"},
        {"cost": "NaN"},
    ],
)
def test_a_wrong_rule_is_named(wrong: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidRequest, match=r"\S"):
        read_rules(**{"meter": "api_calls", "cost": "1", **wrong})  # type: ignore[arg-type]


def test_costs_are_exact() -> None:
    assert [read_cost(text) for text in ("1", "2.50", "0", "1e2")] == [1, "2.5", 0, 100]


@pytest.mark.parametrize(
    "text", ["localhost:8000", "ftp://a", "http://", "http://a/?b", "http://u:p@a", "http://a:x", "http://a b"]
)
def test_an_upstream_is_a_web_address(text: str) -> None:
    with pytest.raises(InvalidRequest, match="upstream"):
        read_upstream(text)
    assert read_upstream("http://[::1]:8000/") == "http://[::1]:8000"


def test_places_of_keys_are_named() -> None:
    places = read_places(["Authorization", "X-Token"], ["key"])
    assert str(places) == "`Authorization: Bearer KEY` or `x-token: KEY` or `?key=KEY`"
    for headers, query in ((["X_Key"], []), ([], ["a&b"]), ([], [])):
        with pytest.raises(InvalidRequest):
            read_places(headers, query)
