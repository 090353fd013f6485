"""The API over a whole Tollkeeper on fresh files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from web.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.toll.close()


@pytest.fixture
async def api(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the admin token."""
    async with site.client(site.admin_token) as client:
        yield client


@pytest.fixture
async def anyone(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    async with site.client(None) as client:
        yield client
