"""The head of a proxied request and of its answer: what is read from it, what is kept from the upstream, what is said to it. No I/O.

Fields after RFC 9110 (7.6.1 hop-by-hop, 7.8 upgrade) and RFC 9112 (6.1 to 6.3 framing).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from tollkeeper.core.errors import InvalidRequest
from tollkeeper.web.errors import MethodNotAllowed, NotSupported
from tollkeeper.web.identity import IDENTITY, replaced, spelled
from tollkeeper.web.key_places import KeyPlaces, Pairs, bearer, read_keys, take_from_query

_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
_REPLACED: Final = _HOP_BY_HOP | frozenset(b"host content-length expect forwarded x-real-ip".split())
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_FIELD_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LINK: Final = re.compile(rb"<([^<>]*)>")
_FIELD_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its keys. `target`: path and query as sent. `host`, `scheme`: as the client named us."""

    method: str
    target: str
    keys: frozenset[str]
    fields: list[tuple[str, str]]
    ip: str | None
    scheme: str
    host: str
    has_body: bool
    expects_continue: bool


def read_head(scope: Any, places: KeyPlaces, trusted: int = 0) -> Head:
    """The head, cleaned of what is not for the upstream. `trusted`: how many proxies in front of us are to be believed.

    Raises InvalidRequest, MethodNotAllowed and NotSupported for what can be understood in two ways or cannot be passed on.
    """
    method: str = scope["method"]
    if method in ("CONNECT", "TRACE"):
        raise MethodNotAllowed(f"{method} is not passed on.")
    if scope["http_version"] not in ("1.0", "1.1"):
        raise InvalidRequest("HTTP/1.1 is expected.")
    if not scope["raw_path"].startswith(b"/"):
        raise InvalidRequest("The request's target is no path; it begins with /.")
    headers: Pairs = scope["headers"]
    length, host, named, expects = _framing(scope, headers)
    query, in_query = take_from_query(scope["query_string"], places.query)
    keys = read_keys(headers, in_query, places)
    fields: list[tuple[str, str]] = []
    forwarded: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        spelling = spelled(name)
        if spelling in places.headers:
            continue
        if spelling.startswith(b"x-forwarded-"):
            if name == spelling:
                forwarded.setdefault(name, []).append(value)
        elif spelling in _REPLACED:
            if trusted and name in (b"forwarded", b"x-real-ip"):
                fields.append((name.decode(), _text(name, value)))
        elif spelling.startswith(IDENTITY) or spelling in named:
            continue
        elif name != b"authorization" or not places.bearer or bearer(value) not in keys:
            # a token that is no key of ours is perhaps the upstream's own
            fields.append((name.decode("latin-1"), _text(name, value)))
    if length is not None:
        fields.append(("content-length", length))
    fields = [(name, _without(keys, value)) for name, value in fields]
    peer = scope["client"][0] if scope.get("client") else None
    ip, scheme, shown_host = _forward(fields, forwarded, peer, scope["scheme"], host, trusted)
    target = (scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")
    has_body = length not in (None, "0") or any(name == b"transfer-encoding" for name, _ in headers)
    return Head(method, target, keys, fields, ip, scheme, shown_host, has_body, expects)


def _framing(scope: Any, headers: Pairs) -> tuple[str | None, str, frozenset[bytes], bool]:
    """Content-Length, Host, the fields named by Connection, whether 100 is awaited. Raises for shapes that smuggle requests."""
    lengths: list[bytes] = []
    encodings: list[bytes] = []
    hosts: list[bytes] = []
    named: list[bytes] = []
    expects = False
    for name, value in headers:
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            encodings.append(value)
        elif name == b"host":
            hosts.append(value)
        elif name == b"connection":
            named += [spelled(token.strip().lower()) for token in value.split(b",")]
        elif name == b"upgrade" and b"websocket" in value.lower():
            raise NotSupported("WebSockets are not passed on; use HTTP, or server-sent events for a stream.")
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise InvalidRequest("Expect: only 100-continue is known.")
            expects = True
    if len(lengths) > 1 or (lengths and encodings):
        raise InvalidRequest("The length of the body is told twice: send one Content-Length or Transfer-Encoding.")
    if lengths and not (lengths[0].isdigit() and len(lengths[0]) < 19):
        raise InvalidRequest("Content-Length: a whole number is expected.")
    if encodings and (scope["http_version"] == "1.0" or [e.strip().lower() for e in encodings] != [b"chunked"]):
        raise InvalidRequest("Transfer-Encoding: only chunked is known, and only in HTTP/1.1.")
    if len(hosts) != 1 and not (not hosts and scope["http_version"] != "1.1"):
        raise InvalidRequest("Host: it is expected once.")
    host = hosts[0] if hosts else b""
    if not _HOST.fullmatch(host):
        raise InvalidRequest("Host: a name or address, and a port after a colon, is expected.")
    return (lengths[0].decode() if lengths else None), host.decode(), frozenset(named), expects


def _text(name: bytes, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The header {name.decode('latin-1')[:60]} is not UTF-8 text.") from None


def _without(keys: Iterable[str], value: str) -> str:
    """A browser's Referer repeats the address it came from, and with it the key."""
    for key in keys:
        if key.startswith("tk_") and key in value:
            value = value.replace(key, "")
    return value


def _forward(
    fields: list[tuple[str, str]],
    sent: dict[bytes, list[bytes]],
    peer: str | None,
    scheme: str,
    host: str,
    trusted: int,
) -> tuple[str | None, str, str]:
    """Add X-Forwarded-For, -Proto and -Host; give the client's address, scheme and host. Only `trusted` proxies are believed."""
    chain = [] if peer is None else [peer]
    if trusted:
        before = b",".join(sent.get(b"x-forwarded-for", ())).decode("latin-1")
        chain = [hop.strip() for hop in before.split(",") if hop.strip()][-trusted:] + chain
        told = _last(sent.get(b"x-forwarded-proto"))
        scheme = told if told in ("http", "https") else scheme
        named = _last(sent.get(b"x-forwarded-host"))
        host = named if named and _HOST.fullmatch(named.encode("latin-1")) else host
        for name, values in sent.items():
            if name not in (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"):
                fields += [(name.decode("latin-1"), _text(name, value)) for value in values]
    if chain:
        fields.append(("x-forwarded-for", ", ".join(hop.encode("latin-1").decode("utf-8", "replace") for hop in chain)))
    fields.append(("x-forwarded-proto", scheme))
    if host:
        fields.append(("x-forwarded-host", host))
    return (_address(chain[0]) if chain else None), scheme, host


def _last(values: Iterable[bytes] | None) -> str | None:
    joined = b",".join(values or ()).decode("latin-1")
    return joined.rpartition(",")[2].strip().lower() or None


def _address(hop: str) -> str | None:
    """The address of a hop, which may carry a port; None when it is none."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ip_address(hop))
    except ValueError:
        return None


def answer_head(
    status: int, raw: Pairs, ours: Sequence[tuple[bytes, bytes]], upstream: str, public: str
) -> list[tuple[bytes, bytes]]:
    """The fields of an upstream's answer that go to the client, and ours. Raises ValueError when they cannot be passed on.

    A Location or Link that begins with `upstream` (scheme and authority) is given the client's own view, `public`.
    """
    names = [(name, spelled(name.lower())) for name, _ in raw]
    dropped = set(_HOP_BY_HOP)
    limited = any(name == b"ratelimit" for name, _ in ours)
    lengths = 0
    for (_, spelling), (_, value) in zip(names, raw, strict=True):
        if spelling == b"connection":
            dropped |= {spelled(token.strip().lower()) for token in value.split(b",")}
        elif spelling == b"transfer-encoding":
            dropped.add(b"content-length")
        elif spelling == b"content-length":
            lengths += 1
            if not value.isdigit():
                raise ValueError("its Content-Length is no number")
    if status in (204, 304):
        dropped.add(b"content-length")
    elif lengths > 1 and b"content-length" not in dropped:
        raise ValueError("it tells its Content-Length twice")
    out: list[tuple[bytes, bytes]] = []
    for (name, spelling), (_, value) in zip(names, raw, strict=True):
        if spelling in dropped or replaced(spelling, limited):
            continue
        if not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"its header {name[:60]!r} holds control characters")
        if spelling in (b"location", b"content-location"):
            value = _rebase(value, upstream.encode(), public.encode())
        elif spelling == b"link":
            value = _LINK.sub(lambda found: b"<" + _rebase(found[1], upstream.encode(), public.encode()) + b">", value)
        out.append((name, value))
    return out + list(ours)


def _rebase(value: bytes, upstream: bytes, public: bytes) -> bytes:
    rest = value[len(upstream) :]
    if public and value[: len(upstream)].lower() == upstream.lower() and rest[:1] in (b"", b"/", b"?", b"#"):
        return public + rest
    return value
