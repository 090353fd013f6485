"""What a gateway asks `/authz`: how its own configuration says what a call costs, and how it tells of the call. No I/O.

The gateway's configuration stands in the query of the address it asks (`/authz?profile=nginx&meter=api_calls`), or in its path for
Envoy, which appends the call's own path and query (`/authz/envoy/api_calls` + `/search?q=x`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from urllib.parse import parse_qs

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.web.key_places import KeyPlaces, Pairs, read_keys, take_from_query
from tollkeeper.web.rules import Rules, read_rules

Profile = Literal["plain", "nginx", "caddy", "traefik", "envoy"]
PROFILES: Final = ("plain", "nginx", "caddy", "traefik", "envoy")
ENVOY: Final = b"/authz/envoy/"
LONGEST_CACHE: Final = 60
"""Seconds for which a gateway may answer without asking."""
_KNOWN: Final = ("profile", "meter", "cost", "free", "price", "settle", "cache")


@dataclass(frozen=True, slots=True)
class AuthzOptions:
    """`settled`: calls are reserved, and settled from the gateway's access log; else every attempt is recorded at once.

    `cache`: for at most so many seconds the gateway may answer from its cache what may be cached; 0: it asks each time.
    """

    profile: Profile
    rules: Rules
    settled: bool = False
    cache: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """The call a gateway asks about. `path` as it was sent. `cache_key`: what the gateway would know the same call by."""

    method: str
    path: bytes
    keys: frozenset[str]
    ip: str | None
    cache_key: bytes = b""

    def known_by_cache_key(self, rules: Rules) -> bool:
        """Whether no call with another key, or of another price, can have this cache key.

        It must hold the key that was judged, whole: whoever sends what it is made of then has that key. Where paths have prices of
        their own it must begin with method and path, which cannot hold a space.
        """
        if len(self.keys) != 1 or not all(key.encode("latin-1") in self.cache_key for key in self.keys):
            return False
        if not rules.by_path:
            return True
        begin = self.method.encode("latin-1") + b" " + self.path
        return self.cache_key.startswith(begin) and self.cache_key[len(begin) : len(begin) + 1] in (b" ", b"?")


def read_options(query: bytes) -> AuthzOptions:
    """Raises InvalidRequest; the one to read it is who configured the gateway."""
    try:
        given = parse_qs(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query), max_num_fields=100)
    except ValueError:
        raise InvalidRequest(
            "The query of /authz cannot be read; expected such as profile=nginx&meter=api_calls."
        ) from None
    if unknown := [name for name in given if name not in _KNOWN]:
        raise InvalidRequest(
            f"query.{ascii(unknown[0][:60])[1:-1]}: there is no such parameter; there are {', '.join(_KNOWN)}."
        )
    single = {name: _one(name, given) for name in ("profile", "meter", "cost", "settle", "cache")}
    profile = single["profile"] or "plain"
    if profile not in PROFILES or profile == "envoy":
        raise InvalidRequest(
            f"query.profile: {', '.join(PROFILES[:-1])} are known, found {profile[:40]!r}; Envoy asks /authz/envoy/METER."
        )
    if single["settle"] not in (None, "log"):
        raise InvalidRequest("query.settle: log is expected, or nothing.")
    rules = read_rules(single["meter"], single["cost"] or "1", given.get("free", ()), given.get("price", ()))
    settled = single["settle"] == "log"
    return AuthzOptions(cast("Profile", profile), rules, settled, _read_cache(single["cache"], profile, settled))


def _read_cache(text: str | None, profile: str, settled: bool) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 2 <= int(text) <= LONGEST_CACHE):
        raise InvalidRequest(f"query.cache: whole seconds from 2 to {LONGEST_CACHE} are expected, found {text[:40]!r}.")
    if profile != "nginx":
        raise InvalidRequest(
            "query.cache: only nginx keeps what it is answered; leave cache out, or say profile=nginx."
        )
    if not settled:
        raise InvalidRequest("query.cache: calls that are not asked about are counted from the log; add settle=log.")
    return int(text)


def read_envoy(path: bytes) -> tuple[AuthzOptions, bytes]:
    """The options, and the call's own path, of `/authz/envoy/METER[:COST]/path`. Raises InvalidRequest."""
    price, slash, rest = path[len(ENVOY) :].partition(b"/")
    meter, _, cost = price.decode("latin-1").partition(":")
    if not meter:
        raise InvalidRequest("Envoy's path_prefix is /authz/envoy/METER, such as /authz/envoy/api_calls.")
    return AuthzOptions("envoy", read_rules(meter, cost or "1")), slash + rest or b"/"


def _one(name: str, given: dict[str, list[str]]) -> str | None:
    values = given.get(name, [None])
    if len(values) > 1:
        raise InvalidRequest(f"query.{name}: it is given twice.")
    return values[0]


# Only what the gateway itself sets is believed; a field of the same purpose under another name may be the client's.
_METHOD: Final[dict[Profile, bytes]] = {"nginx": b"x-original-method"}
_TARGET: Final[dict[Profile, bytes]] = {"nginx": b"x-original-uri"}


def read_asked(scope: Any, options: AuthzOptions, own_path: bytes | None, places: KeyPlaces) -> Asked:
    """The call as the gateway tells it. `own_path`: as Envoy does, which asks with the call's own method and query.

    nginx by X-Original-Method, X-Original-URI and X-Real-IP, which its configuration sets; Caddy and Traefik by X-Forwarded-Method,
    X-Forwarded-Uri and X-Forwarded-For, which they set by themselves. Raises InvalidRequest.
    """
    headers: Pairs = scope["headers"]
    profile = options.profile
    if own_path is not None:
        method, path, query = scope["method"], own_path, scope["query_string"]
    else:
        told = _single(headers, _METHOD.get(profile, b"x-forwarded-method"))
        method = (told or scope["method"].encode()).decode("latin-1")
        target = _single(headers, name := _TARGET.get(profile, b"x-forwarded-uri")) or b""
        if not target.startswith(b"/"):
            if target or options.rules.by_path:
                raise InvalidRequest(f"The gateway does not tell the call's path; it belongs in {name.decode()}.")
            target = b"/"
        path, _, query = target.partition(b"?")
    keys = read_keys(headers, take_from_query(query, places.query)[1], places)
    cache_key = _single(headers, b"x-cache-key") or b"" if options.cache else b""
    return Asked(method, path, keys, _address(headers, profile), cache_key)


def _single(headers: Pairs, name: bytes) -> bytes | None:
    """Twice means that a client's own field was let through beside the gateway's. Raises InvalidRequest."""
    values = [value for found, value in headers if found == name]
    if len(values) > 1:
        raise InvalidRequest(f"{name.decode()} stands twice: the gateway must set it, and not add to it.")
    return values[0] if values else None


def _address(headers: Pairs, profile: Profile) -> str | None:
    """The client's address as the gateway saw it: X-Real-IP for nginx, else the last hop of X-Forwarded-For."""
    if profile == "nginx":
        told = _single(headers, b"x-real-ip")
    else:
        chain = [value for name, value in headers if name == b"x-forwarded-for"]
        told = chain[-1].rpartition(b",")[2] if chain else None
    text = None if told is None else told.strip().decode("latin-1")
    return text or None
