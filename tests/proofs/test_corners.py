"""Corners that the model and the simulation do not come to by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spine import DAY, SECOND, Spine
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.events import UsageEvent
from tollkeeper.services.submissions import submit
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


def used_of_quota(spine: Spine, key: str) -> str:
    gate = spine.app.gate
    quota = gate.judge(gate.find(key) or gate.load(key), "api_calls", 0).quota
    assert quota is not None
    return quota.used


@pytest.mark.parametrize("restarts", [True, False])
def test_a_period_is_half_open_in_memory_and_after_a_restart(spine: Spine, restarts: bool) -> None:
    """The event at the very end belongs to the next period, whoever asks."""
    customer = spine.customer("free")
    key = spine.key(customer)
    account = spine.app.gate.account_of("live", customer)
    assert account is not None
    end = account.end
    spine.time.now = (end - 1_000_000) * 1000
    at_end = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=end)
    events = [
        UsageEvent("last", "api.call", customer=customer),
        UsageEvent("first", "api.call", customer=customer, time=at_end),
        UsageEvent("second", "api.call", customer=customer, time=at_end + timedelta(microseconds=1)),
    ]
    assert [result.status for result in spine.app.ingest.ingest_wait("live", events)] == ["accepted"] * 3
    assert used_of_quota(spine, key) == "1"
    if restarts:
        spine.reopen()
        assert used_of_quota(spine, key) == "1"
    spine.time.now = end * 1000
    assert used_of_quota(spine, key) == "2"
    spine.reopen()
    assert used_of_quota(spine, key) == "2"


def test_test_and_live_usage_are_apart_after_a_restart(spine: Spine) -> None:
    customer = spine.customer("free")
    live, test = spine.key(customer), spine.key(customer, environment="test")
    for key, calls in ((live, 1), (test, 3)):
        for _ in range(calls):
            assert spine.app.gate.check(key, "api_calls").code == "VALID"
    assert (used_of_quota(spine, live), used_of_quota(spine, test)) == ("1", "3")
    spine.reopen()
    assert (used_of_quota(spine, live), used_of_quota(spine, test)) == ("1", "3")


def test_a_total_that_would_not_fit_spares_those_who_committed_with_it(spine: Spine) -> None:
    """Three batches in one commit: the one at fault is refused, the others count."""
    customer = spine.customer("pro")

    def batch(name: str, count: int, tokens: int) -> list[UsageEvent]:
        return [
            UsageEvent(f"{name}{i}", "llm.completion", customer=customer, data={"tokens": tokens}) for i in range(count)
        ]

    most = 10**15 - 1
    spine.app.ingest.ingest_wait("live", batch("full", 9_000, most))
    batches = [batch("before", 1, 1), batch("fault", 400, most), batch("after", 1, 1)]
    rows = [spine.app.ingest.judge("live", events).rows for events in batches]
    with spine.stalled_writer():
        before, fault, after = [submit(spine.app.usage_file.writer, some) for some in rows]
    assert [outcome.status for outcome in before.wait() or ()] == ["accepted"]
    with pytest.raises(InvalidRequest):
        fault.wait()
    assert [outcome.status for outcome in after.wait() or ()] == ["accepted"]
    assert spine.used("tokens", customer=customer) == str(9_000 * most + 2)
