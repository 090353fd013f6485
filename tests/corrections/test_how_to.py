"""docs/how-to/corrections.md, followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from pages import Page
from proxy.commands import free_port, running
from proxy.commands import run as command

TOKEN = "tk_admin_a-token-for-the-tests-of-corrections"


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    ports = {"3000": str(free_port())}
    page = Page("corrections.md", ports)
    url = f"http://127.0.0.1:{ports['3000']}"
    where = {"TOLLKEEPER_URL": url, "TOLLKEEPER_ADMIN_TOKEN": TOKEN}

    def do(begins: str) -> str:
        import shlex

        done = command(tmp_path, *shlex.split(page.next("sh", begins))[1:], **where)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def used() -> str:
        answer = httpx.get(f"{url}/v1/usage", params={"meter": "api_calls", "customer": "acme"}, headers=headers)
        return str(answer.json()["total"])

    headers = {"Authorization": f"Bearer {TOKEN}"}
    do("tollkeeper init")
    with running(tmp_path, "serve", PORT=ports["3000"], TOLLKEEPER_ADMIN_TOKEN=TOKEN) as server:
        server.until("listens on")
        do("tollkeeper customers create")
        for _ in range(3):
            do("tollkeeper events send")
        told = do("tollkeeper events void call-1")
        assert f"\n{page.next('text')}" in told
        assert "acme      api_calls" in told
        assert used() == "2"
        line, _, body = page.next("http").partition("\n\n")
        assert line == "POST /v1/corrections"
        asked: dict[str, Any] = json.loads(body)
        tried = httpx.post(f"{url}/v1/corrections", json=asked, headers=headers).json()
        expected = json.loads(page.next("json"))
        assert {name: tried[name] for name in ("state", "events", "skipped")} == {
            name: expected[name] for name in ("state", "events", "skipped")
        }
        (change,) = tried["changes"]
        assert {name: change[name] for name in expected["changes"][0]} == expected["changes"][0]
        assert used() == "2"
        do("tollkeeper events amend call-3")
        assert f"\n{page.next('text')}" in do("tollkeeper events void --from")
        assert used() == "0"
        trail = do("tollkeeper events corrections")
        assert [word in trail for word in ("void", "amend", "the outage this morning", "call-1 from jobs")] == [
            True
        ] * 4
        do("tollkeeper verify")
        assert page.left() == {}
        assert server.stop() == 0
        assert server.troubles() == []
