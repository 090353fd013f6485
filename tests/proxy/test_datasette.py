"""docs/how-to/datasette.md, followed: a server nobody here wrote, priced without touching it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from pages import Page, assert_told

from .commands import curl, free_port, run, running, started


@pytest.fixture
def ports() -> dict[str, str]:
    return {"8001": str(free_port()), "8080": str(free_port()), "3000": str(free_port())}


def test_the_how_to_does_what_it_says(tmp_path: Path, ports: dict[str, str]) -> None:
    page = Page("datasette.md", ports)
    subprocess.run([sys.executable, "-W", "error", "-c", page.next("python")], cwd=tmp_path, check=True)
    data = tmp_path / "weather.db"
    untouched = sha256(data.read_bytes()).digest()
    datasette = shlex.split(page.next("sh", "datasette serve"))
    wrap = shlex.split(page.next("sh", "tollkeeper wrap"))
    with started([sys.executable, "-m", *datasette], tmp_path) as upstream:
        upstream.wait_for_port(ports["8001"])
        with running(tmp_path, *wrap[1:], "--listen", ports["8080"], PORT=ports["3000"]) as gate:
            told = "\n".join(gate.until("/v1/usage"))
            page.next("sh", "export KEY=tk_live_")
            key = {"KEY": re.findall(r"tk_live_\w{36}", told)[0]}

            assert_told(page, curl(page.next("sh", "curl"), key))
            call = page.next("sh", "curl")
            allowed = curl(call, key)
            assert_told(page, allowed)
            assert json.loads(page.next("json")) == allowed.json()
            missing = curl(page.next("sh", "curl"), key)
            assert missing.status == 404
            assert "x-request-id" in missing.headers
            usage = page.next("sh", "curl")
            assert json.loads(page.next("json")).items() <= curl(usage, key).json().items()

            assert [curl(call, key).status for _ in range(4)] == [200] * 4
            refused = curl(call, key)
            assert_told(page, refused)
            assert json.loads(page.next("json")).items() <= refused.json().items()
            assert curl(usage, key).json()["total"] == "5"

            move = shlex.split(page.next("sh", "tollkeeper customers move"))
            moved = run(tmp_path, *move[1:], TOLLKEEPER_URL=f"http://127.0.0.1:{ports['3000']}")
            assert moved.returncode == 0, moved.stderr
            assert curl(page.next("sh", "curl"), key).status == 200
            assert curl(usage, key).json()["total"] == "6"
            assert page.left() == {}
            assert gate.stop() == 0
            assert gate.troubles() == []
    assert sha256(data.read_bytes()).digest() == untouched
