"""Corners that the model and the simulation do not come to by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from spine import DAY, SECOND, Spine
from tollkeeper.core.events import UsageEvent
from tollkeeper.upkeep import backups, verify_database


@pytest.mark.parametrize("buys", [True, False])
def test_usage_from_before_the_first_purchase_is_counted_and_is_no_damage(
    spine: Spine, tmp_path: Path, buys: bool
) -> None:
    """Its cells are cut where the periods began at that time, and the purchase begins other ones."""
    spine.time.move(200 * SECOND)
    customer = spine.customer(None, zone="Asia/Kathmandu")
    spine.time.move(5 * SECOND)
    event = UsageEvent("a", "api.call", customer=customer)
    assert [result.status for result in spine.app.ingest.ingest_wait("live", [event])] == ["accepted"]
    spine.time.move(3 * DAY)
    if buys:
        spine.app.customers.move(customer, "pro")
    verification = verify_database(spine.url)
    assert (verification.ok, verification.customers_unknown) == (True, 0), verification
    assert backups(spine.url).make(tmp_path / "backup").refolded
    assert spine.used(customer=customer, start=spine.time.now // 1000 - 30 * 86_400_000_000) == "1"


def test_events_in_the_queue_count_against_a_period_that_began_after_a_change_of_plan(spine: Spine) -> None:
    """Months later, the plan just changed: the account rolls before it counts, or what is pending would be forgotten."""
    customer = spine.customer("free")
    key = spine.key(customer)
    assert spine.app.gate.check(key, "api_calls").code == "VALID"
    spine.time.move(70 * DAY)
    spine.app.customers.move(customer, "pro")
    events = [UsageEvent(f"e{i}", "api.call", customer=customer) for i in range(3)]
    batch = spine.app.ingest.judge("live", events)  # and no commit yet
    gate = spine.app.gate
    quota = gate.judge(gate.find(key) or gate.load(key), "api_calls", 0).quota
    assert quota is not None
    assert (len(batch.rows), quota.used) == (3, "3")
