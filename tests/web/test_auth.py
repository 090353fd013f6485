"""Who may call: tokens, scopes, addresses, and how soon a change takes effect."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from tollkeeper.core.errors import Forbidden, Unauthorized
from tollkeeper.core.keys import make_secret
from tollkeeper.web.auth import Authenticator, Caller
from web.site import Site
from web.test_problems import assert_problem

ADDRESSES = ("/v1/customers", "/v1/keys", "/v1/catalog", "/v1/usage?meter=api_calls", "/v1/events/unmatched")


def bearer(token: str) -> str:
    return f"Bearer {token}"


async def test_every_address_of_the_api_wants_a_token(anyone: httpx.AsyncClient) -> None:
    for address in ADDRESSES:
        answer = await anyone.get(address)
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="Tollkeeper"'


async def test_who_has_no_token_is_told_so_before_anything_of_the_request_is_judged(anyone: httpx.AsyncClient) -> None:
    assert_problem(
        await anyone.post("/v1/customers", content=b"{{{", headers={"Content-Type": "x/y"}), 401, "unauthorized"
    )
    assert_problem(await anyone.get("/v1/customers?limit=x&limit=y"), 401, "unauthorized")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dG9sbA==",
        "admin-token-of-the-tests",
        "Bearer admin-token-of-the-test",
        "Bearer ü",
    ],
)
async def test_anything_but_a_known_bearer_token_is_refused(anyone: httpx.AsyncClient, header: str) -> None:
    answer = await anyone.get("/v1/customers", headers={"Authorization": header.encode()})
    assert_problem(answer, 401, "unauthorized")


async def test_the_scheme_is_read_in_any_case(anyone: httpx.AsyncClient, site: Site) -> None:
    answer = await anyone.get("/v1/customers", headers={"Authorization": f"bEARER  {site.admin_token}"})
    assert answer.status_code == 200


async def test_a_key_administers_nothing(site: Site) -> None:
    for token in (
        site.server_key("check", "events:write", "usage:read"),
        site.spine.key(site.spine.customer(), scopes=("admin", "check", "events:write")),
    ):
        async with site.client(token) as client:
            for address in ADDRESSES[:3]:
                problem = assert_problem(await client.get(address), 403, "forbidden")
                assert "admin" in problem["detail"]


async def test_a_server_key_without_the_scope_is_told_its_name(site: Site) -> None:
    async with site.client(site.server_key("check")) as client:
        problem = assert_problem(await client.get("/v1/usage?meter=api_calls"), 403, "forbidden")
    assert problem["detail"] == "This token lacks the scope 'usage:read'."


def test_a_customers_own_scopes_mean_nothing_here(site: Site) -> None:
    key = site.spine.key(site.spine.customer(), scopes=("check", "events:write", "admin"))
    caller = site.authenticator.authenticate(bearer(key))
    assert caller.scopes == {"usage:read"}
    for scope in ("check", "events:write", "admin"):
        with pytest.raises(Forbidden):
            caller.require(scope)


def test_the_admin_token_may_do_everything_in_both_environments(site: Site) -> None:
    caller = site.authenticator.authenticate(bearer(site.admin_token))
    assert caller == Caller("admin")
    for scope in ("admin", "check", "events:write", "usage:read"):
        caller.require(scope)


def test_a_key_is_read_once_and_again_after_a_change(site: Site) -> None:
    token = bearer(site.server_key("check"))
    for _ in range(3):
        assert site.authenticator.authenticate(token).kind == "server"
    assert site.reads == 1
    site.authenticator.drop()
    assert site.authenticator.from_memory(token) is None
    site.authenticator.authenticate(token)
    assert site.reads == 2


def test_junk_costs_no_reading_and_an_unknown_key_one(site: Site) -> None:
    for token in ("x" * 46, "tk_live_" + "0" * 36, "nothing"):
        for ask in (site.authenticator.from_memory, site.authenticator.authenticate):
            with pytest.raises(Unauthorized):
                ask(bearer(token))
    assert site.reads == 0
    for _ in range(3):
        with pytest.raises(Unauthorized):
            site.authenticator.authenticate(bearer(make_secret("live", 12345)))
    assert site.reads == 1


async def test_a_revoked_key_stops_with_the_next_request(site: Site, api: httpx.AsyncClient) -> None:
    made = (await api.post("/v1/keys", json={"kind": "server", "scopes": ["usage:read"]})).json()
    async with site.client(made["key"]) as client:
        assert (await client.get("/v1/usage?meter=api_calls")).status_code == 200
        await api.post(f"/v1/keys/{made['id']}/revoke")
        problem = assert_problem(await client.get("/v1/usage?meter=api_calls"), 401, "unauthorized")
    assert problem["detail"] == "This token is revoked."


def test_a_key_made_after_it_was_asked_for_is_found(site: Site) -> None:
    token = site.server_key("check")
    site.authenticator.drop()
    unread: list[Any] = [None]
    found: list[Any] = []

    def by_digest(digest: bytes) -> Any:
        if unread:
            unread.pop()
            authenticator.drop()  # the key is committed while the first reading, which missed it, is still under way
            return None
        found.append(site.toll.key_by_digest(digest))
        return found[-1]

    authenticator = Authenticator("a" * 16, by_digest, site.toll.clock.now_us)
    with pytest.raises(Unauthorized):
        authenticator.authenticate(bearer(token))
    assert authenticator.authenticate(bearer(token)).kind == "server"


def test_a_key_stops_at_the_instant_of_its_expiry(site: Site) -> None:
    now = site.toll.clock.now_us()
    token = bearer(site.server_key("check", expires_at=now + 1_000_000))
    site.spine.time.move(999_999_000)
    site.authenticator.authenticate(token)
    site.spine.time.move(1_000)
    with pytest.raises(Unauthorized, match="expired"):
        site.authenticator.authenticate(token)


def test_a_bound_key_works_from_its_addresses_only(site: Site) -> None:
    token = bearer(site.server_key("check", ips=("203.0.113.0/24", "2001:db8::/32")))
    for peer in ("203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7"):
        assert site.authenticator.authenticate(token, peer).kind == "server"
    for other in ("203.0.114.7", "2001:db9::1", "testclient", None):
        with pytest.raises(Forbidden):
            site.authenticator.authenticate(token, other)


async def test_the_callers_address_is_the_connections_not_a_headers(site: Site) -> None:
    key = site.server_key("usage:read", ips=("203.0.113.9",))
    async with site.client(key) as inside, site.client(key, "198.51.100.1") as outside:
        assert (await inside.get("/v1/usage?meter=api_calls")).status_code == 200
        forged = await outside.get("/v1/usage?meter=api_calls", headers={"X-Forwarded-For": "203.0.113.9"})
        assert_problem(forged, 403, "forbidden")


def test_the_last_use_of_a_key_is_remembered_until_taken(site: Site) -> None:
    token = bearer(site.server_key("check"))
    caller = site.authenticator.authenticate(token)
    assert site.authenticator.take_used() == {caller.key_id: site.toll.clock.now_us()}
    assert site.authenticator.take_used() == {}


async def test_no_token_is_logged_or_repeated(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = site.server_key("check")
    for token in (key, site.admin_token, make_secret("live", 99)):
        async with site.client(token) as client:
            for address in (*ADDRESSES, "/v1/nothing", "/livez"):
                answer = await client.get(address)
                assert token not in answer.text
                assert token not in str(answer.headers)
        assert token not in caplog.text
