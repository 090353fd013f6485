"""Seeded schedules of the whole core: thousands of them, each the same every time."""

from __future__ import annotations

import os

import pytest

from tollkeeper.services import corrections

from .simulation import QUOTA, World

SOAK = bool(os.environ.get("TOLLKEEPER_SOAK"))
BLOCKS = 40 if SOAK else 8
SEEDS = 500 if SOAK else 150


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "BATCH", 1)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_schedule_keeps_the_invariants(block: int) -> None:
    names = ("faults", "crashes", "conflicts", "duplicates", "refused", "acknowledged")
    seen = dict.fromkeys((*names, "kept", "values", "grouped", "overflowed", "corrected", "resumed", "twice"), 0)
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        world = World(seed)
        try:
            for number in range(60):
                world.step()
                if number % 20 == 19:
                    world.hold()
            world.finish()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        world.db.close()
        for name in seen:
            value = getattr(world, name)
            seen[name] += len(value) if isinstance(value, dict) else value
    # a schedule that meets nothing proves nothing
    rare = ("resumed", "twice")
    assert all(count > SEEDS // (15 if name in rare else 4) for name, count in seen.items()), repr(seen)


def test_a_hard_quota_is_never_passed_by_checks_alone() -> None:
    for seed in range(200 if not SOAK else 5000):
        world = World(seed)
        world.events = world.settle = world.check  # type: ignore[method-assign]
        world.correct_some = lambda: None  # type: ignore[method-assign]
        world.move = lambda: None  # type: ignore[method-assign]
        for _ in range(80):
            world.step()
        world.finish()
        for environment, customer in world.customers:
            used = sum(
                what[2]
                for where, what in world.acknowledged.items()
                if (where[0], what[0], what[1]) == (environment, customer, "call")
            )
            assert used <= QUOTA, seed
        world.db.close()
