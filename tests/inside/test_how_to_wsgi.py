"""docs/how-to/wsgi.md, flask.md and django.md, followed with the servers they name."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pages import Page, assert_told
from proxy.commands import free_port

from .following import curls, prepared, python, serving, used


def follow(page: Page, key: dict[str, str]) -> None:
    """Step 3 of the pages."""
    status, refused = curls(page, key)
    assert status.status == 200
    assert_told(page, refused)
    allowed = curls(page, key)[0]
    assert_told(page, allowed)
    if "json" in page.left():
        assert json.loads(page.next("json")) == allowed.json()
    missing, report, refused = curls(page, key)
    assert (missing.status, report.status, refused.status) == (404, 200, 429)
    assert refused.json()["code"] == "QUOTA_EXCEEDED"
    assert page.left() == {}


def test_the_how_to_for_wsgi_does_what_it_says(tmp_path: Path) -> None:
    port = str(free_port())
    page = Page("wsgi.md", {"8001": port})
    key = prepared(page, tmp_path)
    (tmp_path / "app.py").write_text(page.next("python").replace("8001", port))
    with serving(tmp_path, page.next("sh", "python app.py"), port):
        follow(page, key)
    assert used(tmp_path) == "3"


def test_the_how_to_for_flask_does_what_it_says(tmp_path: Path) -> None:
    port = str(free_port())
    page = Page("flask.md", {"8001": port})
    key = prepared(page, tmp_path)
    (tmp_path / "app.py").write_text(page.next("python"))
    with serving(tmp_path, page.next("sh", "flask --app app run"), port):
        follow(page, key)
    assert used(tmp_path) == "3"


def test_the_how_to_for_django_does_what_it_says_with_both_servers(tmp_path: Path) -> None:
    for kind in ("wsgi", "asgi"):
        folder = tmp_path / kind
        folder.mkdir()
        port = str(free_port())
        page = Page("django.md", {"8001": port})
        key = prepared(page, folder)
        made = python(folder, "-m", *shlex.split(page.next("sh", "django-admin").replace("-admin", "")))
        assert made.returncode == 0, made.stderr
        with (folder / "cities" / "settings.py").open("a") as file:
            file.write(page.next("python"))
        (folder / "cities" / "urls.py").write_text(page.next("python"))
        command = page.next("sh", "python manage.py").replace("8001", port)
        if kind == "asgi":
            command = f"uvicorn cities.asgi:application --port {port}"
        with serving(folder, command, port):
            follow(page, key)
        assert used(folder) == "3"
