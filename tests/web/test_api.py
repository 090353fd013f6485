"""Customers, keys and the catalog over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from spine import CATALOG, SECOND
from tollkeeper.core.keys import digest
from web.site import Site
from web.test_problems import assert_problem


async def make_customer(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await api.post("/v1/customers", json={"name": "Ada Ltd", **fields})
    assert answer.status_code == 201, answer.text
    customer: dict[str, Any] = answer.json()
    return customer


async def make_key(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await api.post("/v1/keys", json=fields)
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


async def test_a_customer_is_made_read_changed_and_moved(api: httpx.AsyncClient) -> None:
    made = await make_customer(api, email="ada@example.com", plan="free", zone="Europe/Berlin")
    assert made["id"].startswith("cus_")
    assert (made["plan"], made["plan_version"], made["currency"]) == ("free", 1, "usd")
    assert made["created_at"] == "2026-09-21T14:13:20Z"
    assert [(s["environment"], s["status"]) for s in made["subscriptions"]] == [("live", "active"), ("test", "active")]
    where = f"/v1/customers/{made['id']}"
    assert (await api.get(where)).json() == made
    changed = (await api.patch(where, json={"email": None, "name": "Ada and Co."})).json()
    assert changed == made | {"email": None, "name": "Ada and Co."}
    assert (await api.patch(where, json={})).json() == changed
    moved = (await api.post(f"{where}/plan", json={"plan": "pro", "environment": "live"})).json()
    assert (moved["plan"], [s["plan"] for s in moved["subscriptions"]]) == ("pro", ["pro", "free"])
    history = (await api.get(f"{where}/subscriptions")).json()
    assert sorted((s["plan"], s["environment"], s["status"]) for s in history) == [
        ("free", "live", "ended"),
        ("free", "test", "active"),
        ("pro", "live", "active"),
    ]


async def test_an_id_of_ones_own_makes_creation_safe_to_repeat(api: httpx.AsyncClient) -> None:
    first = await make_customer(api, id="acme", plan="free")
    assert await make_customer(api, id="acme", plan="free") == first
    again = await api.post("/v1/customers", json={"id": "acme", "name": "Other"})
    assert_problem(again, 409, "conflict")


async def test_lists_come_in_pages_that_hold_everything_once(api: httpx.AsyncClient) -> None:
    ids = {(await make_customer(api))["id"] for _ in range(5)}
    seen: list[str] = []
    cursor: str | None = None
    pages = 0
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await api.get("/v1/customers", params=query)).json()
        seen += [customer["id"] for customer in page["data"]]
        pages += 1
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert (pages, len(seen), set(seen)) == (3, 5, ids)


async def test_an_unknown_id_is_not_found_everywhere(api: httpx.AsyncClient) -> None:
    for method, path in (
        ("GET", "/v1/customers/nobody"),
        ("PATCH", "/v1/customers/nobody"),
        ("POST", "/v1/customers/nobody/plan"),
        ("GET", "/v1/customers/nobody/members"),
        ("DELETE", "/v1/customers/nobody/members/mem_x"),
        ("GET", "/v1/customers/nobody/overrides"),
        ("DELETE", "/v1/customers/nobody/overrides/limits/burst"),
        ("GET", "/v1/keys/key_x"),
        ("POST", "/v1/keys/key_x/revoke"),
        ("POST", "/v1/keys/key_x/rotate"),
        ("GET", "/v1/catalog/versions/99"),
        ("GET", "/v1/customers/%00"),
        ("GET", "/v1/keys/%F0%9F%92%A9"),
    ):
        body = {"plan": "free"} if path.endswith("plan") else {} if method == "PATCH" else None
        assert_problem(await api.request(method, path, json=body), 404, "not_found")


async def test_members_come_and_go(api: httpx.AsyncClient, site: Site) -> None:
    customer = await make_customer(api, email="ada@example.com")
    site.spine.time.move(SECOND)
    where = f"/v1/customers/{customer['id']}/members"
    added = await api.post(where, json={"email": "Grace@Example.com", "name": "Grace"})
    assert (added.status_code, added.json()["email"]) == (201, "grace@example.com")
    assert (await api.post(where, json={"email": "grace@example.com"})).json() == added.json()
    assert [member["email"] for member in (await api.get(where)).json()] == ["ada@example.com", "grace@example.com"]
    removed = await api.delete(f"{where}/{added.json()['id']}")
    assert (removed.status_code, removed.content) == (204, b"")
    assert_problem(await api.delete(f"{where}/{added.json()['id']}"), 404, "not_found")


async def test_a_member_is_not_removed_through_another_customer(api: httpx.AsyncClient) -> None:
    one, other = await make_customer(api, email="ada@example.com"), await make_customer(api)
    [member] = (await api.get(f"/v1/customers/{one['id']}/members")).json()
    assert_problem(await api.delete(f"/v1/customers/{other['id']}/members/{member['id']}"), 404, "not_found")
    assert (await api.get(f"/v1/customers/{one['id']}/members")).json() == [member]


async def test_overrides_replace_the_plans_and_are_taken_back(api: httpx.AsyncClient) -> None:
    customer = await make_customer(api, plan="free")
    where = f"/v1/customers/{customer['id']}/overrides"
    await api.put(f"{where}/limits/burst", json={"limit": 100, "window_seconds": 1})
    both = await api.put(f"{where}/quotas/api_calls", json={"limit": "5000.50", "kind": "soft"})
    expected = {
        "limits": [{"name": "burst", "limit": 100, "window_seconds": 1, "meter": None, "per": "customer"}],
        "quotas": [{"meter": "api_calls", "limit": "5000.5", "kind": "soft"}],
    }
    assert both.json() == expected
    assert (await api.get(where)).json() == expected
    assert (await api.get(f"{where}?environment=test")).json() == {"limits": [], "quotas": []}
    assert (await api.delete(f"{where}/limits/burst")).status_code == 204
    assert (await api.delete(f"{where}/quotas/api_calls?environment=live")).status_code == 204
    assert (await api.get(where)).json() == {"limits": [], "quotas": []}
    assert_problem(await api.delete(f"{where}/limits/burst"), 404, "not_found")
    assert_problem(
        await api.put(f"{where}/quotas/nothing", json={"limit": "1", "kind": "hard"}), 400, "invalid_request"
    )


async def test_a_key_is_shown_once_and_kept_as_a_digest(api: httpx.AsyncClient, site: Site) -> None:
    customer = await make_customer(api, plan="free")
    made = await make_key(
        api,
        customer=customer["id"],
        environment="test",
        name="production",
        scopes=["reports:read"],
        expires_at="2027-01-01T00:00:00+01:00",
        ips=["203.0.113.0/24"],
    )
    secret = made.pop("key")
    assert secret.startswith(made["prefix"])
    assert secret.endswith(made["last4"])
    assert made["expires_at"] == "2026-12-31T23:00:00Z"
    assert (await api.get(f"/v1/keys/{made['id']}")).json() == made
    listed = await api.get("/v1/keys", params={"customer": customer["id"], "environment": "test", "kind": "customer"})
    assert listed.json() == {"data": [made], "next_cursor": None}
    for other in ("environment=live", "kind=server", "customer=nobody"):
        assert (await api.get(f"/v1/keys?{other}")).json()["data"] == []
    stored = site.toll.key_by_digest(digest(secret))
    assert stored is not None
    assert secret not in repr(stored)
    for path in site.folder.iterdir():
        assert secret.encode() not in path.read_bytes()


async def test_an_answer_with_a_secret_is_not_kept_by_caches(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/keys", json={"kind": "server", "scopes": ["check"]})
    assert answer.headers["cache-control"] == "no-store"


async def test_a_rotation_overlaps_a_day_unless_said_otherwise(api: httpx.AsyncClient) -> None:
    old = await make_key(api, kind="server", scopes=["check"])
    new = (await api.post(f"/v1/keys/{old['id']}/rotate")).json()
    assert new["key"] != old["key"]
    kept = (await api.get(f"/v1/keys/{old['id']}")).json()
    assert (kept["replaced_by"], kept["expires_at"]) == (new["id"], "2026-09-22T14:13:20Z")
    at_once = await api.post(f"/v1/keys/{new['id']}/rotate", json={"overlap_seconds": 0})
    assert at_once.status_code == 200
    assert (await api.get(f"/v1/keys/{new['id']}")).json()["expires_at"] == "2026-09-21T14:13:20Z"
    assert_problem(await api.post(f"/v1/keys/{old['id']}/rotate"), 409, "conflict")


async def test_the_secret_is_no_id_and_is_not_repeated(api: httpx.AsyncClient) -> None:
    made = await make_key(api, kind="server", scopes=["check"])
    answer = await api.get(f"/v1/keys/{made['key']}")
    assert_problem(answer, 404, "not_found")
    assert made["key"] not in answer.text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"customer": "nobody"}, "customer"),
        ({"kind": "server"}, "scopes"),
        ({"kind": "server", "scopes": ["admin"]}, "scopes"),
        ({"kind": "server", "scopes": ["check"], "customer": "x"}, "customer"),
        ({"kind": "server", "scopes": ["check"], "expires_at": "2026-01-01T00:00:00Z"}, "expires_at"),
        ({"kind": "server", "scopes": ["check"], "expires_at": "2027-01-01"}, "expires_at"),
        ({"kind": "server", "scopes": ["check"], "expires_at": "2027-02-30T00:00:00Z"}, "expires_at"),
        ({"kind": "server", "scopes": ["check"], "expires_at": 1}, "expires_at"),
        ({"kind": "server", "scopes": ["check"], "ips": ["300.0.0.1"]}, "ips"),
        ({"kind": "admin"}, "kind"),
        ({"kind": "server", "scopes": ["check"], "environment": "prod"}, "environment"),
    ],
)
async def test_a_key_with_a_fault_is_refused_by_the_field(
    api: httpx.AsyncClient, fields: dict[str, Any], field: str
) -> None:
    answer = await api.post("/v1/keys", json=fields)
    status, code = (404, "not_found") if fields == {"customer": "nobody"} else (400, "invalid_request")
    problem = assert_problem(answer, status, code)
    assert [fault["field"] for fault in problem["errors"]] == [field]
    assert (await api.get("/v1/keys")).json()["data"] == []


async def test_the_catalog_in_force_is_told_as_given_and_as_meant(api: httpx.AsyncClient) -> None:
    shown = (await api.get("/v1/catalog")).json()
    assert (shown["version"], shown["toml"]) == (1, CATALOG)
    assert shown["catalog"]["meters"]["api_calls"]["event_type"] == "api.call"
    assert shown["catalog"]["plans"]["pro"]["prices"][0]["unit_amount"] == "0.002"


async def test_a_change_of_the_catalog_is_checked_shown_and_applied(api: httpx.AsyncClient) -> None:
    new = {"toml": CATALOG.replace('limit = "25"', 'limit = "30"')}
    assert (await api.post("/v1/catalog/check", json=new)).json()["changed"] is True
    shown = (await api.post("/v1/catalog/diff", json=new)).json()
    assert shown["changes"] == [
        {"kind": "changed", "key": "plans.free.quotas[api_calls].limit", "before": "25", "after": "30"}
    ]
    assert (shown["plans_changed"], shown["plans_archived"], shown["refused"]) == (["free"], [], [])
    assert (await api.get("/v1/catalog")).json()["version"] == 1
    applied = (await api.post("/v1/catalog/apply", json=new)).json()
    assert (applied["version"], applied["changed"], applied["changes"]) == (2, True, shown["changes"])
    again = (await api.post("/v1/catalog/apply", json=new)).json()
    assert (again["version"], again["changed"], again["changes"]) == (2, False, [])


async def test_a_faulty_catalog_is_refused_with_every_fault_and_its_line(api: httpx.AsyncClient) -> None:
    bad = {"toml": 'currency = "usd"\n[meters.calls]\nevent_type = "x"\naggregation = "cuont"\ncolour = "red"\n'}
    for path in ("check", "diff", "apply"):
        problem = assert_problem(await api.post(f"/v1/catalog/{path}", json=bad), 422, "catalog_invalid")
        assert [(fault["field"], fault["line"]) for fault in problem["errors"]] == [
            ("meters.calls.aggregation", 4),
            ("meters.calls.colour", 5),
        ]
    assert (await api.get("/v1/catalog")).json()["version"] == 1


async def test_a_change_that_would_alter_what_is_recorded_is_shown_and_refused(api: httpx.AsyncClient) -> None:
    bad = {"toml": CATALOG.replace('event_type = "api.call"', 'event_type = "api.request"')}
    shown = (await api.post("/v1/catalog/diff", json=bad)).json()
    assert [refusal["key"] for refusal in shown["refused"]] == ["meters.api_calls.event_type"]
    for path in ("check", "apply"):
        assert_problem(await api.post(f"/v1/catalog/{path}", json=bad), 422, "catalog_invalid")


async def test_every_version_of_the_catalog_is_kept(api: httpx.AsyncClient) -> None:
    for limit in ("26", "27"):
        await api.post("/v1/catalog/apply", json={"toml": CATALOG.replace('limit = "25"', f'limit = "{limit}"')})
    first = (await api.get("/v1/catalog/versions?limit=2")).json()
    assert [version["version"] for version in first["data"]] == [3, 2]
    rest = (await api.get("/v1/catalog/versions", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert ([version["version"] for version in rest["data"]], rest["next_cursor"]) == ([1], None)
    assert (await api.get("/v1/catalog/versions/1")).json()["toml"] == CATALOG
    assert_problem(await api.get("/v1/catalog/versions?cursor=x"), 400, "invalid_request")


async def test_what_a_customer_has_is_told_without_a_provider_too(api: httpx.AsyncClient) -> None:
    made = (await api.post("/v1/customers", json={"name": "Acme", "plan": "free"})).json()
    path = f"/v1/customers/{made['id']}/subscription"
    for asked, environment in ({}, "live"), ({"environment": "test"}, "test"):
        told = (await api.get(path, params=asked)).json()
        assert (told["environment"], told["bought"], told["grace_until"]) == (environment, None, None)
        assert (told["subscription"]["plan"], told["subscription"]["environment"]) == ("free", environment)
    assert (await api.get("/v1/customers/nobody/subscription")).status_code == 404
    assert (await api.post(f"{path}/cancel", json={})).json()["code"] == "provider_missing"
