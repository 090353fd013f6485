"""Signed webhooks of the payment provider: the header `Stripe-Signature`, made and checked. https://docs.stripe.com/webhooks#verify-manually

The header is `t=SECONDS,v1=HEX,v1=HEX,…`: HMAC-SHA256 of `SECONDS.BODY` under the endpoint's secret. While a secret is rotated there
are several secrets, and several signatures.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from typing import Final, Literal

from tollkeeper.core.errors import TollkeeperError

TOLERANCE_SECONDS: Final = 300
MAX_ID: Final = 255
MOST_SIGNATURES: Final = 16
"""Signatures of one header that are looked at; more would only cost time."""

_TIME: Final = re.compile(r"[0-9]{1,12}")

Reason = Literal[
    "signature_missing",
    "signature_malformed",
    "signature_mismatch",
    "stale",
    "future",
    "encoding",
    "json",
]


class WebhookInvalid(TollkeeperError):
    """The webhook's signature, encoding or JSON is not right. Nothing was stored."""

    code = "webhook_invalid"
    permanent = True

    def __init__(self, detail: str = "", reason: Reason = "json") -> None:
        """`reason` is the word it is counted under."""
        super().__init__(detail)
        self.reason: Reason = reason


def read_secrets(text: str) -> tuple[bytes, ...]:
    """The secrets of a setting: one, or several separated by commas while one is being replaced."""
    return tuple(part.strip().encode() for part in text.split(",") if part.strip())


def sign(secret: bytes, body: bytes, at_s: int) -> str:
    """The header for a body sent at `at_s`, seconds since 1970."""
    return f"t={at_s},v1={hmac.digest(secret, b'%d.%b' % (at_s, body), 'sha256').hex()}"


def check_signature(secrets: Sequence[bytes], header: str | None, body: bytes, now_s: int) -> None:
    """Raises WebhookInvalid unless one of the signatures is by one of the secrets, and made within 300 s of now, either way."""
    if not header:
        raise WebhookInvalid("The header Stripe-Signature is missing.", "signature_missing")
    at, signatures = _parts(header)
    if at is None or not signatures:
        raise WebhookInvalid(
            "The header Stripe-Signature is not of the form `t=SECONDS,v1=HEX`.", "signature_malformed"
        )
    if not _any_match(secrets, at, signatures, body):
        raise WebhookInvalid(
            "No signature is by a secret of this server. STRIPE_WEBHOOK_SECRET must be the secret of this very endpoint, "
            "and the body must arrive byte for byte as it was sent.",
            "signature_mismatch",
        )
    age = now_s - int(at)
    if age > TOLERANCE_SECONDS:
        raise WebhookInvalid(
            f"It was signed {age} seconds ago; at most {TOLERANCE_SECONDS} are taken. Is this server's clock right?",
            "stale",
        )
    if age < -TOLERANCE_SECONDS:
        raise WebhookInvalid(
            f"It was signed {-age} seconds ahead of this server's clock; at most {TOLERANCE_SECONDS} are taken.",
            "future",
        )


def _parts(header: str) -> tuple[str | None, list[str]]:
    at: str | None = None
    signatures: list[str] = []
    for part in header.split(",", 3 * MOST_SIGNATURES):
        name, _, value = part.strip().partition("=")
        if name == "t":
            at = value if _TIME.fullmatch(value) else None
        elif name == "v1" and len(signatures) < MOST_SIGNATURES:
            signatures.append(value)
    return at, signatures


def _any_match(secrets: Sequence[bytes], at: str, signatures: Sequence[str], body: bytes) -> bool:
    message = b"%b.%b" % (at.encode(), body)
    for secret in secrets:
        expected = hmac.digest(secret, message, "sha256").hex()
        for signature in signatures:
            if signature.isascii() and hmac.compare_digest(expected, signature):  # text that is not ASCII would raise
                return True
    return False
