"""docs/how-to/nginx.md, "Asking less often", followed with the real nginx: who passes, for how long, and what is counted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateways.conftest import DOCS, Behind, behind, settle
from proxy.commands import run

BLOCKS = re.findall(r"```nginx\n(.*?)```", (DOCS / "nginx.md").read_text(), re.DOTALL)


def cached(folder: Path, seconds: int = 60, also: str = "") -> Callable[[str], str]:
    """The page's configuration with the changes that the page names."""
    cache, location, question = BLOCKS[1:]
    key, request_id, header = (line.strip() for line in location.strip().splitlines())

    def change(text: str) -> str:
        port = re.findall(r"upstream tollkeeper { server 127.0.0.1:(\d+)", text)
        assert len(port) == 1
        for old, new in (
            (r"proxy_set_header X-Tollkeeper-Request-Id \$tk_request_id;", request_id),
            (r"(?<=always;\n)        add_header X-Request-Id \$tk_request_id always;", f"        {header}"),
            (r"auth_request /_tollkeeper;", f"auth_request /_tollkeeper;\n{key}"),
            (r"    location = /_tollkeeper {.*?\n    }\n", question.replace("cache=10", f"cache={seconds}{also}")),
        ):
            text, times = re.subn(old, lambda _: new, text, count=1, flags=re.DOTALL)  # noqa: B023
            assert times == 1, old
        return cache.replace("/dev/shm/nginx-tollkeeper", f"{folder}/kept") + text

    return change


def heard(up: Behind) -> list[str]:
    return [fields["x-tollkeeper-customer"] for _, fields in up.api.seen]


def test_what_is_kept_is_asked_once_and_counted_call_by_call(tmp_path: Path) -> None:
    with behind(tmp_path, "nginx", cached(tmp_path), plan="open") as up:
        assert up.allowed().status == 200
        up.server.stop()  # from here on only what is kept can answer
        answers = [up.allowed(f"/status/{status}") for status in (200, 204, 500, 404, 200)]
        assert [answer.status for answer in answers] == [200, 204, 500, 404, 200]
        assert len({answer.headers["x-request-id"] for answer in answers}) == 5
        assert up.call().status == 503
        assert heard(up) == [up.customer] * 6
        assert [fields["x-tollkeeper-request-id"] for _, fields in up.api.seen[1:]] == [
            answer.headers["x-request-id"] for answer in answers
        ]
        assert up.key not in str(up.api.seen)
        with up.restarted():
            assert up.used() == "0"
            told = settle(up)
            assert (told["committed"], told["released"], told["rejected"], told["before"]) == (4, 2, 0, 0)
            assert up.used() == "4"
            (tmp_path / "access.log.settled").unlink()
            told = settle(up)
            assert (told["committed"], told["before"]) == (0, 4)
            assert up.used() == "4"


def test_calls_at_once_are_each_counted_once(tmp_path: Path) -> None:
    with behind(tmp_path, "nginx", cached(tmp_path, 2), plan="open") as up:
        other, key = up.new_customer("open")
        keys = {up.customer: up.key, other: key}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: up.call("/hello", f"X-API-Key: {keys[[*keys][i % 2]]}"), range(60)))
        assert sorted(heard(up)) == sorted([*keys] * 30)
        assert settle(up)["committed"] == 60
        assert up.used() == "30"
        up.customer = other
        assert up.used() == "30"


def test_what_is_kept_answers_for_no_other_key(tmp_path: Path) -> None:
    with behind(tmp_path, "nginx", cached(tmp_path), plan="open") as up:
        other, key = up.new_customer("open")
        bearer = f"Authorization: Bearer {up.key}"
        for _ in range(2):
            assert up.allowed().status == 200
            assert up.call("/hello", f"X-API-Key: {up.key}").status == 200
            assert up.call(f"/hello?api_key={up.key}").status == 200
            assert up.call("/hello", f"X-API-Key: {key}").status == 200
        assert heard(up) == [up.customer, up.customer, up.customer, other] * 2
        # by a parameter that nginx does not see in the cache's key, nothing is kept
        assert up.call(f"/hello?api%5Fkey={up.key}").status == 200
        forged = [f"X-Cache-Key: {up.key}", "X-Accel-Expires: 9999", "X-Tollkeeper-Reservation: pass_forged"]
        strangers: list[tuple[str, tuple[str, ...]]] = [
            ("/hello", ()),
            ("/hello?api%5Fkey=x", ()),
            ("/hello", ("Authorization: Bearer",)),
            ("/hello", ("Authorization: Basic eDp5",)),
            ("/hello", (f"X-API-Key: {up.key[:-1]}",)),
            ("/hello", (f"X-API_Key: {up.key}",)),
            ("/hello", (f"X-Forwarded-Authorization: Bearer {up.key}",)),
        ]
        for path, headers in strangers:
            assert up.call(path, *headers, *forged).status == 401
        assert up.call("/hello", bearer, f"X-API-Key: {key}").status == 400
        identity = [f"X-Tollkeeper-{name}: forged" for name in ("Customer", "Key", "Plan", "Environment", "Request-Id")]
        up.api.seen.clear()
        assert up.allowed("/hello", *identity, *forged).status == 200
        [(_, fields)] = up.api.seen
        assert fields["x-tollkeeper-customer"] == up.customer
        assert "forged" not in {value for name, value in fields.items() if name.startswith("x-tollkeeper")}
        told = settle(up)
        assert (told["committed"], told["rejected"]) == (10, 0)
        assert up.used() == "8"


def test_a_revoked_key_goes_on_for_no_longer_than_was_asked_for(tmp_path: Path) -> None:
    seconds = 4
    with behind(tmp_path, "nginx", cached(tmp_path, seconds), plan="open") as up:
        assert up.allowed().status == 200
        asked = time.monotonic()  # or a little earlier
        revoked = run(tmp_path, "keys", "revoke", key_id(up), "--yes", **up.here)
        assert revoked.returncode == 0, revoked.stderr
        passed = 1
        while True:
            began = time.monotonic()  # before nginx looks at its clock
            status = up.allowed().status
            if status != 200:
                break
            passed += 1
            assert began - asked <= seconds
        assert status == 401
        assert settle(up)["committed"] == passed
        assert up.used() == str(passed)


def key_id(up: Behind) -> str:
    [(_, fields)] = up.api.seen
    return fields["x-tollkeeper-key"]


def test_a_hard_quota_and_a_key_bound_to_addresses_are_asked_about_each_time(tmp_path: Path) -> None:
    with behind(tmp_path, "nginx", cached(tmp_path)) as up:
        assert [up.allowed().status for _ in range(7)] == [200] * 5 + [429] * 2
        opened, _ = up.new_customer("open")
        bound = up.new_key(opened, "--ip", "127.0.0.1")
        assert up.call("/hello", f"X-API-Key: {bound}").status == 200
        up.server.stop()
        assert up.call("/hello", f"X-API-Key: {bound}").status == 503
        with up.restarted():
            assert settle(up)["committed"] == 6
            assert up.used() == "5"


def test_a_line_that_does_not_say_which_call_it_was_is_refused_and_told(tmp_path: Path) -> None:
    def change(text: str) -> str:
        return cached(tmp_path)(text).replace('"call":"$request_id",', "")

    with behind(tmp_path, "nginx", change, plan="open") as up:
        assert up.allowed().status == up.allowed().status == 200
        assert settle(up, code=1)["rejected"] == 2
        assert up.used() == "0"


@pytest.mark.parametrize("fit", [True, False])
def test_a_price_by_path_is_kept_only_where_the_key_of_the_cache_tells_the_path(tmp_path: Path, fit: bool) -> None:
    def change(text: str) -> str:
        text = cached(tmp_path, also="&price=/search=searches:3")(text)
        return text.replace('tk_cache_key "', 'tk_cache_key "$request_method $request_uri ') if fit else text

    with behind(tmp_path, "nginx", change, plan="open") as up:
        for _ in range(2):
            assert up.allowed("/hello").status == up.allowed("/search?q=1").status == 200
        if fit:
            up.server.stop()
            assert [up.allowed(path).status for path in ("/hello", "/search?q=1")] == [200, 200]
            assert up.allowed("/other").status == 503
            with up.restarted():
                settle(up)
                assert (up.used(), up.used("searches")) == ("3", "9")
        else:
            settle(up)
            assert (up.used(), up.used("searches")) == ("2", "6")
