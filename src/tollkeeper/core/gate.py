"""The gate's answer, a value: judged in integers, told in words only when asked.

`decide` is pure: it judges every rate limit and the quota together, so that a refusal takes nothing and an admission takes all.
A Decision keeps the numbers it was made of; header values and the wire form come from those same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from json import dumps
from typing import Any, Final, Literal

from tollkeeper.core.ids import ulid_of
from tollkeeper.core.limits import SECOND_NS, policy
from tollkeeper.core.metering import NANOS, format_quantity, join_quantity
from tollkeeper.core.plans import DEFAULT_WEIGHT

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

TITLE: dict[Code, str] = {
    "VALID": "Allowed",
    "NOT_FOUND": "No such API key",
    "DISABLED": "This API key is revoked",
    "EXPIRED": "This API key has expired",
    "FORBIDDEN": "This API key may not be used from here",
    "INSUFFICIENT_SCOPE": "This API key lacks a scope",
    "RATE_LIMITED": "Too many requests",
    "QUOTA_EXCEEDED": "The quota of this period is used up",
    "PAYMENT_REQUIRED": "No active subscription",
}

# https://www.iana.org/assignments/http-problem-types (registered by the RateLimit header draft)
IANA_TYPE: dict[str, str] = {
    "QUOTA_EXCEEDED": "https://iana.org/assignments/http-problem-types#quota-exceeded",
}

BUYABLE: Final = frozenset({"PAYMENT_REQUIRED", "QUOTA_EXCEEDED"})
"""Refusals that another plan would mend: their problem has the address of the plans on offer."""

NEAR_PERCENT: Final = 80
"""Of a quota, from which on a customer is told that it will be used up."""

PENDING: Final = ',"pending":true'


class Bucket:
    """One rate limit of one holder: its policy in nanoseconds, and the GCRA number (`core.limits`)."""

    __slots__ = ("capacity", "interval", "json", "limit", "name", "tat", "weighted", "window_seconds")

    def __init__(self, name: str, limit: int, window_seconds: int, weighted: bool) -> None:
        self.name = name
        self.limit = limit
        self.window_seconds = window_seconds
        self.interval, self.capacity = policy(limit, window_seconds)
        self.weighted = weighted  # counts the cost of a check, not the check
        self.tat = 0
        self.json = f'{{"name":{dumps(name)},"limit":{limit},"remaining":'


class Total:
    """What a customer has used of a meter in the current period, pending included, in billionths."""

    __slots__ = ("used",)

    def __init__(self, used: int = 0) -> None:
        self.used = used


class Allowance:
    """A quota in billionths."""

    __slots__ = ("hard", "json", "limit", "meter", "near")

    def __init__(self, meter: str, limit: Decimal, hard: bool) -> None:
        self.meter = meter
        self.limit = int(limit.scaleb(9))
        self.hard = hard
        self.near = self.limit * NEAR_PERCENT // 100
        kind = "hard" if hard else "soft"
        self.json = f'{{"meter":{dumps(meter)},"kind":"{kind}","limit":"{_text(self.limit)}","used":"'


def decide(
    buckets: Sequence[Bucket], now: int, cost: int, allowance: Allowance | None, used: int, amount: int
) -> tuple[Code, Bucket | None, list[int]]:
    """Judge without taking: the code, the bucket that refused, and each bucket's number if admitted.

    `now` in ns of a steady clock; `cost` in whole units for weighted buckets; `used` and `amount` in billionths.
    """
    tats: list[int] = []
    take = tats.append
    for bucket in buckets:
        tat = bucket.tat
        tat = (tat if tat > now else now) + (bucket.interval * cost if bucket.weighted else bucket.interval)
        if tat - now > bucket.capacity:
            return "RATE_LIMITED", bucket, tats
        take(tat)
    if allowance is not None and allowance.hard and amount > 0 and used + amount > allowance.limit:
        return "QUOTA_EXCEEDED", None, tats
    return "VALID", None, tats


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """One policy after this decision. `reset_seconds`: until the bucket is full again, rounded up."""

    name: str
    limit: int
    remaining: int
    reset_seconds: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class QuotaState:
    """Decimals as strings; `resets_at` is RFC 3339. Past the limit of a soft quota `remaining` stays "0"."""

    meter: str
    kind: Literal["hard", "soft"]
    limit: str
    used: str
    remaining: str
    resets_at: str


class Who:
    """Whom a key speaks for, as the decision tells it. `buy` makes the token of a link to the plans (`core.buy_links`), from seconds."""

    __slots__ = ("buy", "customer", "environment", "json", "key_id", "plan")

    def __init__(self, customer: str | None, key_id: str | None, environment: str | None, plan: str | None) -> None:
        self.customer = customer
        self.key_id = key_id
        self.environment = environment
        self.plan = plan
        self.buy: Callable[[int], str] | None = None
        self.json = dumps(
            {"customer": customer, "key_id": key_id, "environment": environment, "plan": plan}, separators=(",", ":")
        )[1:-1]


NOBODY: Final = Who(None, None, None, None)


class Terms:
    """What a request is judged by: the limits that hold for it, and the quota of its meter."""

    __slots__ = ("allowance", "buckets", "shadow", "weight")

    def __init__(self, buckets: Sequence[Bucket] = (), allowance: Allowance | None = None) -> None:
        self.buckets = buckets
        self.allowance = allowance
        self.shadow = False  # what they refuse is told, and let through
        self.weight = DEFAULT_WEIGHT  # of the plan, for what an upstream is to take


NO_TERMS: Final = Terms()


class Decision:
    """The gate's answer. `code` says it; the rest is told when asked, from the numbers of the moment it was made.

    `amount` (billionths) is what it took and holds: the usage event will carry it; 0 when nothing was taken, or all was given back.
    `id`: 128 bits, a ULID; the request and its usage event share it. `reservation`: the token to commit or release by.
    `settle` is for whoever hands decisions to strangers.
    """

    __slots__ = (
        "_ulid",
        "amount",
        "code",
        "id",
        "now",
        "reason",
        "reservation",
        "resets_at",
        "settled",
        "shadow",
        "tats",
        "terms",
        "used",
        "who",
    )

    def __init__(
        self,
        code: Code,
        id: int,
        who: Who,
        terms: Terms = NO_TERMS,
        now: int = 0,
        tats: Sequence[int] = (),
        used: int = 0,
        resets_at: int = 0,
        amount: int = 0,
        reason: Bucket | str | None = None,
    ) -> None:
        self.code = code
        self.id = id
        self.who = who
        self.terms = terms
        self.now = now  # steady ns
        self.tats = tats
        self.used = used
        self.resets_at = resets_at
        self.amount = amount
        self.reason = reason
        self.reservation: str | None = None
        self.shadow: Code | None = None  # what it would have been, without shadow mode
        self._ulid = ""

    def settle(self) -> bool:
        """True once, for a decision that holds something: whoever gets it commits or refunds, nobody else any more."""
        if not self.amount or hasattr(self, "settled"):
            return False
        self.settled = True
        return True

    @property
    def allowed(self) -> bool:
        return self.code == "VALID"

    @property
    def status(self) -> int:
        """What an HTTP surface answers with."""
        return STATUS[self.code]

    @property
    def ulid(self) -> str:
        text = self._ulid
        if not text:
            text = self._ulid = ulid_of(self.id)
        return text

    @property
    def request_id(self) -> str:
        return f"req_{self.ulid}"

    @property
    def event_id(self) -> str | None:
        """The usage event's id; None when nothing was recorded."""
        return f"evt_{self.ulid}" if self.amount and self.reservation is None else None

    @property
    def rate_limits(self) -> tuple[RateLimitState, ...]:
        """Every policy that was judged, the tightest first in `headers`."""
        now = self.now
        states = []
        for i, bucket in enumerate(self.terms.buckets):
            tat = self.tats[i]
            spent = tat - now if tat > now else 0
            remaining = (bucket.capacity - spent) // bucket.interval if spent < bucket.capacity else 0
            states.append(
                RateLimitState(
                    bucket.name,
                    bucket.limit,
                    remaining,
                    -(-spent // SECOND_NS),
                    bucket.window_seconds,
                )
            )
        return tuple(states)

    @property
    def quota(self) -> QuotaState | None:
        allowance = self.terms.allowance
        if allowance is None:
            return None
        left = allowance.limit - self.used
        return QuotaState(
            allowance.meter,
            "hard" if allowance.hard else "soft",
            _text(allowance.limit),
            _text(self.used),
            _text(left if left > 0 else 0),
            instant(self.resets_at),
        )

    def retry_after(self, cost: int = 1) -> int | None:
        """Seconds (≥ 1) after which the same request would pass the limit or quota that refused it; None: waiting does not help."""
        bucket = self.reason
        if isinstance(bucket, Bucket):
            need = bucket.interval * (cost if bucket.weighted else 1)
            if need > bucket.capacity:
                return None
            tat = self.tats[self.terms.buckets.index(bucket)]
            wait = max(tat, self.now) + need - self.now - bucket.capacity
            return max(1, -(-wait // SECOND_NS))
        if self.code == "QUOTA_EXCEEDED" and self.terms.allowance is not None and self.terms.allowance.limit > 0:
            return max(1, -(-(self.resets_at - (self.id >> 80) * 1000) // 1_000_000))
        return None

    def explain(self) -> str:
        """One sentence for the person whose request was refused."""
        bucket = self.reason
        if isinstance(bucket, str):
            return bucket
        if bucket is not None:
            return f"The limit {bucket.name!r} allows {bucket.limit} in {bucket.window_seconds} s."
        if self.code == "QUOTA_EXCEEDED" and (quota := self.quota) is not None:
            return f"{quota.used} of {quota.limit} {quota.meter} are used; the quota starts again at {quota.resets_at}."
        return TITLE[self.code] + "."

    def problem(self, docs: str = "") -> dict[str, Any] | None:
        """RFC 9457 problem details, None when allowed. `docs` is the address the error pages hang from."""
        if self.code == "VALID":
            return None
        problem: dict[str, Any] = {
            "type": IANA_TYPE.get(self.code) or f"{docs}/docs/errors/{self.code}",
            "title": TITLE[self.code],
            "status": self.status,
            "detail": self.explain(),
            "code": self.code,
            "request_id": self.request_id,
        }
        if self.code in IANA_TYPE:
            problem["help"] = f"{docs}/docs/errors/{self.code}"
        if self.who.buy is not None and self.code in BUYABLE:
            problem["checkout_url"] = f"{docs}/buy/{self.who.buy((self.id >> 80) // 1000)}"
        wait = self.retry_after()
        if wait is not None:
            problem["retry_after"] = wait
        return problem

    def as_dict(self, docs: str = "") -> dict[str, Any]:
        """The wire form of `POST /v1/check`."""
        who = self.who
        quota = self.quota
        told = {} if self.shadow is None else {"shadow": self.shadow}
        return {
            "code": self.code,
            "status": self.status,
            "request_id": self.request_id,
            "event_id": self.event_id,
            "reservation": self.reservation,
            "customer": who.customer,
            "key_id": who.key_id,
            "environment": who.environment,
            "plan": who.plan,
            "rate_limits": [
                {"name": s.name, "limit": s.limit, "remaining": s.remaining, "reset_seconds": s.reset_seconds}
                for s in self.rate_limits
            ],
            "quota": None
            if quota is None
            else {name: getattr(quota, name) for name in ("meter", "kind", "limit", "used", "remaining", "resets_at")},
            "problem": self.problem(docs),
            **told,
        }

    def to_json(self, docs: str = "", *, pending: bool = False) -> bytes:
        """`as_dict` as JSON, made of parts that were encoded once. `pending`: answered before the commit."""
        text = self.ulid
        now = self.now
        limits = []
        for bucket, tat in zip(self.terms.buckets, self.tats, strict=True):
            spent = tat - now if tat > now else 0
            remaining = (bucket.capacity - spent) // bucket.interval if spent < bucket.capacity else 0
            limits.append(f'{bucket.json}{remaining},"reset_seconds":{-(-spent // SECOND_NS)}}}')
        quota = "null"
        allowance = self.terms.allowance
        if allowance is not None:
            left = allowance.limit - self.used
            quota = (
                f'{allowance.json}{_text(self.used)}","remaining":"{_text(left if left > 0 else 0)}",'
                f'"resets_at":"{instant(self.resets_at)}"}}'
            )
        event = f'"evt_{text}"' if self.amount else "null"
        reservation = "null"
        if self.reservation is not None:
            event, reservation = "null", f'"{self.reservation}"'
        shadow = "" if self.shadow is None else f',"shadow":"{self.shadow}"'
        problem = "null" if self.code == "VALID" else dumps(self.problem(docs), separators=(",", ":"))
        return (
            f'{{"code":"{self.code}","status":{STATUS[self.code]},"request_id":"req_{text}","event_id":{event},'
            f'"reservation":{reservation},{self.who.json},"rate_limits":[{",".join(limits)}],"quota":{quota},'
            f'"problem":{problem}{PENDING if pending else ""}{shadow}}}'
        ).encode()

    def headers(self) -> list[tuple[str, str]]:
        """`RateLimit-Policy`, `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), `X-RateLimit-*`, `Retry-After`."""
        states = self.rate_limits
        quota = self.quota
        out: list[tuple[str, str]] = []
        policies = [f'"{s.name}";q={s.limit}' + (f";w={s.window_seconds}" if s.window_seconds else "") for s in states]
        current = [f'"{s.name}";r={s.remaining};t={s.reset_seconds}' for s in states]
        if quota is not None:
            policies.append(f'"quota-{quota.meter}";q={quota.limit.partition(".")[0]}')
            current.append(f'"quota-{quota.meter}";r={quota.remaining.partition(".")[0]}')
            allowance = self.terms.allowance
            if allowance is not None and allowance.limit and self.used >= allowance.near:
                percent = min(self.used * 100 // allowance.limit, 999)
                out.append(("x-quota-warning", f'"quota-{quota.meter}";used={percent}%'))
        if policies:
            out.append(("ratelimit-policy", ", ".join(policies)))
            out.append(("ratelimit", ", ".join(current)))
        if states:
            tightest = min(states, key=lambda s: s.remaining / s.limit)
            out.append(("x-ratelimit-limit", str(tightest.limit)))
            out.append(("x-ratelimit-remaining", str(tightest.remaining)))
            out.append(("x-ratelimit-reset", str(tightest.reset_seconds)))
        wait = self.retry_after()
        if wait is not None:
            out.append(("retry-after", str(wait)))
        return out


def _text(billionths: int) -> str:
    units, nanos = divmod(billionths, NANOS)
    return str(units) if not nanos else format_quantity(join_quantity(0, billionths))


@lru_cache(maxsize=4096)
def instant(us: int) -> str:
    """RFC 3339 in UTC; microseconds only when there are any."""
    seconds, micros = divmod(us, 1_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{micros:06d}Z" if micros else f"{text}Z"
