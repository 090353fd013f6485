"""Liveness, readiness, health: open to all, true to the state."""

from __future__ import annotations

import httpx

from tollkeeper import __version__
from web.site import Site
from web.test_problems import assert_problem


async def test_a_sound_server_is_well_ready_and_alive(anyone: httpx.AsyncClient) -> None:
    health = await anyone.get("/health")
    assert (health.status_code, health.json()) == (200, {"status": "ok", "version": __version__, "storage": "ok"})
    for path in ("/livez", "/readyz"):
        answer = await anyone.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_failing_storage_is_told_and_takes_no_requests(site: Site, anyone: httpx.AsyncClient) -> None:
    site.storage_fails = True
    health = await anyone.get("/health")
    assert (health.status_code, health.json()["status"], health.json()["storage"]) == (503, "failing", "failing")
    assert_problem(await anyone.get("/readyz"), 503, "storage_unavailable")
    assert (await anyone.get("/livez")).status_code == 200


async def test_a_draining_server_takes_no_requests_and_lives(site: Site, anyone: httpx.AsyncClient) -> None:
    site.draining = True
    health = await anyone.get("/health")
    assert (health.status_code, health.json()["status"], health.json()["storage"]) == (503, "draining", "ok")
    answer = await anyone.get("/readyz")
    assert_problem(answer, 503, "not_ready")
    assert answer.headers["retry-after"] == "1"
    assert (await anyone.get("/livez")).status_code == 200
