"""docs/how-to/rate.md, followed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from pages import Page
from proxy.commands import curl, free_port, run, running


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    ports = {"3000": str(free_port())}
    page = Page("rate.md", ports)
    where = {"TOLLKEEPER_URL": f"http://127.0.0.1:{ports['3000']}"}
    known: dict[str, str] = {}

    def do(begins: str) -> str:
        line = page.next("sh", begins)
        for name, value in known.items():
            line = line.replace(f"${name}", value)
        done = run(tmp_path, *shlex.split(line)[1:], **where)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    do("tollkeeper init")
    assert do("tollkeeper rate") == page.next("text")
    assert do("tollkeeper rate") == page.next("text")
    (tmp_path / "price.toml").write_text(page.next("toml"))
    assert do("tollkeeper rate") == page.next("text")

    serve = shlex.split(page.next("sh", "tollkeeper serve"))
    with running(tmp_path, *serve[1:], PORT=ports["3000"]) as server:
        server.until("listens on")
        known["TOKEN"] = re.findall(r"TOLLKEEPER_ADMIN_TOKEN=(\S+)", (tmp_path / ".env").read_text())[0]
        question = page.next("sh", "curl")
        assert curl(question, known).json() == json.loads(page.next("json"))
        faulty = curl(question.replace(', "unit_amount": "0.002"', ""), known)
        assert [fault["field"] for fault in faulty.json()["errors"]] == ["price.unit_amount"]

        do("tollkeeper customers create")
        known["KEY"] = re.findall(r"tk_live_\w+", do("tollkeeper keys create"))[0]
        do("tollkeeper check")
        assert do("tollkeeper customers cost").endswith(page.next("text"))
        own = curl(page.next("sh", "curl"), known).json()
        assert json.loads(page.next("json")).items() <= own.items()
        assert own["totals"][0]["amount"] == "11.35"
        assert page.left() == {}
        assert server.stop() == 0
        assert server.troubles() == []
