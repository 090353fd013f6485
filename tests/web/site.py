"""One Tollkeeper behind its HTTP surface, called without a socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from spine import Spine
from tollkeeper.core.errors import StorageUnavailable
from tollkeeper.core.ids import new_id
from tollkeeper.web.app import Services, create_app
from tollkeeper.web.auth import Authenticator

PUBLIC_URL = "https://toll.example"
ADMIN_TOKEN = "admin-token-of-the-tests"
PROBLEM = "application/problem+json"


class Site:
    """`storage_fails` and `draining` are switches of the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spine = Spine(folder)
        self.toll = toll = self.spine.app
        self.admin_token = ADMIN_TOKEN
        self.storage_fails = False
        self.draining = False
        self.reads = 0
        clock = toll.clock

        def key_by_digest(digest: bytes) -> Any:
            self.reads += 1
            return toll.key_by_digest(digest)

        self.authenticator = Authenticator(ADMIN_TOKEN, key_by_digest, clock.now_us, toll.gate.may_be_key)
        toll.listen(self.authenticator.drop)
        services = Services(
            toll.catalog,
            toll.customers,
            toll.keys,
            toll.usage,
            toll.rating,
            toll.reservations,
            toll.shadow,
            toll.corrections,
            self.authenticator,
            self._storage_state,
            lambda: self.draining,
        )
        self.app = create_app(
            services,
            public_url=PUBLIC_URL,
            new_request_id=lambda: new_id("req", clock.now_us() // 1000, clock.random_bits(80)),
        )

    def _storage_state(self) -> None:
        if self.storage_fails:
            raise StorageUnavailable("The disk is full.")

    def client(self, token: str | None, peer: str = "203.0.113.9") -> httpx.AsyncClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        transport = httpx.ASGITransport(self.app, client=(peer, 40000))
        return httpx.AsyncClient(transport=transport, base_url="http://toll", headers=headers)

    def server_key(self, *scopes: str, **fields: Any) -> str:
        return self.toll.keys.create(kind="server", scopes=scopes, **fields).key
