"""Bodies of `/v1/events`: what one large faulty batch may cost the others."""

from __future__ import annotations

import json
import threading

import pytest

from tollkeeper.services.ingest import Result
from tollkeeper.web import events
from tollkeeper.web.errors import UnsupportedMediaType
from tollkeeper.web.events import MAX_EVENT_BYTES, SMALL, decode_events, read_events

EVENT = {"id": "1", "type": "api.call", "customer": "ann"}


@pytest.mark.parametrize("faulty", [True, False])
async def test_a_large_batch_is_looked_at_closely_off_the_loop_and_only_when_it_has_a_fault(
    monkeypatch: pytest.MonkeyPatch, faulty: bool
) -> None:
    closely = events._decode_one
    threads = set()

    def watched(index: int, body: bytes) -> object:
        threads.add(threading.get_ident())
        return closely(index, body)

    batch = [{**EVENT, "id": f"{n:>64}"} for n in range(1000)] + [{**EVENT, "unknown": 1} if faulty else EVENT]
    body = json.dumps(batch, separators=(",", ":")).encode()
    assert len(body) > SMALL
    expected = decode_events(body)
    monkeypatch.setattr(events, "_decode_one", watched)
    assert await read_events(body, "application/json") == expected
    assert isinstance(expected[-1], Result) == faulty
    assert (len(threads), threading.get_ident() in threads) == (int(faulty), False)


@pytest.mark.parametrize("batch", [True, False])
def test_an_event_larger_than_any_that_is_kept_is_rejected_without_a_closer_look(batch: bool) -> None:
    large = json.dumps({**EVENT, "data": {str(n): n for n in range(40_000)}, "unknown": 1}).encode()
    assert len(large) > MAX_EVENT_BYTES
    body = b"[" + json.dumps(EVENT).encode() + b"," + large + b"]" if batch else large
    found = decode_events(body)[-1]
    assert isinstance(found, Result)
    assert (found.status, found.code, found.index) == ("rejected", "data_too_large", int(batch))


def test_a_body_of_another_type_is_refused_as_everywhere_else() -> None:
    with pytest.raises(UnsupportedMediaType, match="cloudevents-batch"):
        decode_events(json.dumps(EVENT).encode(), "application/x-www-form-urlencoded")
