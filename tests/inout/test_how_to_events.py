"""docs/how-to/import-events.md, followed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pages import Page
from proxy.commands import free_port, running
from proxy.commands import run as command


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    ports = {"3000": str(free_port())}
    page = Page("import-events.md", ports)
    where = {"TOLLKEEPER_URL": f"http://127.0.0.1:{ports['3000']}"}

    def do(begins: str) -> str:
        done = command(tmp_path, *page.next("sh", begins).split()[1:], **where)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    do("tollkeeper init")
    with running(tmp_path, "serve", PORT=ports["3000"]) as server:
        server.until("listens on")
        do("tollkeeper customers create")
        subprocess.run([sys.executable, "-c", page.next("python")], cwd=tmp_path, check=True)
        for _ in range(3):
            assert do("tollkeeper events import usage.csv") == page.next("text")
        assert page.left() == {}
        assert server.stop() == 0
        assert server.troubles() == []
