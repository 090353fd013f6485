"""Keys that were made elsewhere and imported: they have no checksum, so junk is told from them by what is known of their digests."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from tollkeeper.core.keys import looks_like_key

KEPT = 8


class ForeignKeys:
    """The first 8 bytes of every imported key's digest, in memory: about 75 bytes a key.

    Revoked and expired ones stay: what they are is the snapshot's to say. Another text is taken for a key once in 2⁶⁴ / keys times,
    and then costs one read. Safe in any thread.
    """

    def __init__(self, digests: Iterable[bytes] = ()) -> None:
        self._known = {digest[:KEPT] for digest in digests}

    def add(self, digests: Iterable[bytes]) -> None:
        """Before the commit that stores them: a digest without a key costs one read, a key without its digest is refused."""
        self._known.update(digest[:KEPT] for digest in digests)

    def has(self, raw: str) -> bool:
        """Whether this may be an imported key. No I/O."""
        if not self._known:
            return False
        try:
            return sha256(raw.encode()).digest()[:KEPT] in self._known
        except UnicodeEncodeError:
            return False

    def may_be_key(self, raw: str) -> bool:
        """False is junk, refused with no I/O: neither of our format with a right checksum, nor imported."""
        return looks_like_key(raw) is not None or self.has(raw)
