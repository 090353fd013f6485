"""docs/how-to/asgi.md, followed with uvicorn."""

from __future__ import annotations

import json
from pathlib import Path

from pages import Page, assert_told
from proxy.commands import curl, free_port

from .following import curls, prepared, python, serving, used


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
    assert used(tmp_path) == "5"
