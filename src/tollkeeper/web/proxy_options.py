"""What a proxy is told: where the upstream is, where keys stand, which paths cost what. Checked before anything starts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.web.key_places import KeyPlaces
from tollkeeper.web.proxy_size import Sized
from tollkeeper.web.rules import CountOn, Rules


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """`upstream`: scheme, authority and perhaps a path, without a slash at the end. `timeout`: seconds until the answer's head.

    `count_on` None: as the meter says. `trusted`: proxies in front of this one that are believed. `keep_host`: send the client's Host.
    `adaptive`: hold callers back while the upstream is overloaded, and never ask it more than so many requests at once; None: never.
    `sized`: what is reserved before a call, and where its true size is read from.
    """

    upstream: str
    rules: Rules
    places: KeyPlaces = field(default_factory=KeyPlaces)
    count_on: CountOn | None = None
    trusted: int = 0
    timeout: float = 60.0
    keep_host: bool = False
    adaptive: int | None = None
    sized: Sized | None = None

    @property
    def origin(self) -> str:
        """Scheme and authority of the upstream."""
        parts = urlsplit(self.upstream)
        return f"{parts.scheme}://{parts.netloc}"


def read_upstream(text: str) -> str:
    """Raises InvalidRequest."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises ValueError when it is no number
    except ValueError:
        parts = urlsplit("")
    fit = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment or parts.username)
    if not fit or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise InvalidRequest(f"upstream: an address such as http://127.0.0.1:8000 is expected, found {text[:80]!r}.")
    return text.rstrip("/")
