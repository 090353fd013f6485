"""Reservations over HTTP: taken by a check, committed or released by whoever may check."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tollkeeper.core.gate import Decision
from web.site import Site
from web.test_problems import assert_problem


def reserved(site: Site, environment: str = "live", cost: int = 5) -> Decision:
    toll = site.toll
    key = site.spine.key(site.spine.customer(), environment=environment)
    decision = toll.gate.judge(toll.gate.load(key), "api_calls", cost)
    toll.reservations.hold(decision)
    return decision


async def test_a_commit_counts_and_a_release_says_what_it_gave_back(site: Site, api: httpx.AsyncClient) -> None:
    decision = reserved(site)
    path = f"/v1/reservations/{decision.reservation}"
    committed = await api.post(f"{path}/commit", json={"quantity": 3})
    assert committed.json() == {
        "status": "accepted",
        "event_id": decision.ulid,
        "customer": decision.who.customer,
        "meter": "api_calls",
        "reserved": "5",
        "quantity": "3",
    }
    assert (await api.post(f"{path}/commit", json={"quantity": "3"})).json()["status"] == "duplicate"
    assert (await api.post(f"{path}/release")).json()["released"] == "0"
    assert site.spine.used(customer=decision.who.customer) == "3"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"quantity": "-1"}, "quantity_invalid"),
        ({"quantity": "1.5"}, "quantity_invalid"),
        ({"quantity": None}, "invalid_request"),
        ({}, "invalid_request"),
        ({"quantity": 1, "other": 2}, "invalid_request"),
        ({"quantity": 1.5}, "invalid_request"),
    ],
)
async def test_what_is_no_quantity_is_refused(site: Site, api: httpx.AsyncClient, body: Any, code: str) -> None:
    decision = reserved(site)
    assert_problem(await api.post(f"/v1/reservations/{decision.reservation}/commit", json=body), 400, code)
    assert len(site.toll.gate.holds) == 1


@pytest.mark.parametrize("token", ["rsv_", "x", "rsv_" + "A" * 2040, "%00", "rsv_AAAA%2F"])
async def test_a_token_made_up_is_refused(api: httpx.AsyncClient, token: str) -> None:
    for act, body in (("commit", {"quantity": "1"}), ("release", None)):
        answer = await api.post(f"/v1/reservations/{token}/{act}", json=body)
        assert answer.status_code in (400, 404)


async def test_only_who_may_check_may_commit_and_only_in_their_environment(site: Site) -> None:
    decision = reserved(site, "test")
    path = f"/v1/reservations/{decision.reservation}/release"
    for token, status in (
        (None, 401),
        (site.server_key("usage:read"), 403),
        (site.server_key("check"), 404),
        (site.spine.key(str(decision.who.customer)), 403),
    ):
        async with site.client(token) as client:
            assert (await client.post(path)).status_code == status
    assert len(site.toll.gate.holds) == 1
    async with site.client(site.admin_token) as client:
        assert (await client.post(path)).json()["released"] == "5"
