"""What holds for a gate inside an application, whatever the framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import tollkeeper
from tollkeeper.core.errors import InvalidRequest

from . import surfaces
from .conftest import Stage

BY_PATH = [
    *(("open", surface) for surface in (surfaces.asgi, surfaces.wsgi, surfaces.django, surfaces.django_async)),
    *(("connect", surface) for surface in (surfaces.asgi, surfaces.wsgi, surfaces.django_async)),
]
BY_ROUTE = [("open", surfaces.fastapi), ("open", surfaces.flask), ("connect", surfaces.fastapi)]


def name(param: Any) -> str:
    return f"{param[1].__name__}-{param[0]}"


every = pytest.mark.parametrize("make", [*BY_PATH, *BY_ROUTE], ids=name, indirect=True)
by_path = pytest.mark.parametrize("make", BY_PATH, ids=name, indirect=True)
by_route = pytest.mark.parametrize("make", BY_ROUTE, ids=name, indirect=True)


@pytest.fixture
def connected(request: pytest.FixtureRequest) -> bool:
    kind: str = request.node.callspec.params["make"][0]
    return kind == "connect"


@pytest.fixture
def make(request: pytest.FixtureRequest, stage: Stage, connected: bool) -> Iterator[Callable[..., surfaces.Surface]]:
    """Makes an application behind the gate, of the surface that the test is run for."""
    _, surface = request.param
    if not connected:
        yield partial(surface, stage.gate)
        return
    new_key = stage.gate.toll.keys.create
    token, test_token = (new_key(kind="server", scopes=["check"], environment=e).key for e in ("live", "test"))
    with stage.served() as url, tollkeeper.Gate.connect(url, token, test_token=test_token) as gate:
        yield partial(surface, gate)


@every
def test_a_call_without_a_key_never_reaches_the_handler(stage: Stage, make: Any) -> None:
    app = make()
    answer = app.get("/")
    problem = answer.json()
    assert (answer.status, problem["code"]) == (401, "NOT_FOUND")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert problem["type"] == "/docs/errors/NOT_FOUND"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "`Authorization: Bearer KEY` or `x-api-key: KEY`" in problem["detail"]
    assert (app.calls, stage.used()) == ([], "0")


@every
def test_a_call_is_counted_and_told_what_is_left(stage: Stage, make: Any, connected: bool) -> None:
    answer = make().get("/", stage.auth())
    window = "" if connected else ";w=60"  # a server does not tell it
    assert (answer.status, stage.used()) == (200, "1")
    assert answer.headers["ratelimit"] == '"minute";r=999;t=1, "quota-api_calls";r=299'
    assert answer.headers["ratelimit-policy"] == f'"minute";q=1000{window}, "quota-api_calls";q=300'
    assert answer.headers["x-ratelimit-remaining"] == "999"
    assert answer.headers["x-request-id"].startswith("req_")


@every
@pytest.mark.parametrize("place", ["X-API-Key", "query"])
def test_a_key_may_stand_elsewhere(stage: Stage, make: Any, place: str) -> None:
    app = make()
    if place == "query":
        assert app.get(f"/?api_key={stage.key}").status == 200
    else:
        assert app.get("/", {place: stage.key}).status == 200
    assert stage.used() == "1"


@every
@pytest.mark.parametrize(("status", "used"), [(200, 1), (201, 1), (204, 1), (304, 0), (404, 0), (422, 0), (500, 0)])
def test_only_successes_are_counted(stage: Stage, make: Any, status: int, used: int) -> None:
    answer = make().get(f"/status/{status}", stage.auth())
    assert answer.status == status
    assert answer.headers["ratelimit"] == f'"minute";r=999;t=1, "quota-api_calls";r={300 - used}'
    assert stage.used() == str(used)


@every
def test_a_handler_that_raises_is_not_billed_but_limited(stage: Stage, make: Any) -> None:
    app = make()
    key = stage.auth(stage.new_key("slow").key)
    assert [app.get("/raise", key).status for _ in range(3)] == [500, 500, 429]
    assert stage.used(customer="slow") == "0"
    assert len(app.calls) == 2


@every
def test_a_failed_call_is_given_back_to_the_quota(stage: Stage, make: Any) -> None:
    app = make()
    key = stage.auth(stage.new_key("poor").key)
    for path in ("/raise", "/status/500", "/status/404") * 4:
        app.get(path, key)
    assert [app.get("/", key).status for _ in range(8)] == [200] * 7 + [429]
    assert stage.used(customer="poor") == "7"


@every
def test_what_cannot_be_counted_is_answered_503_and_given_back(stage: Stage, make: Any, connected: bool) -> None:
    app = make()
    with stage.full_disk():
        answer = app.get("/", stage.auth())
    problem = answer.json()
    assert (answer.status, problem["code"]) == (503, "storage_unavailable")
    assert (answer.headers["retry-after"], answer.headers["x-request-id"]) == ("1", problem["request_id"])
    assert answer.headers["ratelimit"].endswith('"quota-api_calls";r=300')
    assert answer.body.count(b"ok") == 0
    left = 998 if connected else 999  # a server's reservation keeps what it took from limits by request
    # a thousand a minute: on a slow machine one has come back by now
    assert left <= int(app.get("/", stage.auth()).headers["x-ratelimit-remaining"]) <= 999
    assert stage.used() == "1"


@every
def test_a_refusal_says_when_to_come_back(stage: Stage, make: Any) -> None:
    app = make()
    key = stage.auth(stage.new_key("slow").key)
    answers = [app.get("/", key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 1800
    assert answers[2].headers["ratelimit"].startswith('"burst";r=0')
    assert answers[2].json()["code"] == "RATE_LIMITED"
    assert (len(app.calls), stage.used(customer="slow")) == (2, "2")


@every
def test_a_hard_quota_admits_exactly_what_is_left_to_calls_that_come_at_once(stage: Stage, make: Any) -> None:
    app = make()
    key = stage.auth(stage.new_key("poor").key)
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: app.get("/", key).status, range(32)))
    assert sorted(statuses) == [200] * 7 + [429] * 25
    assert (len(app.calls), stage.used(customer="poor")) == (7, "7")


@every
def test_identity_is_handed_over_and_none_can_be_forged(stage: Stage, make: Any) -> None:
    forged = {
        "X-Tollkeeper-Customer": "evil",
        "X_Tollkeeper_Plan": "pro",
        "x-tollkeeper-new": "evil",
        "Tollkeeper": "evil",
    }
    answer = make().get("/who", {**stage.auth(), **forged})
    told = answer.json()
    request_id = answer.headers["x-request-id"]
    assert told["who"] == ["acme", stage.key_id, request_id]
    seen = [pair for pair in told["headers"] if "evil" in pair[1] and pair[0] != "tollkeeper"]
    assert (seen, "pro" in [value for _, value in told["headers"]]) == ([], False)


@by_path
def test_the_handler_finds_the_headers_that_the_proxy_would_send(stage: Stage, make: Any) -> None:
    app = make(free=["/who"])
    for headers, expected in (({}, ""), ({"X-Tollkeeper-Customer": "evil"}, "")):
        told = app.get("/who", headers).json()
        assert told["who"] is None
        assert [v for n, v in told["headers"] if n == "x-tollkeeper-customer"] == [expected]
    answer = make().get("/who", {**stage.auth(), "X-Tollkeeper-Customer": "evil"})
    told = dict(answer.json()["headers"])
    assert {name: value for name, value in told.items() if name.startswith("x-tollkeeper-")} == {
        "x-tollkeeper-customer": "acme",
        "x-tollkeeper-key": stage.key_id,
        "x-tollkeeper-plan": "free",
        "x-tollkeeper-environment": "live",
        "x-tollkeeper-request-id": answer.headers["x-request-id"],
    }


@every
def test_several_different_keys_are_refused(stage: Stage, make: Any) -> None:
    app = make()
    answer = app.get("/", {**stage.auth(), "X-API-Key": stage.new_key("poor").key})
    assert (answer.status, answer.json()["code"]) == (400, "invalid_request")
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert app.calls == []


@every
def test_a_revoked_key_stops_and_test_calls_are_counted_apart(stage: Stage, make: Any) -> None:
    app = make()
    assert app.get("/", stage.auth(stage.new_key("acme", environment="test").key)).status == 200
    assert (stage.used(environment="test"), stage.used()) == ("1", "0")
    stage.gate.toll.keys.revoke(stage.key_id)
    answer = app.get("/", stage.auth())
    assert (answer.status, answer.json()["code"]) == (401, "DISABLED")


@every
def test_attempts_count_where_the_meter_or_the_option_says_so(stage: Stage, make: Any) -> None:
    for options, meter in (({"meter": "tries"}, "tries"), ({"count_on": "attempt"}, "api_calls")):
        app = make(**options)
        for path in ("/raise", "/status/404", "/"):
            app.get(path, stage.auth())
        assert stage.used(meter) == "3"
    app = make(meter="tries", count_on="success")
    app.get("/status/404", stage.auth())
    assert stage.used("tries") == "3"


@every
def test_an_attempt_that_cannot_be_counted_never_reaches_the_handler(stage: Stage, make: Any) -> None:
    app = make(count_on="attempt")
    with stage.full_disk():
        assert app.get("/", stage.auth()).status == 503
    assert app.calls == []


@every
def test_a_gate_that_does_not_know_the_meter_says_little_to_the_client_and_all_to_the_log(
    stage: Stage, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = make(meter="nothing")
    answer = app.get("/", stage.auth())
    assert (answer.status, answer.json()["code"]) == (500, "internal_error")
    assert "not set up for this path" in answer.json()["detail"]
    assert "There is no meter 'nothing'" in caplog.text
    assert app.calls == []


@every
def test_a_closed_gate_lets_nothing_through(stage: Stage, make: Any) -> None:
    app = make()
    stage.gate.close()
    assert app.get("/", stage.auth()).status == 503
    assert app.calls == []


@every
def test_fields_of_the_gate_stand_once_and_the_others_stay(stage: Stage, make: Any) -> None:
    answer = make().get("/own", stage.auth())
    assert "own" not in "".join(answer.headers.values())
    assert answer.headers["x-kept"] == "kept"


@every
def test_what_costs_nothing_needs_a_key_and_meets_the_limits(stage: Stage, make: Any) -> None:
    app = make(cost=0)
    key = stage.auth(stage.new_key("slow").key)
    assert app.get("/").status == 401
    assert [app.get("/", key).status for _ in range(3)] == [200, 200, 429]
    assert stage.used(customer="slow") == "0"


@by_path
def test_paths_and_methods_have_their_own_prices_or_none(stage: Stage, make: Any) -> None:
    app = make(free=["/docs"], prices=["POST /search=searches:5", "/search=searches"])
    assert app.get("/docs/a").status == 200
    assert "ratelimit" not in app.get("/docs/a", stage.auth()).headers
    assert app.get("/search/x", stage.auth(), "POST").status == 200
    assert stage.used("searches") == "5"
    assert app.get("/search", stage.auth()).status == 200
    assert (stage.used("searches"), stage.used()) == ("6", "0")
    assert app.get("/other", stage.auth()).status == 200
    assert stage.used() == "1"


@by_path
@pytest.mark.parametrize("path", ["/docs/../search", "/docs//x", "/docs/%2e%2e/search", "/docs%5c..%5csearch"])
def test_a_path_written_in_another_way_is_not_cheaper(stage: Stage, make: Any, path: str) -> None:
    app = make(free=["/docs"], prices=["/search=searches:5"])
    assert app.get(path).status in (400, 401)
    assert app.calls == []


@by_route
def test_a_route_may_need_a_scope_and_cost_more(stage: Stage, make: Any) -> None:
    app = make(cost=5, scope="write")
    answer = app.get("/", stage.auth())
    assert (answer.status, answer.json()["code"]) == (403, "INSUFFICIENT_SCOPE")
    assert app.get("/", stage.auth(stage.new_key("acme", scopes=["write"]).key)).status == 200
    assert stage.used() == "5"


@by_path
@pytest.mark.parametrize(
    "wrong",
    [
        {"meter": "a b"},
        {"cost": -1},
        {"free": ["docs"]},
        {"count_on": "never"},
        {"key_headers": [], "key_parameters": []},
    ],
)
def test_an_option_that_is_off_is_refused_when_the_application_starts(stage: Stage, make: Any, wrong: Any) -> None:
    with pytest.raises(InvalidRequest):
        make(**wrong)
