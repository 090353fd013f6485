"""docs/how-to/asgi.md, followed with uvicorn."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pages import Page, assert_told
from proxy.commands import Answer, Running, curl, environment, free_port, run, started


def prepared(page: Page, folder: Path) -> dict[str, str]:
    """Step 1 of the page; the key it prints, as $KEY."""
    init = shlex.split(page.next("sh", "tollkeeper init"))
    assert run(folder, *init[1:]).returncode == 0
    (folder / "customers.py").write_text(page.next("python"))
    made = python(folder, *shlex.split(page.next("sh", "python customers.py"))[1:])
    assert made.stderr == ""
    return {"KEY": made.stdout.strip()}


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *words]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def serving(folder: Path, command: str, port: str) -> Iterator[Running]:
    words = shlex.split(command)
    with started([sys.executable, "-W", "error", "-m", *words], folder) as server:
        server.wait_for_port(port)
        yield server
        assert server.stop() in (0, -2), server.errors.read_text()
        assert "Traceback" not in server.errors.read_text()


def curls(page: Page, key: dict[str, str]) -> list[Answer]:
    """Each line of the page's next block."""
    return [curl(line, key) for line in page.next("sh", "curl").splitlines()]


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    port = str(free_port())
    page = Page("asgi.md", {"8001": port})
    key = prepared(page, tmp_path)
    (tmp_path / "app.py").write_text(page.next("python"))
    serve = page.next("sh", "uvicorn app:app")
    with serving(tmp_path, serve, port):
        assert curls(page, key)[0].json() == {"well": True}
        assert_told(page, curls(page, key)[0])
        allowed = curls(page, key)[0]
        assert_told(page, allowed)
        assert json.loads(page.next("json")) == allowed.json()
        missing, report, refused = curls(page, key)
        assert (missing.status, report.status, refused.status) == (404, 200, 429)
        assert json.loads(page.next("json")).items() <= refused.json().items()
        second = python(tmp_path, "customers.py")
        assert (second.returncode, "Gate.connect" in second.stderr) == (1, True)

    opened = (
        "from tollkeeper import Gate\n"
        "with Gate.open('tollkeeper.db') as gate:\n"
        "    gate.toll.customers.move('first', 'pro')\n"
    )
    (tmp_path / "app.py").write_text(page.next("python"))
    moved = python(tmp_path, "-c", opened)
    assert moved.returncode == 0, moved.stderr
    with serving(tmp_path, serve, port):
        address = f"http://127.0.0.1:{port}"
        assert curl(f"curl {address}/status").status == 200
        assert curl(f"curl {address}/search?q=a").status == 401
        found = curl(f'curl {address}/search?q=a -H "Authorization: Bearer $KEY"', key)
        assert found.json() == {"q": "a", "asked_by": "first"}
        assert "security" in curl(f"curl {address}/openapi.json").json()["paths"]["/search"]["get"]
    assert page.left() == {}
    used = "from tollkeeper import Gate\nprint(Gate.open('tollkeeper.db').usage('api_calls', customer='first').total)"
    assert python(tmp_path, "-c", used).stdout == "5\n"
