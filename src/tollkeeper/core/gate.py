"""The gate's answer, a value. Every surface sends the same one; `status` is what an HTTP surface answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Code = Literal[
    "VALID",
    "NOT_FOUND",
    "DISABLED",
    "EXPIRED",
    "FORBIDDEN",
    "INSUFFICIENT_SCOPE",
    "RATE_LIMITED",
    "QUOTA_EXCEEDED",
    "PAYMENT_REQUIRED",
]

STATUS: dict[Code, int] = {
    "VALID": 200,
    "NOT_FOUND": 401,
    "DISABLED": 401,
    "EXPIRED": 401,
    "FORBIDDEN": 403,
    "INSUFFICIENT_SCOPE": 403,
    "RATE_LIMITED": 429,
    "QUOTA_EXCEEDED": 429,
    "PAYMENT_REQUIRED": 402,
}


@dataclass(slots=True)
class RateLimitState:
    """One policy after this decision. `reset_seconds`: until the bucket is full again, rounded up."""

    name: str
    limit: int
    remaining: int
    reset_seconds: int
    window_seconds: int


@dataclass(slots=True)
class QuotaState:
    """Decimals as strings; `resets_at` is RFC 3339. A soft quota may show `remaining` "0" while usage goes on."""

    meter: str
    kind: Literal["hard", "soft"]
    limit: str
    used: str
    remaining: str
    resets_at: str


@dataclass(slots=True)
class Problem:
    """RFC 9457 problem details. `type` links to the page of this code in the docs."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


@dataclass(slots=True)
class Decision:
    """`retry_after` (seconds, ≥ 1) is set on 429 only when waiting helps."""

    code: Code
    status: int
    request_id: str
    event_id: str | None = None
    reservation: str | None = None
    customer: str | None = None
    key_id: str | None = None
    environment: str | None = None
    plan: str | None = None
    rate_limits: tuple[RateLimitState, ...] = ()
    quota: QuotaState | None = None
    problem: Problem | None = None
    retry_after: int | None = None

    @property
    def allowed(self) -> bool:
        return self.code == "VALID"
