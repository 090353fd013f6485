"""The link in a refusal that leads to the plans on offer: it names a customer, is signed, and holds for two days.

Whoever has it can look at the plans and buy one for that customer; it shows nothing of what the customer used or paid.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import NotFound

DAY_S: Final = 86_400
_DAYS: Final = 2
_MAC_BYTES: Final = 16
_MAX: Final = 200
_FLAGS: Final[dict[Environment, str]] = {"live": "l", "test": "t"}
_NAMES: Final[dict[str, Environment]] = {flag: name for name, flag in _FLAGS.items()}


class LinkInvalid(NotFound):
    """This link has run out, or was not copied as a whole. Make the call that was refused again: its answer has a new one."""


class BuyLinks:
    """`secret` signs; `now_s` tells the time in seconds since 1970."""

    def __init__(self, secret: bytes, now_s: Callable[[], int]) -> None:
        self._secret = secret
        self._now_s = now_s
        self._made = lru_cache(maxsize=4096)(self._make)

    def token(self, environment: Environment, customer: str, now_s: int) -> str:
        return self._made(environment, customer, now_s // DAY_S)

    def read(self, token: str) -> tuple[Environment, str]:
        """Environment and customer. Raises LinkInvalid."""
        try:
            sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4)) if len(token) <= _MAX else b""
        except (NotBase64, ValueError):
            sealed = b""
        mac, text = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(text)):
            raise LinkInvalid
        flag, day, customer = text.decode().split(" ", 2)
        if not 0 <= self._now_s() // DAY_S - int(day) < _DAYS:
            raise LinkInvalid
        return _NAMES[flag], customer

    def _make(self, environment: Environment, customer: str, day: int) -> str:
        text = f"{_FLAGS[environment]} {day} {customer}".encode()
        return urlsafe_b64encode(self._mac(text) + text).rstrip(b"=").decode()

    def _mac(self, text: bytes) -> bytes:
        return hmac.digest(self._secret, b"tollkeeper buy\0" + text, "sha256")[:_MAC_BYTES]
