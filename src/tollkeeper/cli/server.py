"""The way from a command to the server: settings, a client, and the exchange shown on request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tollkeeper.cli import terminal
from tollkeeper.settings import Settings

if TYPE_CHECKING:
    from tollkeeper.client import Exchange, Tollkeeper

_SECRET = re.compile(r"\btk_(live|test|admin)_[A-Za-z0-9_-]{8,}")
_STRIPE = re.compile(r"\b([sr]k_(?:live|test)_|whsec_)[A-Za-z0-9+/=_-]{8,}")
_KEY = re.compile(r'("key":\s*")[^"]*?(?=[^"]{0,4}")')  # of any format, where the API has keys
_SHOWN_BYTES = 2_000


def load_settings(overlay: Mapping[str, str | None] | None = None) -> Settings:
    """The settings; `overlay` stands above the environment. Unknown names are warned about, on stderr."""
    import os

    given = {name: value for name, value in (overlay or {}).items() if value is not None}
    settings = Settings.load({**os.environ, **given})
    for sentence in settings.warnings:
        terminal.warn(sentence)
    return settings


@contextmanager
def connect(verbose: bool = False, timeout: float = 10.0) -> Iterator[Tollkeeper]:
    """A client of the server at TOLLKEEPER_URL with the admin token. `timeout`: seconds between bytes."""
    from tollkeeper.client import Tollkeeper

    settings = load_settings()
    token = settings.admin_token

    def watch(exchange: Exchange) -> None:
        show_exchange(exchange, token)

    with Tollkeeper(settings.url, token, timeout=timeout, watch=watch if verbose else None) as server:
        yield server


def pages(
    server: Tollkeeper, path: str, most: int, query: Mapping[str, str | None] | None = None
) -> tuple[list[Any], bool]:
    """The first `most` entries of a list, and whether there are more."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        step = min(most - len(found), 100)
        page = server.request("GET", path, query={**(query or {}), "cursor": cursor, "limit": step})
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None or len(found) >= most:
            return found, cursor is not None


def segment(text: str) -> str:
    """One segment of a path: an id may hold a slash by mistake, never by intent."""
    return quote(text, safe="")


def mask(text: str, token: str | None = None) -> str:
    """The text with every secret of Tollkeeper's cut to its kind and last four characters."""
    if token:
        text = text.replace(token, "****")
    text = _SECRET.sub(lambda found: f"tk_{found[1]}_****{found[0][-4:]}", text)
    text = _STRIPE.sub(lambda found: f"{found[1]}****{found[0][-4:]}", text)
    return _KEY.sub(lambda found: found[0] if "****" in found[0] else f"{found[1]}****", text)


def show_exchange(exchange: Exchange, token: str | None) -> None:
    """One request and its answer on stderr, as `curl -v` shows them."""
    lines = [f"> {exchange.method} {exchange.url}"]
    lines += [f"> {name}: {value}" for name, value in exchange.request_headers.items()]
    lines += [f"> {line}" for line in _readable(exchange.request_body or b"")]
    lines += [f"< {exchange.status} in {exchange.seconds * 1000:.0f} ms"]
    lines += [f"< {name}: {value}" for name, value in exchange.headers.items()]
    lines += [f"< {line}" for line in _readable(exchange.body)]
    for line in lines:
        terminal.note(mask(line, token))


def _readable(body: bytes) -> list[str]:
    """A body's text, cut at 2,000 bytes."""
    cut = f" … {len(body):,} bytes in all" if len(body) > _SHOWN_BYTES else ""
    return (body[:_SHOWN_BYTES].decode(errors="replace") + cut).splitlines()
