"""The pages under /docs: whole, in step with the code, and offline."""

from __future__ import annotations

import ast
import json
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from hatchling.builders.wheel import WheelBuilder

import tollkeeper
from tollkeeper.web.app import create_openapi
from tollkeeper.web.docs import FILES, GATE_CODES, error_page, error_pages, page_file
from tollkeeper.web.errors import ERRORS, EVENT_CODES
from web.site import PUBLIC_URL
from web.test_problems import assert_problem

ROOT = Path(__file__).parents[2]
CODES = sorted({*ERRORS, *EVENT_CODES})


class Page(HTMLParser):
    """What a page loads, links to, names, and leaves open."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.inline: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("src"):
            self.loads.append(str(found["src"]))
        if found.get("href"):
            (self.links if tag == "a" else self.loads).append(str(found["href"]))
        if found.get("id"):
            self.ids.append(str(found["id"]))
        self.inline += [name for name in found if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in found):
            self.inline.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def every_page(anyone: httpx.AsyncClient) -> dict[str, Page]:
    pages = {}
    for path in ("/docs/api", "/docs/errors", *(f"/docs/errors/{code}" for code in CODES)):
        answer = await anyone.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        pages[path] = Page(answer.text)
    return pages


async def test_no_page_loads_anything_from_another_site(anyone: httpx.AsyncClient) -> None:
    for page in (await every_page(anyone)).values():
        assert page.loads
        for address in page.loads:
            assert address.startswith("/docs/static/")
            answer = await anyone.get(address)
            assert answer.status_code == 200
            for other in ("http://", "https://", "//", "@import", "url("):
                text = answer.text.replace("http://www.w3.org/2000/svg", "").replace("// Comforts", "")
                assert other not in text, address


async def test_pages_obey_their_own_content_security_policy(anyone: httpx.AsyncClient) -> None:
    for path, page in (await every_page(anyone)).items():
        assert page.inline == [], path
        assert page.open == [], path


async def test_every_link_leads_somewhere(anyone: httpx.AsyncClient) -> None:
    for path, page in (await every_page(anyone)).items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in set(page.links):
            if link.startswith("#"):
                assert link[1:] in page.ids, (path, link)
            else:
                answer = await anyone.get(link, follow_redirects=True)
                assert answer.status_code == 200, (path, link)


async def test_the_reference_shows_every_operation(anyone: httpx.AsyncClient) -> None:
    html = (await anyone.get("/docs/api")).text
    page = Page(html)
    for item in create_openapi()["paths"].values():
        for operation in item.values():
            assert operation["operationId"] in page.ids
            assert operation["summary"].replace("'", "&#x27;") in html
    assert f"curl {PUBLIC_URL}/v1/check" in html


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_page_that_says_meaning_cause_and_mend(code: str) -> None:
    text = (error_pages() / page_file(code)).read_text()
    title, blank, meaning = text.split("\n")[:3]
    expected = ERRORS[code].title if code in ERRORS else EVENT_CODES[code]
    assert (title, blank) == (f"# {expected}", "")
    assert meaning
    assert [line for line in text.split("\n") if line.startswith("#")][1:] == ["## Cause", "## What to do"]
    assert expected.replace("'", "&#x27;") in error_page(code)


def test_there_is_no_page_without_a_code() -> None:
    folder = error_pages()
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.md")} == {page_file(code) for code in CODES}


def test_pages_are_told_apart_by_file_systems_that_fold_case() -> None:
    names = [page_file(code).lower() for code in CODES]
    assert len(names) == len(set(names))
    assert {"NOT_FOUND", "FORBIDDEN"} < set(GATE_CODES)


def test_every_code_that_an_event_is_refused_with_has_a_page() -> None:
    """Read from the calls that refuse: `_Refused("too_old", …)`, and answers made with a code of their own."""
    told = set()
    for path in Path(tollkeeper.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("_Refused", "Result")
            ):
                position = 0 if node.func.id == "_Refused" else 3
                if len(node.args) > position and isinstance(code := node.args[position], ast.Constant) and code.value:
                    told.add(code.value)
    assert told >= set(EVENT_CODES)
    assert told <= {*ERRORS, *EVENT_CODES}


async def test_an_unknown_code_or_file_is_not_found(anyone: httpx.AsyncClient) -> None:
    for path in (
        "/docs/errors/nothing",
        "/docs/errors/VALID",
        "/docs/static/..%2Fapp.py",
        "/docs/static/app.py",
        "/docs/x",
    ):
        assert_problem(await anyone.get(path), 404, "not_found")


async def test_the_served_document_is_the_committed_one_and_the_codes(anyone: httpx.AsyncClient) -> None:
    """Write it anew with `make openapi`."""
    committed = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert committed == create_openapi()
    assert (await anyone.get("/openapi.json")).json() == committed


async def test_docs_lead_to_the_reference(anyone: httpx.AsyncClient) -> None:
    for path in ("/", "/docs"):
        answer = await anyone.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, "/docs/api")


def test_the_wheel_carries_the_pages_and_what_they_load(tmp_path: Path) -> None:
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    pages = {f"tollkeeper/web/error_pages/{page_file(code)}" for code in CODES}
    assert {name for name in names if name.startswith("tollkeeper/web/error_pages/")} == pages
    assert {f"tollkeeper/web/static/{name}" for name in FILES} <= names
