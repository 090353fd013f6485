"""The page at `/` shows what there is, as text, and loads nothing."""

from __future__ import annotations

import re
import urllib.request
from typing import Any

from sandbox.conftest import Running


def fetch(running: Running, body: bytes | None = None, path: str = "/") -> tuple[str, Any]:
    with urllib.request.urlopen(running.url + path, body) as answer:
        return answer.read().decode(), answer.headers


def test_the_page_shows_what_there_is_as_text_and_loads_nothing(running: Running) -> None:
    client = running.client
    customer = client.v1.customers.create({"name": "<script>alert(1)</script>", "email": "ada@example.com"})
    client.v1.billing.meters.create(
        {"display_name": "API calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    payload = {"stripe_customer_id": customer.id, "value": "41.5"}
    client.v1.billing.meter_events.create({"event_name": "calls", "payload": payload})
    running.control("/faults", {"kind": "500", "path": "/v1/nothing"})
    page, headers = fetch(running)
    assert "<script" not in page
    for text in ("&lt;script&gt;alert(1)", "ada@example.com", "API calls", "41.5", "customer.created", "/v1/nothing"):
        assert text in page
    assert re.findall(r'(?:src|href|action)="(?!/|data:,)[^"]*"', page) == []
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_the_buttons_move_time_and_hold_deliveries(running: Running) -> None:
    running.control("/clock", {"set": "2027-01-31T00:00:00Z", "frozen": True})
    fetch(running, b"do=day", "/sandbox/act")
    assert running.control("/clock")["now"] == "2027-02-01T00:00:00.000Z"
    fetch(running, b"do=hold", "/sandbox/act")
    assert running.control("/webhooks")["hold"]
    fetch(running, b"do=release", "/sandbox/act")
    assert not running.control("/webhooks")["hold"]
    fetch(running, b"do=run", "/sandbox/act")
    assert not running.control("/clock")["frozen"]


def test_each_cell_says_what_it_is_where_the_heads_of_a_table_are_not_shown(running: Running) -> None:
    running.client.v1.customers.create({"name": "Acme", "email": "ops@acme.example"})
    page, _ = fetch(running)
    row = re.search(r"<tr><td data-is=\"name\">.*?</tr>", page)
    assert row is not None
    assert re.findall(r'data-is="([^"]+)"', row.group()) == ["name", "id", "e-mail"]
    assert "td::before{content:attr(data-is)" in page
