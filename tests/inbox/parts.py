"""Webhooks as Stripe sends them, of a size that is usual there."""

from __future__ import annotations

import http.client
import itertools
import json
from typing import Any

from tollkeeper.core.webhooks import sign

SECRET = "whsec_of-the-tests"
OTHER = "whsec_the-one-before"
NOW = 1_790_000_000
_number = itertools.count(1)


def event(
    type: str = "invoice.paid", *, live: bool = False, about: str | None = "in_1", **fields: Any
) -> dict[str, Any]:
    """About 4.5 KB."""
    number = next(_number)
    made: dict[str, Any] = {
        "id": f"evt_{number:024d}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": NOW,
        "data": {"object": {"id": about, "object": type.partition(".")[0], "lines": [{"n": n} for n in range(110)]}},
        "livemode": live,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": type,
    }
    return made | fields


def thin(type: str = "v1.billing.meter.error_report_triggered") -> dict[str, Any]:
    """An event of v2: it tells what it is about, and nothing else."""
    return {
        "id": f"evt_test_{next(_number):020d}",
        "object": "v2.core.event",
        "type": type,
        "livemode": False,
        "created": "2026-09-21T14:13:20.246Z",
        "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"},
    }


def written(made: Any) -> bytes:
    """With line ends and spaces, as Stripe writes it: bytes that no decoder and encoder would give back."""
    return json.dumps(made, indent=2).encode()


def signature(body: bytes, at: int = NOW, secret: str = SECRET) -> str:
    return sign(secret.encode(), body, at)


def send(
    port: int, body: bytes, header: str | None, connection: http.client.HTTPConnection | None = None
) -> tuple[int, Any]:
    """Status and answer."""
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json; charset=utf-8"}
    own.request("POST", "/webhooks/stripe", body, headers | ({} if header is None else {"Stripe-Signature": header}))
    answer = own.getresponse()
    told = json.loads(answer.read())
    if connection is None:
        own.close()
    return answer.status, told
