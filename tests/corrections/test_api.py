"""The endpoint and the commands: tried first, asked for, told, refused; and whatever bytes are sent."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.conftest import Run
from cli.fake_server import FakeServer
from fuzz.surface import ADMIN, CUSTOMER, JSON, Surface
from tollkeeper.core.events import UsageEvent
from web.site import Site

BODY: dict[str, Any] = {"action": "void", "event": {"id": "a"}, "reason": "why", "author": "ada"}


def fill(site: Site) -> None:
    site.spine.customer("pro", id="acme")
    site.toll.ingest.ingest_wait(
        "live", [UsageEvent(id, "llm.completion", customer="acme", data={"tokens": n}) for n, id in enumerate("abc", 1)]
    )


async def test_it_is_a_dry_run_unless_told_otherwise_and_the_trail_tells_who_and_why(
    site: Site, api: httpx.AsyncClient
) -> None:
    fill(site)
    tried = (await api.post("/v1/corrections", json=BODY)).json()
    assert (tried["state"], tried["events"], tried["changes"][0]["after"]) == ("dry_run", 1, "5")
    assert (await api.get("/v1/corrections")).json() == {"data": [], "next_cursor": None}
    made = (await api.post("/v1/corrections", json={**BODY, "dry_run": False, "id": "mine"})).json()
    assert (made["id"], made["state"], made["changes"]) == ("mine", "applied", tried["changes"])
    again = await api.post("/v1/corrections", json={**BODY, "dry_run": False, "id": "mine"})
    assert again.json() == made
    exact = b'{"action":"amend","event":{"id":"b"},"data":{"tokens":2.50},"reason":"x","author":"y","dry_run":false}'
    amended = await api.post("/v1/corrections", content=exact, headers={"content-type": "application/json"})
    assert b'"data":{"tokens":2.50}' in amended.content
    trail = (await api.get("/v1/corrections?limit=1")).json()
    assert [(one["author"], one["reason"], one["action"]) for one in trail["data"]] == [("y", "x", "amend")]
    rest = (await api.get(f"/v1/corrections?limit=1&cursor={trail['next_cursor']}")).json()
    assert rest["data"] == [made]
    log = (await api.get("/v1/events/log")).json()["data"]
    assert [(one["state"], one["correction"]) for one in log] == [
        ("voided", "mine"),
        ("amended", trail["data"][0]["id"]),
        ("active", None),
    ]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({**BODY, "event": {"id": "no"}}, 404, "not_found"),
        ({**BODY, "event": None}, 400, "invalid_request"),
        ({**BODY, "range": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}}, 400, "invalid_request"),
        (
            {**BODY, "event": None, "range": {"from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"}},
            400,
            "invalid_request",
        ),
        (
            {**BODY, "event": None, "range": {"from": "1999-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}},
            409,
            "event_compacted",
        ),
        ({**BODY, "data": {}}, 400, "invalid_request"),
        ({**BODY, "action": "amend"}, 400, "invalid_request"),
        ({**BODY, "action": "amend", "data": {"tokens": "many"}}, 400, "quantity_invalid"),
        ({**BODY, "action": "drop"}, 400, "invalid_request"),
        ({**BODY, "reason": ""}, 400, "invalid_request"),
        ({**BODY, "event": {"id": "v"}}, 409, "event_voided"),
        ({**BODY, "id": "taken"}, 409, "conflict"),
    ],
)
async def test_each_refusal_has_its_code_and_changes_nothing(
    site: Site, api: httpx.AsyncClient, body: Any, status: int, code: str
) -> None:
    fill(site)
    site.toll.ingest.ingest_wait("live", [UsageEvent("v", "llm.completion", customer="acme", data={"tokens": 9})])
    first = {**BODY, "event": {"id": "v"}, "id": "taken", "dry_run": False}
    assert (await api.post("/v1/corrections", json=first)).status_code == 200
    for dry_run in (True, False):
        answer = await api.post("/v1/corrections", json={**body, "dry_run": dry_run})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert site.spine.used("tokens") == "6"


async def test_only_the_admin_token_corrects(site: Site) -> None:
    fill(site)
    for token in (site.toll.keys.create("acme").key, site.server_key("events:write", "usage:read", "check")):
        async with site.client(token) as caller:
            assert (await caller.post("/v1/corrections", json=BODY)).status_code == 403
            assert (await caller.get("/v1/corrections")).status_code == 403


TRIED = {
    "id": "x",
    "state": "dry_run",
    "events": 2,
    "skipped": 1,
    "changes": [
        {"customer": "acme", "meter": "m", "start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
        | {"before": "1250.5", "after": None, "difference": None, "events": -2}
    ],
}


def test_the_command_shows_what_would_change_and_changes_nothing_without_a_yes(ask: Run, server: FakeServer) -> None:
    server.on("POST", "/v1/corrections", TRIED)
    told = ask("events", "void", "job-1", "--source", "jobs", "--reason", "why", "--author", "ada")
    assert told.code == 2
    assert "1,250.5" in told.out
    assert "--yes" in told.err
    (body,) = server.bodies("POST", "/v1/corrections")
    assert body.pop("id").startswith("cli-")
    assert body == {
        "action": "void",
        "environment": "live",
        "event": {"id": "job-1", "source": "jobs"},
        "reason": "why",
        "author": "ada",
        "dry_run": True,
    }


def test_the_command_goes_on_until_all_of_a_range_is_corrected(ask: Run, server: FakeServer) -> None:
    applying = {**TRIED, "state": "applying", "events": 1}
    applied = {**TRIED, "state": "applied"}
    server.on("POST", "/v1/corrections", [TRIED, applying, applied])
    told = ask(
        "events", "amend", "--from", "2d", "--to", "now", "--data", '{"n": 1.10}', "--reason", "r", "--yes", "--json"
    )
    assert (told.code, json.loads(told.out)["state"]) == (0, "applied")
    bodies = server.bodies("POST", "/v1/corrections")
    assert [body["dry_run"] for body in bodies] == [True, False, False]
    assert len({body["id"] for body in bodies}) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("void", "--reason", "r"),
        ("void", "a", "--from", "2d", "--to", "now", "--reason", "r"),
        ("void", "--from", "2d", "--reason", "r"),
        ("void", "a", "--customer", "acme", "--reason", "r"),
        ("void", "a"),
        ("amend", "a", "--reason", "r"),
        ("amend", "a", "--reason", "r", "--data", "[1]"),
    ],
)
def test_words_that_do_not_say_what_to_correct_are_refused_and_nothing_is_sent(
    ask: Run, server: FakeServer, words: tuple[str, ...]
) -> None:
    assert ask("events", *words).code == 2
    assert server.bodies("POST", "/v1/corrections") == []


texts = st.text(max_size=8) | st.sampled_from(
    ("a", "b", CUSTOMER, "default", "evt_01JD3V5E6QN8Z4V9W1T7B2X3YD", "tokens")
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
instants = st.sampled_from(
    ("2026-09-21T14:00:00Z", "2026-09-22T00:00:00+05:45", "1900-01-01T00:00:00Z", "2999-12-31T00:00:00Z", "x")
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "id": texts | st.none(),
        "action": st.sampled_from(("void", "amend")) | texts,
        "environment": st.sampled_from(("live", "test")),
        "event": st.none() | st.fixed_dictionaries({"id": texts}, optional={"source": texts}) | anything,
        "range": st.none()
        | st.fixed_dictionaries({"from": instants, "to": instants}, optional={"meter": texts, "customer": texts}),
        "data": st.none() | st.dictionaries(texts, anything, max_size=2) | st.just({"tokens": 1}),
        "reason": texts,
        "author": texts,
        "dry_run": st.booleans(),
    },
)


@pytest.fixture(scope="module")
def surface(tmp_path_factory: pytest.TempPathFactory) -> Any:
    found = Surface(tmp_path_factory.mktemp("corrections"))
    yield found
    found.close()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        bodies.map(lambda body: json.dumps(body).encode()),
        anything.map(lambda one: json.dumps(one).encode()),
        st.binary(max_size=40),
    )
)
def test_whatever_is_sent_is_answered_and_leaves_totals_that_the_log_explains(surface: Surface, body: bytes) -> None:
    app = surface.app
    number = app.usage_file.reader.last_seq()
    app.ingest.ingest_wait(
        "live",
        [
            UsageEvent(
                f"{'ab'[n]}", "llm.completion", f"default{number if n else ''}", None, CUSTOMER, None, {"tokens": n}
            )
            for n in (0, 1)
        ],
    )
    answer = surface.runner.run(surface._call("/v1/corrections", [body], "POST", (*ADMIN, *JSON), b"", gone=False))
    assert answer.status in (200, 400, 404, 409, 413), answer
    if answer.status != 200:
        assert answer.json["detail"]
    surface.hold_totals()
