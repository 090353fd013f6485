"""What is told of a judged call: to the application who calls, to the client what is left. The same at every gate."""

from __future__ import annotations

from typing import Final

from tollkeeper.core.gate import NOBODY, Decision

IDENTITY: Final = b"x-tollkeeper-"
"""Every field that begins so is ours: what a client sends under it is dropped, however it is spelled."""

# Some servers turn every character that is no letter or digit into an underscore, so `X_Tollkeeper_Customer` would be read as ours.
_SPELLING: Final = bytes(ord(chr(i).lower()) if chr(i).isascii() and chr(i).isalnum() else ord("-") for i in range(256))
_OUR_ANSWER: Final = frozenset(b"x-request-id ratelimit ratelimit-policy".split())


def spelled(name: bytes) -> bytes:
    """A field's name as the most forgiving server reads it."""
    return name.translate(_SPELLING)


def identity_fields(decision: Decision | None, request_id: str) -> list[tuple[str, str]]:
    """Who calls, for the application. Always all of them, blank where unknown, so that none can be forged."""
    who = NOBODY if decision is None else decision.who
    return [
        ("x-tollkeeper-customer", who.customer or ""),
        ("x-tollkeeper-key", who.key_id or ""),
        ("x-tollkeeper-plan", who.plan or ""),
        ("x-tollkeeper-environment", who.environment or ""),
        ("x-tollkeeper-request-id", request_id),
    ]


def called(decision: Decision) -> list[tuple[bytes, bytes]]:
    """The fields that every answer after a decision carries."""
    pairs = [(name.encode(), value.encode()) for name, value in decision.headers()]
    pairs.append((b"x-request-id", decision.request_id.encode()))
    return pairs


def replaced(spelling: bytes, limited: bool) -> bool:
    """Whether a field of the application's answer gives way to ours. `limited`: ours tell of limits."""
    if spelling == b"x-request-id":
        return True
    return limited and (spelling in _OUR_ANSWER or spelling.startswith(b"x-ratelimit-"))
