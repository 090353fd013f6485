"""Reservations over HTTP: taken by a check, committed or released by whoever may check."""

from __future__ import annotations

from typing import Any

import apsw
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


async def test_calls_of_an_access_log_are_settled_by_their_status_and_safely_again(
    site: Site, api: httpx.AsyncClient
) -> None:
    calls = [reserved(site, cost=cost) for cost in (1, 2, 3)]
    log = [
        {"reservation": call.reservation, "status": status} for call, status in zip(calls, (200, 500, 204), strict=True)
    ]
    sent = {"data": [*log, log[0], {"reservation": "rsv_made-up", "status": 200}]}
    first = (await api.post("/v1/reservations/settle", json=sent)).json()
    [refused] = first.pop("rejected")
    assert first == {"committed": 2, "released": 1, "before": 1}
    assert (refused["index"], refused["code"]) == (4, "invalid_request")
    again = (await api.post("/v1/reservations/settle", json=sent)).json()
    assert (again["committed"], again["released"], again["before"]) == (0, 0, 4)
    assert [site.spine.used(customer=call.who.customer) for call in calls] == ["1", "0", "3"]
    assert len(site.toll.gate.holds) == 0


async def test_a_batch_that_the_log_does_not_take_leaves_everything_held(
    site: Site, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [reserved(site, cost=cost) for cost in (1, 2)]
    sent = {"data": [{"reservation": call.reservation, "status": 200} for call in [*calls, calls[0]]]}

    def full(groups: object) -> object:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(site.toll.usage_file.writer.log, "append", full)
        assert_problem(await api.post("/v1/reservations/settle", json=sent), 503, "storage_unavailable")
    assert len(site.toll.gate.holds) == 2
    for call, held in zip(calls, ("1", "2"), strict=True):
        quota = site.toll.gate.account_of("live", str(call.who.customer))
        assert quota is not None
        assert sum(total.used for total in quota.totals.values()) == int(held) * 10**9
    assert (await api.post("/v1/reservations/settle", json=sent)).json()["committed"] == 2
