"""docs/how-to/datasette.md, carried out: a server nobody here wrote, on a real data file, priced without touching it."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .test_cli_front import fetch, running

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "datasette.md").read_text()
COMMANDS = [block.strip() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S)]
DATA, DATASETTE, WRAP, CALL, USAGE = COMMANDS


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def datasette(folder: Path, port: int) -> Iterator[None]:
    """The page's own command, on another port."""
    words = shlex.split(DATASETTE.replace("8001", str(port)))
    assert words[0] == "datasette"
    child = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/-/versions.json").close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert child.poll() is None
                time.sleep(0.1)
        yield
    finally:
        child.terminate()
        child.wait()


def test_the_page_prices_a_datasette_without_touching_it(tmp_path: Path) -> None:
    subprocess.run(DATA, shell=True, cwd=tmp_path, check=True)
    before = (tmp_path / "cities.db").read_bytes()
    port = free_port()
    words = shlex.split(WRAP)
    assert words[:2] == ["tollkeeper", "wrap"]
    wrap = [word.replace("8001", str(port)).replace(":8080", ":0") for word in words[1:]]
    with datasette(tmp_path, port), running(tmp_path, *wrap, until="/v1/usage") as text:
        key = re.search(r"tk_live_\w+", text).group()  # type: ignore[union-attr]
        proxy = re.search(r"gate on (http://\S+)", text).group(1)  # type: ignore[union-attr]
        server = re.search(r"listens on (http://[^,\s]+)", text).group(1)  # type: ignore[union-attr]
        bearer = {"Authorization": f"Bearer {key}"}
        call = re.search(r'"http://127.0.0.1:8080(/[^"]+)"', CALL).group(1)  # type: ignore[union-attr]
        usage = re.search(r'"http://127.0.0.1:3000(/[^"]+)"', USAGE).group(1)  # type: ignore[union-attr]
        assert fetch(proxy + call, {})[0] == 401
        status, body = fetch(proxy + call, bearer)
        assert status == 200
        assert [row["name"] for row in json.loads(body)][:2] == ["Zurich", "Geneva"]
        assert fetch(f"{proxy}/nothing.json", bearer)[0] == 404
        status, body = fetch(server + usage, bearer)
        assert json.loads(body)["total"] == "1"
    assert (tmp_path / "cities.db").read_bytes() == before


def test_the_quota_of_the_page_ends_and_says_so(tmp_path: Path) -> None:
    subprocess.run(DATA, shell=True, cwd=tmp_path, check=True)
    port = free_port()
    wrap = ("wrap", f"http://127.0.0.1:{port}", "--free", "2", "--listen", "127.0.0.1:0")
    with datasette(tmp_path, port), running(tmp_path, *wrap, until="/v1/usage") as text:
        key = re.search(r"tk_live_\w+", text).group()  # type: ignore[union-attr]
        proxy = re.search(r"gate on (http://\S+)", text).group(1)  # type: ignore[union-attr]
        bearer = {"X-API-Key": key}
        assert [fetch(f"{proxy}/cities/cities.json", bearer)[0] for _ in range(3)] == [200, 200, 429]
        problem = json.loads(fetch(f"{proxy}/cities/cities.json", bearer)[1])
        assert problem["code"] == "QUOTA_EXCEEDED"
        assert "2 of 2 api_calls" in problem["detail"]
