"""Every error answer is a problem: right status, code, link, request id; and nothing of the inside."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import pkgutil
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tollkeeper import core, services, web
from tollkeeper.core.catalog_faults import Fault
from tollkeeper.core.errors import CatalogInvalid, StorageUnavailable, TollkeeperError
from tollkeeper.core.gate import STATUS
from tollkeeper.core.ids import ulid_value
from tollkeeper.server import request_ids
from tollkeeper.services.clock import Clock
from tollkeeper.web.errors import ERRORS, Problems, field_errors
from tollkeeper.web.problems import MAX_BODY
from web.site import PROBLEM, PUBLIC_URL, Site

JSON = {"Content-Type": "application/json"}


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert problem["status"] == status
    assert problem["title"] == ERRORS[code].title
    assert problem["type"] == f"{PUBLIC_URL}/docs/errors/{code}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"]
    return problem


def failures(kind: type[TollkeeperError]) -> set[str]:
    return {kind.code}.union(*(failures(child) for child in kind.__subclasses__()))


def test_the_table_has_every_code_and_no_other() -> None:
    for layer in (core, services, web):
        for module in pkgutil.walk_packages(layer.__path__, f"{layer.__name__}."):
            importlib.import_module(module.name)
    assert set(ERRORS) == failures(TollkeeperError) | {code for code in STATUS if code != "VALID"}


async def test_an_unknown_address_is_not_found(api: httpx.AsyncClient) -> None:
    problem = assert_problem(await api.get("/v1/nothing"), 404, "not_found")
    assert problem["detail"] == "There is nothing at /v1/nothing."


async def test_a_wrong_method_is_told_with_the_right_ones(api: httpx.AsyncClient) -> None:
    answer = await api.delete("/v1/customers")
    problem = assert_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST"}
    assert problem["detail"].startswith("/v1/customers does not take DELETE; it takes ")


async def test_head_is_answered_as_get_without_the_body(api: httpx.AsyncClient) -> None:
    for path in ("/health", "/docs/api", "/v1/customers", "/v1/nothing"):
        whole, head = await api.get(path), await api.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        assert head.headers["content-length"] == str(len(whole.content))
        assert head.headers["content-type"] == whole.headers["content-type"]


async def test_the_hot_addresses_refuse_other_methods_too(api: httpx.AsyncClient) -> None:
    for path in ("/v1/check", "/v1/events"):
        answer = await api.get(path)
        assert_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"


async def test_a_body_that_is_not_json_is_refused_by_its_place(api: httpx.AsyncClient) -> None:
    for body, detail in {
        b'{"name": "Ada"': "The body is not JSON: expecting ',' delimiter at line 1, column 15.",
        b'{"name":"a","name":"b"}': "The body: the key 'name' appears twice.",
        b'{"name":"a\\u0000"}': "name: a NUL character is not allowed.",
        b'{"name":"\xff"}': "The body is not UTF-8: byte 9 cannot be read.",
        b"": "The body is empty; JSON is expected.",
        b'{"name":' + b"[" * 99 + b"]" * 99 + b"}": "name" + "[0]" * 31 + ": nested deeper than 32 levels.",
    }.items():
        problem = assert_problem(await api.post("/v1/customers", content=body, headers=JSON), 400, "invalid_request")
        assert problem["detail"] == detail


async def test_each_faulty_field_is_named_and_no_value_is_repeated(api: httpx.AsyncClient) -> None:
    body = {"name": 5, "email": "tk_live_secret", "zone": ["tk_live_secret"], "colour": "tk_live_secret"}
    answer = await api.post("/v1/customers", json=body)
    problem = assert_problem(answer, 400, "invalid_request")
    assert problem["errors"] == [
        {"field": "name", "message": "should be a valid string"},
        {"field": "zone", "message": "should be a valid string"},
        {"field": "colour", "message": "there is no such field"},
    ]
    assert "secret" not in answer.text


async def test_a_fault_that_a_service_finds_names_its_field_too(api: httpx.AsyncClient) -> None:
    problem = assert_problem(
        await api.post("/v1/customers", json={"name": "Ada", "plan": "gold"}), 400, "invalid_request"
    )
    assert [fault["field"] for fault in problem["errors"]] == ["plan"]
    assert problem["errors"][0]["message"].startswith("there is no plan 'gold'")


async def test_parameters_are_as_strict_as_bodies(api: httpx.AsyncClient) -> None:
    for query, field in {
        "limit=0": "query.limit",
        "limit=101": "query.limit",
        "limit=x": "query.limit",
        "lmit=1": "query.lmit",
    }.items():
        problem = assert_problem(await api.get(f"/v1/customers?{query}"), 400, "invalid_request")
        assert [fault["field"] for fault in problem["errors"]] == [field]
    twice = assert_problem(await api.get("/v1/customers?limit=1&limit=2"), 400, "invalid_request")
    assert twice["detail"] == "query.limit: this parameter is sent 2 times; send it once."


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
async def test_other_types_of_content_are_not_taken(api: httpx.AsyncClient, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = await api.post("/v1/customers", content=b'{"name":"Ada"}', headers=headers)
    assert_problem(answer, 415, "unsupported_media_type")


async def test_a_type_with_a_charset_is_taken(api: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    answer = await api.post("/v1/customers", content=b'{"name":"Ada"}', headers=headers)
    assert answer.status_code == 201


async def test_a_body_above_the_bound_is_refused_declared_or_in_chunks(api: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 65_536 + 1):
            yield b" " * 65_536

    declared = await api.post("/v1/customers", content=b" " * (MAX_BODY + 1), headers=JSON)
    assert_problem(declared, 413, "too_large")
    chunked = await api.post("/v1/customers", content=chunks(), headers=JSON)
    assert "content-length" not in chunked.request.headers
    assert_problem(chunked, 413, "too_large")


async def test_a_body_at_the_bound_is_read(api: httpx.AsyncClient) -> None:
    body = b'{"name":"Ada"}'.ljust(MAX_BODY)
    assert (await api.post("/v1/customers", content=body, headers=JSON)).status_code == 201


async def test_a_sane_request_id_is_kept_and_any_other_replaced(api: httpx.AsyncClient) -> None:
    for sent, kept in {
        "trace-0001_x": True,
        "short": False,
        "a" * 65: False,
        "with space": False,
        "ünïcödé1": False,
    }.items():
        for path in ("/v1/customers", "/v1/nothing", "/livez"):
            answer = await api.get(path, headers={"X-Request-Id": sent.encode()})
            found = answer.headers.get_list("x-request-id")
            assert len(found) == 1
            assert (found[0] == sent) is kept
            assert kept or re.fullmatch(r"req_[0-9A-HJKMNP-TV-Z]{26}", found[0])


async def test_an_unforeseen_failure_is_logged_under_its_id_and_tells_nothing(
    site: Site, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("table keys: digest 0xDEADBEEF")

    monkeypatch.setattr(type(site.toll.customers), "list", fail)
    answer = await api.get("/v1/customers", headers={"X-Request-Id": "trace-0001"})
    assert_problem(answer, 500, "internal_error")
    assert "DEADBEEF" not in answer.text
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.__dict__["request_id"] == "trace-0001"
    assert record.exc_info is not None
    assert "DEADBEEF" in str(record.exc_info[1])


async def test_an_answer_that_breaks_its_own_shape_is_a_failure_of_ours(
    site: Site, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(site.toll.customers), "members", lambda *_: [object()])
    assert_problem(await api.get("/v1/customers/x/members"), 500, "internal_error")


async def test_a_storage_failure_says_when_to_try_again(
    site: Site, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(type(site.toll.customers), "list", fail)
    answer = await api.get("/v1/customers")
    assert_problem(answer, 503, "storage_unavailable")
    assert answer.headers["retry-after"] == "1"


def test_a_client_that_goes_away_is_no_failure(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/customers",
        "query_string": b"",
        "headers": [
            (b"content-type", b"application/json"),
            (b"authorization", f"Bearer {site.admin_token}".encode()),
        ],
    }
    messages = iter([{"type": "http.request", "body": b'{"name"', "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(site.app(scope, receive, send))
    assert sent == []
    assert [record.levelno for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_catalog_fault_becomes_a_field_with_its_line() -> None:
    fault = Fault("tollkeeper.toml", 3, "meters.calls.aggregation", "one of count, sum", '"cuont"', "count?")
    assert field_errors(CatalogInvalid(faults=[fault])) == [
        {"field": "meters.calls.aggregation", "message": 'expected one of count, sum, found "cuont"; count?', "line": 3}
    ]


def test_a_code_that_is_not_in_the_table_is_told_as_ours() -> None:
    odd = TollkeeperError("inside")
    odd.code = "odd"
    status, _, body = Problems(PUBLIC_URL, lambda: "req_x").answer({"headers": []}, odd)
    assert (status, json.loads(body)["code"]) == (500, "internal_error")


def test_ids_of_requests_of_one_moment_differ_and_stand_in_order() -> None:
    made = request_ids(Clock(now_ns=lambda: 1_790_000_000_123_456_789, random_bits=lambda bits: (1 << bits) - 1))
    ids = [made() for _ in range(3000)]
    assert len(set(ids)) == 3000
    assert ids == sorted(ids)
    assert {ulid_value(id.removeprefix("req_")) or 0 for id in ids} == {
        1_790_000_000_123 << 80 | ((1 << 40) - 1) << 40 | number for number in range(1, 3001)
    }
