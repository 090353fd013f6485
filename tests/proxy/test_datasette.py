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

from .commands import Answer, curl, free_port, run, running, started

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "datasette.md"


class Page:
    """The page's blocks by language in their order, with the ports of this run in place of the page's."""

    def __init__(self, ports: dict[str, str]) -> None:
        self._blocks: dict[str, list[str]] = {}
        for language, text in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
            for port, real in ports.items():
                text = re.sub(rf"(:|--port ){port}\b", rf"\g<1>{real}", text)
            self._blocks.setdefault(language, []).append(text.strip())

    def next(self, language: str, begins: str = "") -> str:
        block = self._blocks[language].pop(0)
        assert block.startswith(begins), block
        return block

    def left(self) -> dict[str, list[str]]:
        return {language: blocks for language, blocks in self._blocks.items() if blocks}


def assert_told(page: Page, answer: Answer) -> None:
    """The answer is as the page's next block of HTTP says, whatever else it holds."""
    status, *fields = page.next("http").splitlines()
    assert answer.status == int(status.split()[1])
    for field in fields:
        name, _, value = field.partition(": ")
        assert answer.headers[name] == value


@pytest.fixture
def ports() -> dict[str, str]:
    return {"8001": str(free_port()), "8080": str(free_port()), "3000": str(free_port())}


def test_the_how_to_does_what_it_says(tmp_path: Path, ports: dict[str, str]) -> None:
    page = Page(ports)
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
