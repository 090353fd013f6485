"""`/docs`: the API reference and a page for every error code, made on the server; nothing comes from another site."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from tollkeeper.core.errors import NotFound
from tollkeeper.core.gate import STATUS
from tollkeeper.web.errors import API_CODES, ERRORS, EVENT_CODES
from tollkeeper.web.html import HEADERS, join, markdown, page
from tollkeeper.web.reference import Reference
from tollkeeper.web.routes import StrictRoute

STATIC: Final = Path(__file__).parent / "static"
FILES: Final[Mapping[str, str]] = {
    "buy.css": "text/css",
    "docs.css": "text/css",
    "docs.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
GATE_CODES: Final = tuple(code for code in STATUS if code != "VALID")


def error_pages() -> Path:
    """The folder of the pages: beside this file in an installed wheel, docs/errors in a checkout."""
    packaged = Path(__file__).parent / "error_pages"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "docs" / "errors"


def page_file(code: str) -> str:
    """The file of a code's page. Gate codes have a folder, since file systems may not tell NOT_FOUND from not_found."""
    if code in STATUS:
        return f"gate/{code.lower()}.md"
    return f"{code}.md" if code in ERRORS else f"events/{code}.md"


@cache
def error_page(code: str) -> str:
    """One code's page. Raises NotFound."""
    if code not in ERRORS and code not in EVENT_CODES:
        raise NotFound(f"There is no error code {code[:60]!r}. All of them: /docs/errors")
    text = (error_pages() / page_file(code)).read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    row = ERRORS.get(code)
    kind = f"HTTP {row.status}" if row else "per event"
    head = (
        f'<p class="crumbs"><a href="/docs/errors">Errors</a></p><h1>{escape(title.removeprefix("# "))}</h1>'
        f'<p class="code-line"><code>{escape(code)}</code><span class="status">{kind}</span></p>'
    )
    return page(code, f'<article class="prose">{head}{markdown(rest)}</article>', description=title.removeprefix("# "))


@cache
def error_index() -> str:
    """All codes, in three tables."""

    def table(title: str, said: str, codes: tuple[str, ...]) -> str:
        rows = join(
            f'<tr><td><a href="/docs/errors/{code}"><code>{code}</code></a></td>'
            f"<td>{ERRORS[code].status if code in ERRORS and title != 'Events' else ''}</td>"
            f"<td>{escape(ERRORS[code].title if code in ERRORS else EVENT_CODES[code])}</td></tr>"
            for code in codes
        )
        return (
            f"<h2>{title}</h2><p>{said}</p><table><thead><tr><th>Code</th><th>{'' if title == 'Events' else 'HTTP'}</th>"
            f"<th>Meaning</th></tr></thead><tbody>{rows}</tbody></table>"
        )

    main = (
        '<article class="prose"><h1>Errors</h1><p>Every error has a <code>code</code> to branch on and links to its page here.</p>'
        + table("API", "Problem answers (RFC 9457, <code>application/problem+json</code>).", API_CODES)
        + table(
            "Gate",
            "Decisions: <code>/v1/check</code> tells them in a 200; the other surfaces answer with the status.",
            GATE_CODES,
        )
        + table("Events", "Told per event in the answer of <code>/v1/events</code>.", tuple(EVENT_CODES))
        + "</article>"
    )
    return page("Errors", main, description="Every error code of the Tollkeeper API")


def docs_router(make_document: Callable[[], Mapping[str, Any]], base: str) -> APIRouter:
    """Routes for the pages of one OpenAPI document, made when it is first asked for. `base` is the address that examples call."""
    router = APIRouter(route_class=StrictRoute, include_in_schema=False)

    @cache
    def text() -> bytes:
        return json.dumps(make_document(), ensure_ascii=False, separators=(",", ":")).encode()

    @cache
    def reference() -> str:
        return Reference(make_document(), base).html()

    @router.get("/openapi.json")
    def get_openapi_json() -> Response:
        return Response(text(), media_type="application/json", headers={"access-control-allow-origin": "*"})

    @router.get("/")  # where a browser begins, until the pricing page stands there
    @router.get("/docs")
    async def get_docs() -> Response:
        return RedirectResponse("/docs/api", 307)

    @router.get("/docs/api")
    def get_reference() -> Response:
        return HTMLResponse(reference(), headers=HEADERS)

    @router.get("/docs/errors")
    def get_errors() -> Response:
        return HTMLResponse(error_index(), headers=HEADERS)

    @router.get("/docs/errors/{code}")
    def get_error(code: str) -> Response:
        return HTMLResponse(error_page(code), headers=HEADERS)

    @router.get("/docs/static/{name}")
    def get_static(name: str) -> Response:
        if name not in FILES:
            raise NotFound(f"There is no file {name[:60]!r} here.")
        return FileResponse(
            STATIC / name, media_type=FILES[name], headers={"cache-control": "public, max-age=3600", **HEADERS}
        )

    return router
