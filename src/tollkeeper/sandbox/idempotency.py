"""Answers kept under their Idempotency-Key (https://docs.stripe.com/api/idempotent_requests): 24 hours by the sandbox's
clock, 30 days for /v2."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tollkeeper.sandbox.errors import ApiError
from tollkeeper.sandbox.store import Store

LONGEST = 255
KEPT_SECONDS = {1: 86_400, 2: 30 * 86_400}
_TABLE = """
CREATE TABLE IF NOT EXISTS idempotency (
  key BLOB PRIMARY KEY, made REAL NOT NULL, operation TEXT NOT NULL, params BLOB NOT NULL, status INTEGER NOT NULL,
  request_id TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID
"""


class Kept:
    """The answers kept, and the keys whose first call is not yet answered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: set[bytes] = set()
        store.database.execute(_TABLE)

    @staticmethod
    def digest(account: str, key: str) -> bytes:
        if len(key) > LONGEST:
            raise ApiError(
                400,
                f"Idempotency-Key must be at most {LONGEST} characters long.",
                type="idempotency_error",
                replayable=False,
            )
        return hashlib.blake2b(f"{account}\n{key}".encode(), digest_size=16).digest()

    @staticmethod
    def of_params(params: Any) -> bytes:
        text = json.dumps(params, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    def begin(
        self, digest: bytes, key: str, path: str, params: bytes, now: float, version: int
    ) -> tuple[int, str, str] | None:
        """The kept status, request id and body; None when the call is the first, which `keep` or `drop` ends.

        Raises ApiError: 409 while the first call runs, 400 when the key belongs to another path or other parameters.
        """
        if digest in self._running:
            raise ApiError(
                409,
                "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
                "twice, and the other request is still going through): "
                f"{key}. Please try again later.",
                type="idempotency_error",
                code="idempotency_key_in_use",
                replayable=False,
            )
        row = self._store.database.execute(
            "SELECT made, operation, params, status, request_id, body FROM idempotency WHERE key = ?", (digest,)
        ).fetchone()
        if row is not None and row[0] > now - KEPT_SECONDS[version]:
            if row[1] != path:
                raise ApiError(
                    400,
                    f"Keys for idempotent requests can only be used for the same endpoint they were first used for ('{path}' vs "
                    f"'{row[1]}'). Try using a key other than '{key}' if you meant to execute a different request.",
                    type="idempotency_error",
                    replayable=False,
                )
            if row[2] != params:
                raise ApiError(
                    400,
                    "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using "
                    f"a key other than '{key}' if you meant to execute a different request.",
                    type="idempotency_error",
                    replayable=False,
                )
            return row[3], row[4], row[5]
        self._running.add(digest)
        return None

    def keep(
        self, digest: bytes, path: str, params: bytes, now: float, status: int, request_id: str, body: str
    ) -> None:
        self._running.discard(digest)
        self._store.write(
            "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?)",
            (digest, now, path, params, status, request_id, body),
        )

    def drop(self, digest: bytes) -> None:
        """The call kept nothing: the key is free again."""
        self._running.discard(digest)

    def forget(self, now: float) -> None:
        """Remove what is too old to be asked for."""
        self._store.write(
            "DELETE FROM idempotency WHERE made < ? OR (made < ? AND operation LIKE '/v1/%')",
            (now - KEPT_SECONDS[2], now - KEPT_SECONDS[1]),
        )
