"""Usage over HTTP: visible at once, cut into windows, and only to whom it belongs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx
import pytest

from tollkeeper.core.events import UsageEvent
from web.site import Site
from web.test_problems import assert_problem


class Two:
    """Two customers with a live and a test key each; the first has used 3 live calls and 1 test call, the second 5 live calls."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.one, self.other = site.spine.customer(), site.spine.customer()
        self.keys: dict[tuple[str, str], str] = {}
        for customer in (self.one, self.other):
            for environment in ("live", "test"):
                self.keys[customer, environment] = site.spine.key(customer, environment=environment)
        self.call(self.one, "live", 3)
        self.call(self.one, "test", 1)
        self.call(self.other, "live", 5)

    def call(self, customer: str, environment: str, times: int) -> None:
        for _ in range(times):
            assert self.site.toll.gate.check(self.keys[customer, environment], "api_calls").code == "VALID"


@pytest.fixture
def two(site: Site) -> Two:
    return Two(site)


async def read(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/v1/usage", params={"meter": "api_calls", **query})
    assert answer.status_code == 200, answer.text
    usage: dict[str, Any] = answer.json()
    return usage


async def test_the_admin_sees_everything_live_unless_test_is_asked_for(api: httpx.AsyncClient, two: Two) -> None:
    assert (await read(api))["total"] == "8"
    assert (await read(api, environment="test"))["total"] == "1"
    assert (await read(api, customer=two.one))["total"] == "3"
    assert (await read(api, customer=two.other, environment="test"))["total"] == "0"


async def test_a_customers_key_sees_its_own_usage_of_its_environment_only(site: Site, two: Two) -> None:
    for (customer, environment), total in {
        (two.one, "live"): "3",
        (two.one, "test"): "1",
        (two.other, "live"): "5",
        (two.other, "test"): "0",
    }.items():
        async with site.client(two.keys[customer, environment]) as client:
            for query in ({}, {"customer": customer}, {"environment": environment}, {"group_by": "customer,key"}):
                usage = await read(client, **query)
                assert usage["total"] == total
                assert {row["group"].get("customer", customer) for row in usage["data"]} <= {customer}
            stranger = two.other if customer == two.one else two.one
            elsewhere = "test" if environment == "live" else "live"
            for query in ({"customer": stranger}, {"environment": elsewhere}, {"customer": "nobody"}):
                answer = await client.get("/v1/usage", params={"meter": "api_calls", **query})
                assert_problem(answer, 403, "forbidden")


async def test_a_strangers_key_id_shows_a_customer_nothing(site: Site, two: Two) -> None:
    [record] = site.toll.keys.list(customer=two.other, environment="live").items
    async with site.client(two.keys[two.one, "live"]) as client:
        assert (await read(client, key=record.id))["total"] == "0"


async def test_a_server_key_sees_all_customers_of_its_environment(site: Site, two: Two) -> None:
    async with site.client(site.server_key("usage:read", environment="test")) as client:
        assert (await read(client))["total"] == "1"
        assert (await read(client, customer=two.one))["total"] == "1"
        assert_problem(await client.get("/v1/usage?meter=api_calls&environment=live"), 403, "forbidden")


async def test_windows_and_groups_tile_the_total(api: httpx.AsyncClient, two: Two) -> None:
    two.site.spine.time.move(3_600_000_000_000)
    two.call(two.one, "live", 2)
    usage = await read(
        api,
        customer=two.one,
        window="hour",
        group_by="key",
        **{"from": "2026-09-21T14:00:00Z", "to": "2026-09-21T18:00:00+02:00"},
    )
    assert [(row["start"], row["end"], row["value"]) for row in usage["data"]] == [
        ("2026-09-21T14:00:00Z", "2026-09-21T15:00:00Z", "3"),
        ("2026-09-21T15:00:00Z", "2026-09-21T16:00:00Z", "2"),
    ]
    assert [len(row["group"]) for row in usage["data"]] == [1, 1]
    assert usage["total"] == "5"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"window": "week"}, "query.window"),
        ({"from": "yesterday"}, "query.from"),
        ({"from": "2026-09-21T14:00:00"}, "query.from"),
        ({"from": "2026-09-21T14:00:00 02:00"}, "query.from"),
        ({"to": "2026-13-01T00:00:00Z"}, "query.to"),
        ({"from": "2026-09-22T00:00:00Z", "to": "2026-09-21T00:00:00Z"}, "from"),
        ({"from": "0001-01-01T00:00:00Z"}, "1900"),
        ({"from": "9999-12-31T23:59:59Z", "to": "9999-12-31T23:59:59.5Z"}, "2999"),
        ({"from": "2000-01-01T00:00:00Z", "window": "hour"}, "10000"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"group_by": "colour"}, "group_by"),
        ({"window": "period"}, "customer"),
        ({"meter": ""}, "meter"),
        ({"environment": "prod"}, "query.environment"),
        ({"custmer": "x"}, "query.custmer"),
    ],
)
async def test_a_faulty_question_is_refused_by_name(api: httpx.AsyncClient, query: dict[str, str], said: str) -> None:
    answer = await api.get("/v1/usage", params={"meter": "api_calls", **query})
    assert answer.status_code in (400, 404), answer.text
    problem = assert_problem(answer, answer.status_code, answer.json()["code"])
    assert said in problem["detail"]


async def test_an_unknown_meter_or_customer_is_not_found(api: httpx.AsyncClient) -> None:
    assert_problem(await api.get("/v1/usage?meter=nothing"), 404, "not_found")
    assert_problem(await api.get("/v1/usage?meter=api_calls&customer=nobody"), 404, "not_found")
    assert_problem(await api.get("/v1/usage"), 400, "invalid_request")


async def test_events_that_no_meter_counts_are_visible(site: Site, api: httpx.AsyncClient, two: Two) -> None:
    at = datetime.fromisoformat("2026-09-21T14:00:00+00:00")
    events = [UsageEvent(id=f"e{i}", type="api.cal", source="worker", customer=two.one, time=at) for i in range(3)]
    assert [result.status for result in site.toll.ingest.ingest_wait("live", events)] == ["accepted"] * 3
    found = (await api.get("/v1/events/unmatched")).json()
    assert found == {"data": [{"type": "api.cal", "source": "worker", "events": 3}]}
    assert (await api.get("/v1/events/unmatched?environment=test")).json() == {"data": []}
    async with site.client(two.keys[two.one, "live"]) as client:
        assert_problem(await client.get("/v1/events/unmatched"), 403, "forbidden")
