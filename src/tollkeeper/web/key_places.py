"""Where a key may stand in a request, and which keys stand there. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from tollkeeper.core.errors import InvalidRequest

Pairs = Sequence[tuple[bytes, bytes]]

_UNPRINTED: Final = re.compile(rb"[^\x21-\x7e]")
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class KeyPlaces:
    """Where a key may stand: `Authorization: Bearer`, header fields (lower case), parameters of the query."""

    bearer: bool = True
    headers: frozenset[bytes] = frozenset({b"x-api-key"})
    query: frozenset[bytes] = frozenset({b"api_key"})

    def __str__(self) -> str:
        places = ["`Authorization: Bearer KEY`"] if self.bearer else []
        places += [f"`{name.decode()}: KEY`" for name in sorted(self.headers)]
        places += [f"`?{name.decode()}=KEY`" for name in sorted(self.query)]
        return " or ".join(places)


def read_places(headers: Iterable[str], query: Iterable[str]) -> KeyPlaces:
    """Names of headers (Authorization stands for its Bearer token) and of query parameters. Raises InvalidRequest."""
    headers, query = [name.lower() for name in headers], list(query)
    for name in headers:
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"key header: letters, digits and hyphens are expected, found {name[:80]!r}.")
    for name in query:
        if not re.fullmatch(r"[A-Za-z0-9_.~-]{1,64}", name):
            raise InvalidRequest(f"key parameter: letters, digits and - _ . ~ are expected, found {name[:80]!r}.")
    if not headers and not query:
        raise InvalidRequest("A key must stand somewhere: name a header or a parameter.")
    return KeyPlaces(
        "authorization" in headers,
        frozenset(name.encode() for name in headers if name != "authorization"),
        frozenset(name.encode() for name in query),
    )


def read_keys(headers: Pairs, in_query: Iterable[str], places: KeyPlaces) -> frozenset[str]:
    """The keys that a request carries; more than one is to be refused. `in_query`: as `take_from_query` gave them.

    A bearer token that is no key of ours is taken for one only where no other key stands: it may be the application's own.
    """
    keys = set(in_query)
    others: set[str] = set()
    for name, value in headers:
        if name in places.headers:
            if value:
                keys.add(value.decode("latin-1"))
        elif places.bearer and name == b"authorization" and (token := bearer(value)) is not None:
            (keys if token.startswith("tk_") else others).add(token)
    return frozenset(keys or others)


def bearer(value: bytes) -> str | None:
    """The token of an Authorization field of the scheme Bearer."""
    scheme, _, token = value.partition(b" ")
    token = token.strip()
    return token.decode("latin-1") if scheme.lower() == b"bearer" and token else None


def take_from_query(query: bytes, names: frozenset[bytes]) -> tuple[bytes, list[str]]:
    """The query without the parameters named, byte for byte, and their values."""
    query = _UNPRINTED.sub(lambda found: b"%%%02X" % found[0][0], query)
    if not query or not names:
        return query, []
    kept, taken = [], []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote_to_bytes(name) in names:
            if value:
                taken.append(unquote_to_bytes(value.replace(b"+", b" ")).decode("latin-1"))
        else:
            kept.append(part)
    return b"&".join(kept), taken
