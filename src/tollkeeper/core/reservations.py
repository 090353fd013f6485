"""A reservation: quota taken before the size of the work is known. Its token is signed and says all that a commit needs.

Token: `rsv_` and base64url of 16 bytes of HMAC-SHA256 (RFC 2104, truncated) followed by a JSON array. It is no secret, but cannot be made
up or changed: who holds the signing secret can. The usage event's id is the reservation's, so a second commit is a duplicate.

A pass is the same for any number of calls: what a gateway may answer from its cache. It begins with `pass_`, is signed under another label,
and each call by it has an id of its own, which the gateway gave it.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass
from typing import Final

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.ids import ulid_of

PREFIX: Final = "rsv_"
MANY_PREFIX: Final = "pass_"
HOLD_SECONDS: Final = 3600
"""After so long without a commit or a release, what was held is free again. A commit counts all the same."""

_MAC_BYTES: Final = 16
_VERSION: Final = 1
_LABELS: Final = {PREFIX: b"tollkeeper reservation\0", MANY_PREFIX: b"tollkeeper pass\0"}
_CALL_BITS: Final = (1 << 80) - 1
_MAX_TOKEN: Final = 2048


@dataclass(frozen=True, slots=True)
class Reservation:
    """`id`: 128 bits, a ULID that says when it was admitted. `amount` in billionths. `value_property` None: the meter counts events.

    `many`: a pass; `call` makes of it what one call is counted by.
    """

    id: int
    environment: Environment
    customer: str
    key_id: str
    meter: str
    event_type: str
    value_property: str | None
    amount: int
    many: bool = False

    @property
    def event_id(self) -> str:
        return ulid_of(self.id)

    @property
    def at(self) -> int:
        """Microseconds since 1970 of the admission."""
        return (self.id >> 80) * 1000

    def token(self, secret: bytes) -> str:
        fields = [_VERSION, self.id, self.environment, self.customer, self.key_id, self.meter]
        payload = json.dumps(
            [*fields, self.event_type, self.value_property, self.amount], separators=(",", ":")
        ).encode()
        prefix = MANY_PREFIX if self.many else PREFIX
        return prefix + urlsafe_b64encode(_mac(prefix, payload, secret) + payload).rstrip(b"=").decode()

    def call(self, id: str) -> Reservation:
        """One call by this pass. `id`: 32 hexadecimal digits, random. The event keeps the pass's instant and the last 80 bits of it:
        two calls would have to share both to be taken for one.
        """
        return Reservation(
            self.id & ~_CALL_BITS | int(id, 16) & _CALL_BITS,
            self.environment,
            self.customer,
            self.key_id,
            self.meter,
            self.event_type,
            self.value_property,
            self.amount,
            True,
        )


def read_token(token: str, secret: bytes) -> Reservation:
    """Raises InvalidRequest for anything that was not signed with `secret`."""
    prefix = MANY_PREFIX if token.startswith(MANY_PREFIX) else PREFIX
    if token.startswith(prefix) and len(token) <= _MAX_TOKEN and token.isascii():
        text = token.removeprefix(prefix)
        try:
            sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except NotBase64:
            sealed = b""
        payload = sealed[_MAC_BYTES:]
        # encoded again it must be the same text, or one reservation would have several tokens
        if (
            hmac.compare_digest(sealed[:_MAC_BYTES], _mac(prefix, payload, secret))
            and urlsafe_b64encode(sealed).rstrip(b"=").decode() == text
        ):
            version, *fields = json.loads(payload)
            if version == _VERSION:
                return Reservation(*fields, *([True] if prefix == MANY_PREFIX else []))
    raise InvalidRequest("This is no reservation of this installation; send the token as `reservation` gave it.")


def _mac(prefix: str, payload: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, _LABELS[prefix] + payload, "sha256")[:_MAC_BYTES]
