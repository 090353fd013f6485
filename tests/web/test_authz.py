"""`/authz` as gateways ask it: by the exchanges their documentation describes. nginx and Caddy themselves: tests/gateways."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from spine import CATALOG
from tollkeeper.core.errors import InvalidRequest, NotFound
from tollkeeper.server import Server, opened
from tollkeeper.services.reservations import Call, Committed
from tollkeeper.settings import Settings


class Gateway:
    def __init__(self, server: Server, client: httpx.AsyncClient) -> None:
        self.toll = server.toll
        self.client = client
        self.toll.catalog.apply(CATALOG)
        self.customer = self.toll.customers.create(name="Ann", plan="free").customer.id
        self.key = self.toll.keys.create(customer=self.customer).key

    async def ask(self, query: str, key: str | None = None, method: str = "GET", **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["authorization"] = f"Bearer {key or self.key}"
        return await self.client.request(method, query, headers=sent)

    def used(self) -> str:
        return self.toll.usage.query("api_calls", customer=self.customer).total


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    settings = Settings.load({"PORT": "0", "TOLLKEEPER_ADMIN_TOKEN": "admin-token-of-the-tests"}, tmp_path)
    with opened(settings) as server:
        transport = httpx.ASGITransport(server.app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://toll") as client:
            yield Gateway(server, client)


IDENTITY = [f"x-tollkeeper-{name}" for name in ("customer", "key", "plan", "environment", "reservation", "request-id")]


async def test_traefik_is_told_by_status_and_gets_every_identity_header(gateway: Gateway) -> None:
    query = "/authz?profile=traefik&meter=api_calls&free=/health"
    forwarded = {"x_forwarded_method": "GET", "x_forwarded_uri": "/things?page=2", "x_forwarded_for": "203.0.113.7"}
    allowed = await gateway.ask(query, **forwarded)
    assert (allowed.status_code, allowed.content) == (200, b"")
    assert [allowed.headers[name] for name in IDENTITY[:2]] == [gateway.customer, allowed.headers["x-tollkeeper-key"]]
    free = await gateway.ask(query, **{**forwarded, "x_forwarded_uri": "/health"})
    assert (free.status_code, [free.headers[name] for name in IDENTITY[:5]]) == (200, [""] * 5)
    refused = await gateway.ask(query, "tk_live_nothing", **forwarded)
    assert (refused.status_code, refused.json()["code"]) == (401, "NOT_FOUND")
    assert gateway.used() == "1"


async def test_envoy_asks_with_the_calls_own_method_path_and_query(gateway: Gateway) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = await gateway.ask("/authz/envoy/api_calls:2/things?meter=tokens&cost=0&profile=plain", method=method)
        assert answer.status_code == 200
    assert gateway.used() == "6"
    keyed = await gateway.client.get(f"/authz/envoy/api_calls/x?api_key={gateway.key}")
    assert keyed.status_code == 200
    refused = await gateway.ask("/authz/envoy/api_calls/things", "tk_live_nothing")
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")


async def test_a_key_bound_to_addresses_is_judged_by_what_the_gateway_saw(gateway: Gateway) -> None:
    bound = gateway.toll.keys.create(customer=gateway.customer, ips=["203.0.113.0/24"]).key
    for profile, headers, status in (
        ("caddy", {"x_forwarded_for": "203.0.113.7"}, 200),
        ("caddy", {"x_forwarded_for": "203.0.113.7, 198.51.100.1"}, 403),
        ("caddy", {"x_real_ip": "203.0.113.7"}, 403),
        ("nginx", {"x_real_ip": "203.0.113.7", "x_forwarded_for": "198.51.100.1"}, 200),
        ("nginx", {"x_forwarded_for": "203.0.113.7"}, 403),
        ("traefik", {}, 403),
    ):
        answer = await gateway.ask(f"/authz?profile={profile}&meter=api_calls", bound, **headers)
        assert answer.status_code == status, (profile, headers)


async def test_nginx_gets_statuses_it_understands_and_the_true_one_in_a_header(gateway: Gateway) -> None:
    query = "/authz?profile=nginx&meter=api_calls&cost=20"
    assert (await gateway.ask(query)).status_code == 200
    refused = await gateway.ask(query)
    assert (refused.status_code, refused.headers["x-tollkeeper-status"]) == (403, "429")
    problem = json.loads(refused.headers["x-tollkeeper-problem"])
    assert (problem, problem["code"]) == (refused.json(), "QUOTA_EXCEEDED")
    twice = await gateway.client.get(
        query, headers=[("authorization", f"Bearer {gateway.key}"), ("x-original-uri", "/a"), ("x-original-uri", "/b")]
    )
    assert (twice.status_code, twice.headers["x-tollkeeper-status"]) == (403, "400")


@pytest.mark.parametrize(
    "query",
    [
        "profile=apache&meter=api_calls",
        "meter=api_calls&meter=tokens",
        "meter=api%20calls",
        "meter=api_calls&cost=-1",
        "meter=api_calls&cost=1e400",
        "metre=api_calls",
        "meter=api_calls&settle=yes",
        "meter=api_calls&price=/x",
        "meter=%ff",
        "profile=envoy&meter=api_calls",
        "&&&",
    ],
)
async def test_a_wrong_configuration_is_told_and_lets_nobody_through(gateway: Gateway, query: str) -> None:
    answer = await gateway.ask(f"/authz?{query}")
    assert answer.status_code >= 400
    assert answer.json()["detail"]
    assert gateway.used() == "0"


async def test_a_meter_that_the_catalog_does_not_have_lets_nobody_through(gateway: Gateway) -> None:
    answer = await gateway.ask("/authz?meter=nothing")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert (await gateway.ask("/authz/envoy//x")).status_code == 400


async def test_a_path_that_reads_in_two_ways_is_refused_where_it_makes_a_price(gateway: Gateway) -> None:
    query = "/authz?profile=caddy&meter=api_calls&free=/health"
    for path in ("/health/../things", "/health%2f..", "//health", "/health/%2e%2e/x"):
        assert (await gateway.ask(query, x_forwarded_uri=path)).status_code != 200 or gateway.used() != "0"
    assert (await gateway.ask(query)).status_code == 400  # no path told at all


async def test_settled_calls_are_reserved_and_nothing_is_recorded_yet(gateway: Gateway) -> None:
    answer = await gateway.ask("/authz?profile=caddy&meter=api_calls&settle=log&cost=3")
    assert gateway.used() == "0"
    gateway.toll.reservations.commit(answer.headers["x-tollkeeper-reservation"])
    assert gateway.used() == "3"


CACHED = "/authz?profile=nginx&meter=api_calls&settle=log&cache=10"


async def kept(gateway: Gateway, key: str, query: str = CACHED, **headers: str) -> str:
    """For how many seconds the answer may be kept."""
    told = {"x_original_method": "GET", "x_original_uri": "/things?page=2", **headers}
    answer = await gateway.ask(query, key, **told)
    assert answer.headers["x-tollkeeper-reservation"].startswith(
        "rsv_" if answer.headers["x-accel-expires"] == "0" else "pass_"
    )
    seconds: str = answer.headers["x-accel-expires"]
    return seconds


async def test_an_answer_is_kept_only_where_the_key_of_the_cache_holds_what_was_judged(gateway: Gateway) -> None:
    pro = gateway.toll.customers.create(name="Bob", plan="pro").customer.id
    key = gateway.toll.keys.create(customer=pro).key
    bound = gateway.toll.keys.create(customer=pro, ips=["203.0.113.0/24"]).key
    assert await kept(gateway, key, x_cache_key=f"Bearer {key}  ") == "9"
    assert await kept(gateway, key) == "0"
    assert await kept(gateway, key, x_cache_key=f"Bearer {key[:-1]}") == "0"
    assert await kept(gateway, bound, x_cache_key=f"Bearer {bound}", x_real_ip="203.0.113.7") == "0"
    assert await kept(gateway, gateway.key, x_cache_key=f"Bearer {gateway.key}") == "0"  # a hard quota
    priced = f"{CACHED}&price=/search=api_calls:2"
    for told, seconds in (
        ("GET /things?page=2 ", "9"),
        ("GET /things ", "9"),
        ("GET /thing ", "0"),
        ("GET /things", "0"),
        ("POST /things ", "0"),
        ("", "0"),
    ):
        assert await kept(gateway, key, priced, x_cache_key=f"{told}{key}") == seconds
    refused = await gateway.ask(CACHED, "tk_live_nothing", x_cache_key="tk_live_nothing")
    assert (refused.status_code, refused.headers["x-accel-expires"]) == (401, "0")


async def test_what_is_kept_takes_from_limits_and_not_from_the_quota(gateway: Gateway) -> None:
    pro = gateway.toll.customers.create(name="Bob", plan="pro").customer.id
    key = gateway.toll.keys.create(customer=pro).key
    answer = await gateway.ask(CACHED, key, x_original_uri="/", x_cache_key=key)
    token = answer.headers["x-tollkeeper-reservation"]
    assert len(gateway.toll.gate.holds) == 0
    account = gateway.toll.gate.account_of("live", pro)
    assert account is not None
    assert sum(total.used for total in account.totals.values()) == 0
    # a pass is no reservation, and a reservation no pass
    for refused in (token, f"rsv_{token.removeprefix('pass_')}"):
        with pytest.raises(InvalidRequest):
            gateway.toll.reservations.commit(refused, 1)
    held = gateway.toll.gate.judge(gateway.toll.gate.load(key), "api_calls")
    gateway.toll.reservations.hold(held)
    with pytest.raises(InvalidRequest):
        gateway.toll.reservations.commit(f"pass_{str(held.reservation).removeprefix('rsv_')}", 1)
    gateway.toll.reservations.release(str(held.reservation))
    calls = [Call(token, True, f"{number:032x}") for number in (1, 2, 1, 1 << 40)]
    for expected in (["accepted", "accepted", "duplicate", "accepted"], ["duplicate"] * 4):
        told = gateway.toll.reservations.settle(calls)
        assert [one.status for one in told if isinstance(one, Committed)] == expected
    for call in (None, "", "x" * 32, "A" * 32, "0" * 31):
        [answered] = gateway.toll.reservations.settle([Call(token, True, call)])
        assert isinstance(answered, InvalidRequest)
    [of_test] = gateway.toll.reservations.settle([Call(token, True, "0" * 32)], "test")
    assert isinstance(of_test, NotFound)
    assert gateway.toll.usage.query("api_calls", customer=pro).total == "3"
    assert sum(total.used for total in account.totals.values()) == 3 * 10**9


@pytest.mark.parametrize(
    "query",
    [
        "profile=nginx&meter=api_calls&cache=10",
        "profile=caddy&meter=api_calls&settle=log&cache=10",
        *(f"profile=nginx&meter=api_calls&settle=log&cache={text}" for text in ("", "0", "1", "61", "1.5", "-5", "٣")),
    ],
)
async def test_a_cache_that_could_not_be_kept_to_its_bound_is_refused(gateway: Gateway, query: str) -> None:
    answer = await gateway.ask(f"/authz?{query}", x_original_uri="/")
    assert answer.json()["code"] == "invalid_request"
    assert gateway.used() == "0"
