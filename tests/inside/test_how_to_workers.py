"""docs/how-to/workers.md, followed with a server and two workers of uvicorn."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pages import Page, assert_told
from proxy.commands import curl, free_port, run, running

from .following import serving


def commands(page: Page, tollkeeper: Callable[..., str]) -> dict[str, str]:
    """The page's next block: commands, and variables set to what they print."""
    found: dict[str, str] = {}
    for line in page.next("sh", "tollkeeper").splitlines():
        if line.startswith("export "):
            name, _, command = line.removeprefix("export ").partition("=")
            found[name] = tollkeeper(*shlex.split(command.removeprefix("$(").removesuffix(")"))[1:]).strip()
        else:
            tollkeeper(*shlex.split(line)[1:])
    return found


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    ports = {"3000": str(free_port()), "8001": str(free_port())}
    page = Page("workers.md", ports)

    def tollkeeper(*words: str) -> str:
        done = run(tmp_path, *words, TOLLKEEPER_URL=f"http://127.0.0.1:{ports['3000']}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    commands(page, tollkeeper)
    serve = shlex.split(page.next("sh", "tollkeeper serve"))
    with running(tmp_path, *serve[1:]) as server:
        server.until("listens on")
        keys = commands(page, tollkeeper)
        (tmp_path / "app.py").write_text(page.next("python"))
        token = {"GATE_TOKEN": keys["GATE_TOKEN"]}
        with serving(tmp_path, page.next("sh", "uvicorn app:app"), ports["8001"], **token) as workers:
            call = page.next("sh", "curl")
            first = curl(call, keys)
            assert_told(page, first)
            assert curl(page.next("sh", "curl"), keys).status == 404
            with ThreadPoolExecutor(12) as pool:
                answers = [first, *pool.map(lambda _: curl(call, keys), range(24))]
            allowed = [answer.json() for answer in answers if answer.status == 200]
            assert (len(allowed), {answer.status for answer in answers}) == (3, {200, 429})
            assert {answer["asked_by"] for answer in allowed} == {"first"}
            assert workers.process.pid not in {answer["process"] for answer in allowed}
            shown = page.next("sh", "tollkeeper usage")
            assert "3" in tollkeeper(*shlex.split(shown)[1:])
            assert server.stop() == 0
            assert_told(page, curl(call, keys))
    assert page.left() == {}
