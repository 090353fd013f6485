"""Cost to date over HTTP, and only to whom it belongs."""

from __future__ import annotations

import httpx

from web.site import Site
from web.test_problems import assert_problem


async def test_cost_is_told_by_price_with_its_lines_and_a_total(site: Site, api: httpx.AsyncClient) -> None:
    customer = site.spine.customer("pro")
    key = site.spine.key(customer)
    for _ in range(7):
        assert site.toll.gate.check(key, "api_calls").code == "VALID"
    cost = (await api.get(f"/v1/customers/{customer}/cost?period=current")).json()
    price = cost["prices"][0].pop("price")
    span = {"start": "2026-09-21T14:13:20Z", "end": "2026-10-21T14:13:20Z"}
    assert cost == {
        "customer": customer,
        "environment": "live",
        "plan": "pro",
        "plan_version": 1,
        "currency": "usd",
        **span,
        "prices": [
            {
                "key": "calls",
                **span,
                "state": "known",
                "quantity": "7",
                "amount": "0.01",
                "exact_amount": "0.014",
                "lines": [{"kind": "tier", "tier": 0, "quantity": "7", "unit_amount": "0.002", "amount": "0.01"}],
            }
        ],
        "totals": [{"currency": "usd", **span, "state": "known", "amount": "0.01", "exact_amount": "0.014"}],
        "left_out": [],
    }
    rated = (await api.post("/v1/rate", json={"price": price, "quantity": "7"})).json()
    assert rated["lines"] == cost["prices"][0]["lines"]


async def test_a_customers_own_key_reads_its_own_cost_of_its_environment(site: Site) -> None:
    one, other = site.spine.customer("pro"), site.spine.customer("pro")
    key = site.spine.key(one)
    assert site.toll.gate.check(key, "api_calls").code == "VALID"
    async with site.client(key) as client:
        own = await client.get(f"/v1/customers/{one}/cost")
        assert (own.status_code, own.json()["prices"][0]["quantity"]) == (200, "1")
        for path in (f"{other}/cost", "nobody/cost", f"{one}/cost?environment=test"):
            assert_problem(await client.get(f"/v1/customers/{path}"), 403, "forbidden")
        assert_problem(await client.get(f"/v1/customers/{one}"), 403, "forbidden")
    async with site.client(site.spine.key(one, environment="test")) as client:
        shown = (await client.get(f"/v1/customers/{one}/cost")).json()
        assert (shown["environment"], shown["prices"][0]["quantity"]) == ("test", "0")


async def test_cost_needs_the_scope_to_read_usage(site: Site, api: httpx.AsyncClient) -> None:
    customer = site.spine.customer("pro")
    for scope, status in {"usage:read": 200, "check": 403}.items():
        async with site.client(site.server_key(scope)) as client:
            assert (await client.get(f"/v1/customers/{customer}/cost")).status_code == status
    assert_problem(await api.get("/v1/customers/nobody/cost"), 404, "not_found")
    assert_problem(await api.get(f"/v1/customers/{customer}/cost?period=last"), 400, "invalid_request")


async def test_without_a_plan_there_is_nothing_to_pay(site: Site, api: httpx.AsyncClient) -> None:
    cost = (await api.get(f"/v1/customers/{site.spine.customer(None)}/cost")).json()
    assert (cost["plan"], cost["prices"], cost["totals"]) == (None, [], [])
