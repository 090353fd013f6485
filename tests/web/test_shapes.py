"""The document tells of the hot endpoints what their code takes and answers, field by field."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from spine import Spine
from tollkeeper.core.gate import STATUS
from tollkeeper.services.ingest import Result
from tollkeeper.web.api.hot import HOT, Check, Decided, EventResult, EventResults, EventSent
from tollkeeper.web.app import create_openapi
from tollkeeper.web.check import CheckRequest
from tollkeeper.web.events import EventBody
from tollkeeper.web.hot import encode_results


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = create_openapi()["components"]["schemas"][name]["properties"]
    return found


def test_a_check_takes_what_the_document_says() -> None:
    assert list(Check.model_fields) == list(CheckRequest.__struct_fields__)
    written = {name: field.default for name, field in Check.model_fields.items() if not field.is_required()}
    names = CheckRequest.__struct_fields__
    assert written == dict(zip(names[1:], CheckRequest.__struct_defaults__, strict=True))


def test_an_event_takes_what_the_document_says() -> None:
    assert list(EventSent.model_fields) == list(EventBody.__struct_fields__)
    names = EventBody.__struct_fields__
    written = {name: field.default for name, field in EventSent.model_fields.items() if not field.is_required()}
    assert written == dict(zip(names[2:], EventBody.__struct_defaults__, strict=True))


def test_a_decision_answers_what_the_document_says(tmp_path: Any) -> None:
    with_quota = Spine(tmp_path)
    toll = with_quota.app
    decision = toll.gate.check(with_quota.key(with_quota.customer()), "api_calls").as_dict()
    assert [*decision, "shadow", "pending"] == list(Decided.model_fields) == list(properties("Decided"))
    assert list(decision["rate_limits"][0]) == list(properties("LimitState"))
    assert list(decision["quota"]) == list(properties("QuotaNow"))
    assert properties("Decided")["code"]["enum"] == list(STATUS)
    toll.close()


def test_an_answer_for_events_is_what_the_document_says() -> None:
    assert [field.name for field in dataclasses.fields(Result)] == list(EventResult.model_fields)
    assert list(json.loads(encode_results([]))) == list(EventResults.model_fields)


def test_the_hot_addresses_are_in_the_document() -> None:
    paths = create_openapi()["paths"]
    assert {path: tuple(method.upper() for method in paths[path]) for path in HOT} == HOT
