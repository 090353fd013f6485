"""Who a call of an access log came from, and the words for it that may be shown: never a secret, never a control character."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Literal, get_args
from urllib.parse import unquote

from tollkeeper.core.accesslog import NOBODY, Hit, target_of
from tollkeeper.core.accesslog_json import HIDDEN

By = Literal["key", "user", "network"]
BYS: Final[tuple[By, ...]] = get_args(By)
SHOWN: Final = 48  # characters of a label
MAX_TEXT: Final = 200  # characters of what tells callers apart; of longer ones a digest stands for the rest
LONG_KEY: Final = 16  # of shorter keys nothing is shown
SCHEMES: Final = ("bearer", "token", "apikey", "api-key", "key")
_BRAND: Final = re.compile(r"[A-Za-z0-9]{1,8}[_-](?:(?:live|test|prod|dev|sandbox)[_-])?")

Name = Callable[[Hit], str]


def key_reader(parameters: Sequence[str]) -> Name:
    """What finds a call's key: in a field of the log, or else in one of these query parameters. "" is none."""
    names = "|".join(re.escape(name) for name in parameters)
    pattern = re.compile(rf"[?&](?:{names})=([^&#\s]+)") if names else None

    def key(hit: Hit) -> str:
        if hit.key and hit.key != HIDDEN:
            return credentials(hit.key)[0]
        found = pattern.search(target_of(hit.request)) if pattern else None
        return unquote(found[1]) if found else ""

    return key


def credentials(value: str) -> tuple[str, str]:
    """(key, user) of an `Authorization` or a header with a key; "" what it does not tell.

    Basic with a name alone is a key, with a name and a password a user. Schemes that sign each call anew tell neither.
    """
    scheme, _, rest = value.strip().partition(" ")
    rest = rest.strip()
    if not rest:
        return scheme, ""
    if scheme.lower() in SCHEMES:
        return rest, ""
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(rest).decode("utf-8", "replace").partition(":")
    except ValueError:
        return "", ""
    return ("", name) if password else (name, "")


def reader(by: By, parameters: Sequence[str]) -> Name:
    """What tells a call's caller: its key, its user, or its network. "" is nobody."""
    if by == "key":
        return key_reader(parameters)
    if by == "user":
        return lambda hit: hit.user if hit.user not in NOBODY else credentials(hit.key)[1] if hit.key else ""
    return lambda hit: network(hit.address)


def network(address: str) -> str:
    """The /24 of an IPv4 address, the /64 of an IPv6 one; the text itself when it is a host's name. "" is nobody."""
    return _network(address[:MAX_TEXT])


@lru_cache(maxsize=65_536)
def _network(address: str) -> str:
    if address in NOBODY:
        return ""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(ip_network((found, 24 if found.version == 4 else 64), strict=False))


def identity(by: By, name: str, salt: bytes) -> bytes | str:
    """What one caller is kept under, of bounded size. Of a key it is a digest, so that no secret stays in memory."""
    if by == "key":
        return digest(name, salt)
    return name if len(name) <= MAX_TEXT else name[:MAX_TEXT] + digest(name, salt).hex()


def digest(name: str, salt: bytes) -> bytes:
    """128 bits that tell names apart; without the salt, which is never kept, nobody can try out short ones."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16, key=salt).digest()


def label(by: By, name: str, salt: bytes) -> str:
    """How a caller is shown. A key of 16 characters or more: its beginning and its last 4; a shorter one: 8 digits of its digest."""
    if by != "key":
        return shown(name)
    if len(name) < LONG_KEY:
        return f"key #{digest(name, salt).hex()[:8]}"
    brand = _BRAND.match(name)
    beginning = brand[0] if brand and len(name) - brand.end() >= LONG_KEY else name[:4]
    return shown(f"{beginning}…{name[-4:]}")


def shown(text: str, most: int = SHOWN) -> str:
    """At most `most` characters; what does not print (escapes, bidirectional marks) is replaced."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return cut if cut.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in cut)
