"""Pages made on the server: escaping, the frame around a page, Markdown, coloured JSON. Nothing is loaded from another site."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from typing import Any, Final

from markdown_it import MarkdownIt

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "referrer-policy": "same-origin",
}

_TOKEN: Final = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?)')


def page(title: str, main: str, *, side: str = "", description: str = "") -> str:
    """A whole page. `main` and `side` are HTML already."""
    nav = f'<nav class="side" aria-label="Contents">{side}</nav>' if side else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="description" content="{escape(description)}">
<title>{escape(title)} · Tollkeeper</title>
<link rel="icon" href="/docs/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/docs/static/docs.css">
<script src="/docs/static/docs.js" defer></script>
</head>
<body class="{"with-side" if side else "plain"}">
<a class="skip" href="#main">Skip to content</a>
<header class="top">
<a class="brand" href="/docs"><img src="/docs/static/icon.svg" width="22" height="22" alt="">Tollkeeper</a>
<nav aria-label="Documentation">
<a href="/docs/api">API reference</a><a href="/docs/errors">Errors</a><a href="/openapi.json">openapi.json</a>
</nav>
</header>
{nav}
<main id="main">{main}</main>
</body>
</html>
"""


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def markdown(text: str) -> str:
    """CommonMark with tables; raw HTML is shown, not run."""
    return str(_markdown().render(text))


def inline(text: str) -> str:
    """A line of Markdown without a paragraph around it."""
    return str(_markdown().renderInline(text))


def coloured(value: Any) -> str:
    """JSON with two spaces, in spans that the style sheet colours."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    parts: list[str] = []
    at = 0
    for found in _TOKEN.finditer(text):
        parts.append(escape(text[at : found.start()], quote=False))
        string, colon, word, number = found.groups()
        if string is not None:
            kind = "k" if colon else "s"
            parts.append(f'<span class="{kind}">{escape(string, quote=False)}</span>{colon or ""}')
        else:
            parts.append(f'<span class="{"w" if word else "n"}">{word or number}</span>')
        at = found.end()
    parts.append(escape(text[at:], quote=False))
    return "".join(parts)


def code_block(label: str, html: str) -> str:
    """A labelled block of code with a button that copies it. `html` is escaped already."""
    return (
        f'<figure class="code"><figcaption><span>{escape(label)}</span>'
        f'<button type="button" class="copy" hidden>Copy</button></figcaption><pre tabindex="0"><code>{html}</code></pre></figure>'
    )


def join(parts: Iterable[str]) -> str:
    return "".join(parts)
