"""The header Stripe-Signature, against Stripe's own words for it."""

from __future__ import annotations

import hashlib
import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.webhooks import WebhookInvalid, check_signature, read_secrets, sign

BODY = b'{"id":"evt_1"}'
KEY = b"whsec_one"
AT = 1_790_000_000
GOOD = hmac.new(KEY, b"1790000000." + BODY, hashlib.sha256).hexdigest()


def test_a_signature_is_the_hmac_of_time_dot_body_in_hex() -> None:
    assert sign(KEY, BODY, AT) == f"t=1790000000,v1={GOOD}"


@pytest.mark.parametrize(
    "header",
    [
        f"t={AT},v1={GOOD}",
        f"v1={GOOD},t={AT}",
        f"t={AT}, v1={GOOD}",
        f"t={AT},v1={'0' * 64},v1={GOOD},v0=whatever",
        f"t={AT},v0={'0' * 64},scheme=else,v1={GOOD}",
    ],
)
def test_any_of_several_signatures_is_enough(header: str) -> None:
    check_signature((b"whsec_other", KEY), header, BODY, AT)


@pytest.mark.parametrize(
    ("header", "now", "reason"),
    [
        (None, AT, "signature_missing"),
        ("", AT, "signature_missing"),
        ("nonsense", AT, "signature_malformed"),
        (f"t={AT}", AT, "signature_malformed"),
        (f"v1={GOOD}", AT, "signature_malformed"),
        (f"t=,v1={GOOD}", AT, "signature_malformed"),
        (f"t=-5,v1={GOOD}", AT, "signature_malformed"),
        (f"t={'9' * 400},v1={GOOD}", AT, "signature_malformed"),
        (f"t={AT},v1={'0' * 64}", AT, "signature_mismatch"),
        (f"t={AT},v1={GOOD.upper()}", AT, "signature_mismatch"),
        (f"t={AT},v1=é{GOOD}", AT, "signature_mismatch"),
        (f"t={AT + 1},v1={GOOD}", AT, "signature_mismatch"),
        (f"t={AT},v0={GOOD}", AT, "signature_malformed"),
        (f"t={AT},v1={GOOD}", AT + 301, "stale"),
        (f"t={AT},v1={GOOD}", AT - 301, "future"),
    ],
)
def test_everything_else_is_refused_with_its_reason(header: str | None, now: int, reason: str) -> None:
    with pytest.raises(WebhookInvalid) as refused:
        check_signature((KEY,), header, BODY, now)
    assert (refused.value.reason, refused.value.code) == (reason, "webhook_invalid")


@pytest.mark.parametrize("now", [AT - 300, AT, AT + 300])
def test_three_hundred_seconds_are_taken_either_way(now: int) -> None:
    check_signature((KEY,), f"t={AT},v1={GOOD}", BODY, now)


@given(st.text(), st.binary())
def test_no_header_makes_it_fail_otherwise(header: str, body: bytes) -> None:
    with pytest.raises(WebhookInvalid):
        check_signature((KEY,), header, body, AT)


@given(st.binary(), st.binary())
def test_a_body_that_is_not_the_signed_one_is_refused(body: bytes, other: bytes) -> None:
    header = sign(KEY, body, AT)
    check_signature((KEY,), header, body, AT)
    if body != other:
        with pytest.raises(WebhookInvalid):
            check_signature((KEY,), header, other, AT)


def test_the_official_client_takes_what_is_signed_here_and_the_other_way_round() -> None:
    import stripe

    at = int(time.time())
    text = BODY.decode()
    assert stripe.WebhookSignature.verify_header(text, sign(KEY, BODY, at), KEY.decode(), 300)
    theirs = stripe.WebhookSignature._compute_signature(f"{at}.{text}", KEY.decode())
    check_signature((KEY,), f"t={at},v1={theirs}", BODY, at)


def test_several_secrets_stand_in_one_setting() -> None:
    assert read_secrets(" whsec_a , whsec_b,") == (b"whsec_a", b"whsec_b")
    assert read_secrets("") == ()
