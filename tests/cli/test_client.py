"""The client: one kept connection, errors as exceptions with their code, nothing sent twice that counts twice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from tollkeeper.client import ApiError, Exchange, Tollkeeper, Unreachable

from .fake_server import Answer, Asked, FakeServer, problem


def test_check_sends_the_documented_shape_and_a_refusal_is_an_answer(server: FakeServer) -> None:
    server.on("POST", "/v1/check", {"code": "RATE_LIMITED", "status": 429})
    with Tollkeeper(server.url, "admin-token") as toll:
        decision = toll.check(
            "tk_test_x", "api_calls", Decimal("1E+3"), scope="read", ip="10.0.0.1", id="a", durable=False
        )
    assert decision == {"code": "RATE_LIMITED", "status": 429}
    asked = server.asked[0]
    assert asked.headers["Authorization"] == "Bearer admin-token"
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.json == {
        "key": "tk_test_x",
        "meter": "api_calls",
        "cost": "1000",
        "scope": "read",
        "ip": "10.0.0.1",
        "id": "a",
        "reserve": False,
        "durable": False,
    }


@pytest.mark.parametrize("cost", [1.5, True, None])
def test_a_quantity_that_is_not_exact_is_refused_before_anything_is_sent(server: FakeServer, cost: Any) -> None:
    with Tollkeeper(server.url) as toll, pytest.raises(TypeError, match="decimal string"):
        toll.check("k", "m", cost)
    assert server.asked == []


def test_events_get_an_id_and_keep_their_own(server: FakeServer) -> None:
    server.on("POST", "/v1/events", {"accepted": 2})
    with Tollkeeper(server.url) as toll:
        events = [{"type": "a"}, {"type": "a", "id": "mine", "data": {"n": Decimal("0.10")}}]
        assert toll.events(events, environment="test") == {"accepted": 2}
    first, second = server.asked[0].json
    assert len(first["id"]) == 36
    assert second == {"type": "a", "id": "mine", "data": {"n": "0.10"}}
    assert server.asked[0].query == {"environment": "test"}


@pytest.mark.parametrize(
    ("value", "error"), [(float("nan"), ValueError), (float("inf"), ValueError), (object(), TypeError)]
)
def test_what_json_cannot_hold_is_refused_before_anything_is_sent(
    server: FakeServer, value: object, error: type[Exception]
) -> None:
    with Tollkeeper(server.url) as toll, pytest.raises(error):
        toll.events([{"type": "a", "data": {"n": value}}])
    assert server.asked == []


def test_usage_leaves_out_what_is_not_asked(server: FakeServer) -> None:
    server.on("GET", "/v1/usage", {"total": "0"})
    with Tollkeeper(server.url) as toll:
        assert toll.usage(customer="a&b", from_="2026-11-01T00:00:00Z", to=None) == {"total": "0"}
    assert server.asked[0].query == {"customer": "a&b", "from": "2026-11-01T00:00:00Z"}


def test_one_connection_serves_many_requests(server: FakeServer) -> None:
    server.on("GET", "/health", {"status": "ok"})
    with Tollkeeper(server.url) as toll:
        for _ in range(3):
            assert toll.request("GET", "/health") == {"status": "ok"}
    assert len({a.client for a in server.asked}) == 1


def test_a_connection_that_the_server_closed_is_opened_again_and_the_request_is_sent_once(server: FakeServer) -> None:
    server.on("POST", "/v1/keys", [Answer({"id": 1}, close=True), Answer({"id": 2})])
    with Tollkeeper(server.url) as toll:
        assert toll.request("POST", "/v1/keys", {}) == {"id": 1}
        wait_until_closed(toll)
        assert toll.request("POST", "/v1/keys", {}) == {"id": 2}
    assert len(server.asked) == 2


def wait_until_closed(toll: Tollkeeper) -> None:
    """Blocks until the server's end of the kept connection is closed, without a timer."""
    kept: socket.socket = toll._idle[-1][1].sock
    assert kept.recv(1, socket.MSG_PEEK) == b""


def test_a_broken_kept_connection_repeats_a_read_but_never_a_write(server: FakeServer) -> None:
    server.on("GET", "/a", [{"n": 1}, Answer(hang_up=True), {"n": 2}])
    server.on("POST", "/b", Answer(hang_up=True))
    with Tollkeeper(server.url) as toll:
        assert toll.request("GET", "/a") == {"n": 1}
        assert toll.request("GET", "/a") == {"n": 2}
        with pytest.raises(Unreachable, match=r"closed the connection before it answered\. Whether"):
            toll.request("POST", "/b", {})
    assert [a.path for a in server.asked] == ["/a", "/a", "/a", "/b"]


def test_events_are_repeated_on_a_broken_kept_connection_with_the_same_ids(server: FakeServer) -> None:
    server.on("GET", "/a", {})
    server.on("POST", "/v1/events", [Answer(hang_up=True), {"accepted": 1}])
    with Tollkeeper(server.url) as toll:
        toll.request("GET", "/a")
        assert toll.events([{"type": "t"}]) == {"accepted": 1}
    first, second = server.bodies("POST", "/v1/events")
    assert first == second


def test_a_problem_becomes_an_exception_with_its_code(server: FakeServer) -> None:
    server.on("GET", "/v1/keys", problem(403, "forbidden", "This token may not do that."))
    with Tollkeeper(server.url) as toll, pytest.raises(ApiError) as raised:
        toll.request("GET", "/v1/keys")
    error = raised.value
    assert (error.status, error.code, error.detail, error.request_id) == (
        403,
        "forbidden",
        "This token may not do that.",
        "req_01",
    )
    assert error.problem["title"] == "forbidden"


@pytest.mark.parametrize("body", [b"<html>", b"NaN", b'"text"'])
def test_an_error_that_is_no_problem_json_says_that_another_server_may_be_there(
    server: FakeServer, body: bytes
) -> None:
    server.on("GET", "/x", Answer(body, 502, {"X-Request-Id": "req_9"}))
    with Tollkeeper(server.url) as toll, pytest.raises(ApiError, match="is another server at this address") as raised:
        toll.request("GET", "/x")
    assert (raised.value.status, raised.value.code, raised.value.request_id) == (502, "bad_answer", "req_9")


def test_a_success_that_is_not_json_is_an_error_too(server: FakeServer) -> None:
    server.on("GET", "/x", Answer(b"<html>"))
    with Tollkeeper(server.url) as toll, pytest.raises(ApiError, match="is another server at this address"):
        toll.request("GET", "/x")


def test_an_empty_answer_is_none(server: FakeServer) -> None:
    server.on("DELETE", "/v1/x", Answer(status=204))
    with Tollkeeper(server.url) as toll:
        assert toll.request("DELETE", "/v1/x") is None


def test_a_path_is_quoted_and_an_address_may_have_a_path(server: FakeServer) -> None:
    server.on("GET", "/toll/v1/customers/a%20b", {})
    with Tollkeeper(server.url + "/toll/") as toll:
        assert toll.request("GET", "/v1/customers/a b") == {}


def test_nobody_listening_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        Tollkeeper(f"http://127.0.0.1:{port}") as toll,
        pytest.raises(Unreachable, match="nothing listens there") as raised,
    ):
        toll.request("POST", "/v1/keys", {})
    assert "not known" not in str(raised.value)


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_no_answer_in_time_is_unreachable_and_says_what_is_not_known() -> None:
    with silent() as url, Tollkeeper(url, timeout=0.05) as toll:
        with pytest.raises(Unreachable, match=r"within 0.05 s. Whether the request was carried out is not known"):
            toll.request("POST", "/v1/keys", {})
        with pytest.raises(Unreachable, match=r"within 0.05 s.$"):
            toll.request("GET", "/v1/keys")


def test_something_that_is_not_http_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Tollkeeper(url) as toll, pytest.raises(Unreachable, match="does not speak HTTP: BadStatusLine"):
            toll.request("GET", "/")
        thread.join()


@pytest.mark.parametrize(
    ("url", "token"), [("ftp://x", None), ("localhost:3000", None), ("http://x", "a\nb"), ("http://x", "é")]
)
def test_what_cannot_be_sent_is_refused_when_the_client_is_made(url: str, token: str | None) -> None:
    with pytest.raises(ValueError, match=r"address|token"):
        Tollkeeper(url, token)


def test_a_watcher_sees_what_was_sent_and_answered(server: FakeServer) -> None:
    seen: list[Exchange] = []
    server.on("POST", "/v1/x", lambda asked: Answer({"got": asked.json}, 201))
    with Tollkeeper(server.url, "token", watch=seen.append) as toll:
        toll.request("POST", "/v1/x", {"a": 1}, query={"b": "c"})
    (one,) = seen
    assert (one.method, one.url, one.status) == ("POST", f"{server.url}/v1/x?b=c", 201)
    assert (one.request_body, one.body) == (b'{"a": 1}', b'{"got": {"a": 1}}')


def test_a_connection_is_handed_from_thread_to_thread(server: FakeServer) -> None:
    server.on("GET", "/a", {})
    with Tollkeeper(server.url) as toll:
        for _ in range(3):
            thread = threading.Thread(target=toll.request, args=("GET", "/a"))
            thread.start()
            thread.join()
    assert len({a.client for a in server.asked}) == 1


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("POST", "/a", {})
    with Tollkeeper(server.url) as toll:
        toll.request("POST", "/a", {})
        monkeypatch.setattr("tollkeeper.client.KEEP_ALIVE", 0.0)
        toll.request("POST", "/a", {})
    assert len({a.client for a in server.asked}) == 2


def test_a_fork_leaves_the_connections_to_the_parent(server: FakeServer) -> None:
    server.on("GET", "/a", {})
    with Tollkeeper(server.url) as toll:
        toll.request("GET", "/a")
        toll._pid = -1  # as a child of that process sees it
        toll.request("GET", "/a")
    assert len({a.client for a in server.asked}) == 2


def test_threads_do_not_share_a_connection(server: FakeServer) -> None:
    both = threading.Barrier(2, timeout=10)

    def meet(asked: Asked) -> dict[str, int]:
        both.wait()
        return {}

    server.on("GET", "/meet", meet)
    toll = Tollkeeper(server.url)

    def call() -> None:
        toll.request("GET", "/meet")
        toll.close()

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({a.client for a in server.asked}) == 2
