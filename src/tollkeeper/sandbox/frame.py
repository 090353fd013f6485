"""The frame of the pages for people: one style sheet inside the page, no script, nothing from another place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from tollkeeper.sandbox.errors import ApiError

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

Page = Callable[["World", Request, dict[str, str]], Response]
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"

STYLE = resources.files(__package__).joinpath("pages.css").read_text()


def html(title: str, body: str, status: int = 200, style: str = STYLE) -> HTMLResponse:
    """A whole page. `body` is HTML already."""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="robots" content="noindex"><link rel="icon" href="data:,"><title>{escape(title)}</title><style>{style}</style></head>'
        f"<body>{body}</body></html>"
    )
    return HTMLResponse(
        text,
        status,
        {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
    )


def message(title: str, text: str, *, status: int = 200, link: tuple[str, str] | None = None) -> HTMLResponse:
    """A page that says one thing. `link` is an address and its words."""
    more = f'<p><a class="quiet" href="{escape(link[0])}">{escape(link[1])}</a></p>' if link else ""
    body = (
        '<main class="column narrow"><div class="card"><p><span class="badge">Sandbox</span></p>'
        f"<h1>{escape(title)}</h1><p>{escape(text)}</p>{more}</div></main>"
    )
    return html(title, body, status)


def note(text: str, kind: str = "bad") -> str:
    role = ' role="alert"' if kind == "bad" else ""
    return f'<div class="note {kind}"{role}>{escape(text)}</div>' if text else ""


def field(name: str, label: str, value: str = "", **attributes: Any) -> str:
    """A labelled input; attributes of None are left out, those of True stand alone, `_` is read as `-`."""
    given = ""
    for key, item in attributes.items():
        if item is not None and item is not False:
            key = key.replace("_", "-")
            given += f" {key}" if item is True else f' {key}="{escape(str(item))}"'
    return (
        f'<div class="field"><label for="{name}">{escape(label)}</label>'
        f'<input id="{name}" name="{name}" value="{escape(value)}"{given}></div>'
    )


def select(name: str, label: str, options: Mapping[str, str], chosen: str) -> str:
    """A labelled choice of one: {value: words}."""
    inner = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(words)}</option>'
        for value, words in options.items()
    )
    return f'<div class="field"><label for="{name}">{escape(label)}</label><select id="{name}" name="{name}">{inner}</select></div>'


def go(address: str) -> RedirectResponse:
    """Follow with a GET."""
    return RedirectResponse(address, 303)


def page_route(world: World, path: str, function: Page) -> Route:
    """A route of a page, for GET and POST; `function` gets the fields of the form, empty for GET."""

    async def endpoint(request: Request) -> Response:
        fields = {}
        if request.method == "POST":
            body = (await request.body()).decode("utf-8", "replace")
            fields = {name: value.strip() for name, value in parse_qsl(body, keep_blank_values=True)}
        try:
            return function(world, request, fields)
        except ApiError as fault:
            return message("That did not work", fault.message, status=fault.status)

    return Route(path, endpoint, methods=["GET", "POST"])
