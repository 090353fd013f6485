"""The way of a call to Stripe: what breaks on it is told as what the official client expects, so that its own rules of retrying hold."""

from __future__ import annotations

import pytest
import stripe

from tollkeeper.integrations.stripe.transport import Transport

from .conftest import Shop


def test_an_answer_comes_with_its_status_and_headers_in_any_case(shop: Shop) -> None:
    body, status, headers = Transport(shop.sandbox.url).request("get", f"{shop.sandbox.url}/v1/customers", {}, None)
    assert (status, b"error" in body) == (401, True)
    assert headers["Request-Id"] == headers["request-id"]


def test_a_connection_that_is_refused_or_breaks_may_be_tried_again(shop: Shop) -> None:
    with pytest.raises(stripe.APIConnectionError) as refused:
        Transport("http://127.0.0.1:9").request("post", "http://127.0.0.1:9/v1/customers", {}, "a=1")
    assert refused.value.should_retry
    shop.sandbox.control("/faults", {"kind": "drop_after", "method": "*", "path": "*", "count": 1})
    key = {"Authorization": "Bearer sk_test_tests1234"}
    with pytest.raises(stripe.APIConnectionError) as broken:
        Transport(shop.sandbox.url).request("get", f"{shop.sandbox.url}/v1/customers", key, None)
    assert broken.value.should_retry


def test_a_certificate_that_is_not_accepted_is_not_tried_again(shop: Shop) -> None:
    url = shop.sandbox.url.replace("http://", "https://")
    with pytest.raises(stripe.APIConnectionError) as fault:
        Transport(url).request("get", f"{url}/v1/customers", {}, None)
    assert not fault.value.should_retry


def test_a_proxy_of_the_environment_is_used(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", shop.sandbox.url)
    monkeypatch.setenv("no_proxy", "")
    body, status, _ = Transport("http://stripe.invalid").request("get", "http://stripe.invalid/v1/customers", {}, None)
    assert (status, b"error" in body) == (401, True)
