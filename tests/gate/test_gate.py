"""The gate: exact under concurrency, free when it refuses, honest when storage fails."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from spine import DAY, SECOND, Spine
from tollkeeper.core.errors import Conflict, InvalidRequest, NotFound, StorageUnavailable
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.periods import period_at
from tollkeeper.core.plans import Quota, RateLimit
from tollkeeper.services.submissions import Waited


def codes(spine: Spine, raw: str, times: int, meter: str = "api_calls") -> list[str]:
    return [spine.app.gate.check(raw, meter).code for _ in range(times)]


def test_an_allowed_check_is_counted_and_visible_at_once(spine: Spine) -> None:
    customer = spine.customer()
    decision = spine.app.gate.check(spine.key(customer), "api_calls")
    assert (decision.code, decision.who.customer, decision.who.plan) == ("VALID", customer, "free")
    assert spine.used(customer=customer) == "1"
    logged = list(spine.app.usage_file.reader.events())
    assert [event.id for event in logged] == [decision.event_id]


def test_the_wire_form_made_of_parts_equals_the_plain_one(spine: Spine) -> None:
    raw = spine.key(spine.customer(zone="Asia/Kathmandu"), name='a "quoted" \u00e9')
    for _ in range(30):
        decision = spine.app.gate.check(raw, "api_calls")
        assert json.loads(decision.to_json("https://x")) == decision.as_dict("https://x")
        spine.time.move(SECOND // 20)
    refused = spine.app.gate.check("junk", "api_calls")
    assert json.loads(refused.to_json()) == refused.as_dict()


def test_a_limit_admits_its_burst_then_refuses_then_refills(spine: Spine) -> None:
    raw = spine.key(spine.customer())
    assert codes(spine, raw, 11) == ["VALID"] * 10 + ["RATE_LIMITED"]
    refused = spine.app.gate.check(raw, "api_calls")
    assert refused.retry_after() == 1
    spine.time.move(SECOND)
    assert codes(spine, raw, 11) == ["VALID"] * 10 + ["RATE_LIMITED"]


def test_a_hard_quota_admits_exactly_its_limit_and_starts_again_with_the_next_period(spine: Spine) -> None:
    customer = spine.customer()
    raw = spine.key(customer)
    answers = []
    for _ in range(40):
        spine.time.move(SECOND)
        answers += codes(spine, raw, 1)
    assert answers == ["VALID"] * 25 + ["QUOTA_EXCEEDED"] * 15
    spine.time.move(31 * DAY)
    assert codes(spine, raw, 1) == ["VALID"]
    assert spine.used(customer=customer) == "1"


def test_a_clock_that_steps_back_over_a_boundary_uses_up_the_quota_it_was_judged_by(spine: Spine) -> None:
    customer = spine.customer()
    spine.app.customers.set_limit(customer, "live", RateLimit("burst", 1000, 1))
    raw = spine.key(customer)
    _, end = period_at(spine.time.now // 1000, "UTC", spine.time.now // 1000)
    codes(spine, raw, 1)
    spine.time.now = end * 1000
    assert codes(spine, raw, 1) == ["VALID"]
    spine.time.move(-1)  # or another thread read the clock just before
    assert codes(spine, raw, 25) == ["VALID"] * 24 + ["QUOTA_EXCEEDED"]
    spine.time.move(1)
    assert spine.used(customer=customer) == "25"
    assert spine.used(customer=customer, end=end) == "1"
    spine.reopen()
    assert codes(spine, raw, 1) == ["QUOTA_EXCEEDED"]


def test_a_quota_is_what_it_was_after_a_restart(spine: Spine) -> None:
    raw = spine.key(spine.customer())
    for _ in range(20):
        spine.time.move(SECOND)
        assert codes(spine, raw, 1) == ["VALID"]
    spine.reopen()
    answers = []
    for _ in range(10):
        spine.time.move(SECOND)
        answers += codes(spine, raw, 1)
    assert answers == ["VALID"] * 5 + ["QUOTA_EXCEEDED"] * 5


def test_a_refusal_by_quota_takes_nothing_from_the_limit_and_the_other_way_round(spine: Spine) -> None:
    customer = spine.customer()
    raw = spine.key(customer)
    for _ in range(25):
        spine.time.move(SECOND)
        codes(spine, raw, 1)
    spine.time.move(10 * SECOND)
    assert codes(spine, raw, 30) == ["QUOTA_EXCEEDED"] * 30
    assert spine.app.gate.check(raw, "api_calls").rate_limits[0].remaining == 10
    spine.app.customers.set_quota(customer, "live", Quota("api_calls", Decimal(100), "hard"))
    assert codes(spine, raw, 20) == ["VALID"] * 10 + ["RATE_LIMITED"] * 10
    assert spine.app.gate.check(raw, "api_calls").quota.used == "35"  # type: ignore[union-attr]


def test_n_plus_one_checks_during_a_slow_commit_admit_exactly_n(spine: Spine) -> None:
    customer = spine.customer()
    spine.app.customers.set_limit(customer, "live", RateLimit("burst", 1000, 1))
    raw = spine.key(customer)
    assert codes(spine, raw, 5) == ["VALID"] * 5
    with ThreadPoolExecutor(64) as pool:
        with spine.stalled_writer():
            waiting = [pool.submit(spine.app.gate.check, raw, "api_calls") for _ in range(64)]
            refused = 0
            while refused < 64 - 20:  # every refusal is answered while no commit can end
                refused = sum(1 for future in waiting if future.done())
            assert refused == 44
        answers = sorted(future.result().code for future in waiting)
    assert answers == ["QUOTA_EXCEEDED"] * 44 + ["VALID"] * 20
    assert spine.used(customer=customer) == "25"


def test_100_threads_on_one_bucket_admit_exactly_the_limit(spine: Spine) -> None:
    customer = spine.customer("pro")
    spine.app.customers.set_limit(customer, "live", RateLimit("wide", 137, 60))
    raw = spine.key(customer)
    spine.app.gate.check(raw)  # no meter: takes one of the bucket too
    barrier = threading.Barrier(100)

    def ask() -> list[str]:
        barrier.wait()
        return codes(spine, raw, 4)

    with ThreadPoolExecutor(100) as pool:
        answers = [code for future in [pool.submit(ask) for _ in range(100)] for code in future.result()]
    assert answers.count("VALID") == 136
    assert spine.used(customer=customer) == "136"


def test_a_failed_commit_gives_back_what_was_taken(spine: Spine) -> None:
    customer = spine.customer()
    raw = spine.key(customer)
    codes(spine, raw, 3)
    writer = spine.app.usage_file.writer
    pages = writer.call(lambda log: log.db.pragma("page_count"))
    writer.call(lambda log: log.db.pragma("max_page_count", pages))
    failures = 0
    spine.app.customers.set_quota(customer, "live", Quota("api_calls", Decimal(100_000), "hard"))
    spine.app.customers.set_limit(customer, "live", RateLimit("burst", 100_000, 1))
    for _ in range(5000):
        try:
            spine.app.gate.check(raw, "api_calls")
        except StorageUnavailable:
            failures += 1
            if failures == 3:
                break
    assert failures == 3
    counted = spine.used(customer=customer)
    assert spine.app.gate.check(raw, "api_calls", 0).quota.used == counted  # type: ignore[union-attr]
    writer.call(lambda log: log.db.pragma("max_page_count", 1 << 30))
    assert codes(spine, raw, 1) == ["VALID"]
    assert spine.used(customer=customer) == str(int(counted) + 1)


@pytest.mark.parametrize("wait", [True, False])
def test_a_check_that_comes_while_the_log_closes_takes_nothing(spine: Spine, wait: bool) -> None:
    gate = spine.app.gate
    raw = spine.key(spine.customer("pro"))
    codes(spine, raw, 1)
    spine.app.usage_file.writer.close()
    with pytest.raises(StorageUnavailable):
        gate.check(raw, "api_calls", wait=wait)
    with pytest.raises(StorageUnavailable):
        asyncio.run(gate.commit(gate.judge(gate.find(raw), "api_calls")))
    held = gate.judge(gate.find(raw), "api_calls")
    with pytest.raises(StorageUnavailable):
        gate.put(held, Waited((gate.row(held),)))
    assert gate.check(raw, "api_calls", 0).quota.used == "1"  # type: ignore[union-attr]


def test_the_early_answer_is_refused_for_a_hard_quota_and_takes_nothing(spine: Spine) -> None:
    raw = spine.key(spine.customer())
    with pytest.raises(InvalidRequest, match="hard"):
        spine.app.gate.check(raw, "api_calls", wait=False)
    assert spine.app.gate.check(raw, "api_calls", 0).quota.used == "0"  # type: ignore[union-attr]


def test_the_early_answer_is_given_while_no_commit_can_end_and_is_counted_after(spine: Spine) -> None:
    customer = spine.customer("pro")
    raw = spine.key(customer)
    codes(spine, raw, 1)
    with spine.stalled_writer():
        assert spine.app.gate.check(raw, "api_calls", wait=False).code == "VALID"
        assert spine.used(customer=customer) == "1"
    spine.app.usage_file.writer.call(lambda log: None)
    assert spine.used(customer=customer) == "2"


def test_a_repeated_check_id_is_counted_once_and_takes_once(spine: Spine) -> None:
    customer = spine.customer()
    raw = spine.key(customer)
    for _ in range(5):
        decision = spine.app.gate.check(raw, "api_calls", id="order-1")
        assert (decision.code, decision.quota.used) == ("VALID", "1")  # type: ignore[union-attr]
        spine.time.move(SECOND)
    assert spine.used(customer=customer) == "1"
    assert spine.app.gate.check(raw, "api_calls", 0).quota.used == "1"  # type: ignore[union-attr]
    with pytest.raises(Conflict):
        spine.app.gate.check(raw, "api_calls", 2, id="order-1")
    assert spine.app.gate.check(raw, "api_calls", 0).quota.used == "1"  # type: ignore[union-attr]


def test_the_answer_to_a_repeated_check_says_what_is_used_without_the_repeat(spine: Spine) -> None:
    customer = spine.customer()
    raw = spine.key(customer)
    spine.app.gate.check(raw, "api_calls", 3)
    first = spine.app.gate.check(raw, "api_calls", 2, id="order-1")
    again = spine.app.gate.check(raw, "api_calls", 2, id="order-1")
    assert (again.code, again.event_id) == ("VALID", None)
    assert (again.quota, again.rate_limits) == (first.quota, first.rate_limits)
    assert again.headers() == first.headers()
    assert json.loads(again.to_json()) == again.as_dict()


def test_a_check_id_repeated_with_another_cost_in_the_same_commit_is_a_conflict(spine: Spine) -> None:
    gate, raw = spine.app.gate, spine.key(spine.customer())
    costs = (1, 1, 2)
    answers = []
    with ThreadPoolExecutor(len(costs)) as pool, spine.stalled_writer():
        for queued, cost in enumerate(costs, start=1):
            answers.append(pool.submit(gate.check, raw, "api_calls", cost, id="order-1"))
            while spine.app.usage_file.writer.queued < queued:
                pass
    assert [type(answer.exception()) for answer in answers] == [type(None), type(None), Conflict]
    assert gate.check(raw, "api_calls", 0).quota.used == "1"  # type: ignore[union-attr]


def test_what_was_taken_in_an_ended_period_is_not_given_back_to_the_next(spine: Spine) -> None:
    gate, customer = spine.app.gate, spine.customer()
    raw = spine.key(customer)
    gate.check(raw, "api_calls", 0)
    held = gate.judge(gate.find(raw), "api_calls", 3)
    spine.time.now = held.resets_at * 1000
    assert gate.check(raw, "api_calls", 5).quota.used == "5"  # type: ignore[union-attr]
    gate.refund(held)
    assert gate.check(raw, "api_calls", 0).quota.used == "5"  # type: ignore[union-attr]


def test_a_revoked_key_stops_at_once(spine: Spine) -> None:
    new = spine.app.keys.create(customer=spine.customer())
    assert codes(spine, new.key, 1) == ["VALID"]
    spine.app.keys.revoke(new.id)
    assert codes(spine, new.key, 1) == ["DISABLED"]


def test_a_revocation_that_comes_while_the_key_is_being_read_wins(spine: Spine) -> None:
    new = spine.app.keys.create(customer=spine.customer())
    grants = spine.app.gate._grants

    class Slow:
        by_customer = grants.by_customer

        def by_digest(self, digest: bytes):  # type: ignore[no-untyped-def]
            found = grants.by_digest(digest)
            spine.app.keys.revoke(new.id)  # after the read, before it is cached
            return found

    spine.app.gate._grants = Slow()  # type: ignore[assignment]
    spine.app.gate.check(new.key, "api_calls")
    spine.app.gate._grants = grants
    assert codes(spine, new.key, 1) == ["DISABLED"]


def test_an_expired_key_is_refused_from_that_instant(spine: Spine) -> None:
    raw = spine.key(spine.customer(), expires_at=(spine.time.now + 5 * SECOND) // 1000)
    assert codes(spine, raw, 1) == ["VALID"]
    spine.time.move(5 * SECOND)
    assert codes(spine, raw, 1) == ["EXPIRED"]


@pytest.mark.parametrize(
    ("ip", "code"),
    [
        ("10.1.2.3", "VALID"),
        ("::ffff:10.1.2.3", "VALID"),
        ("11.0.0.1", "FORBIDDEN"),
        (None, "FORBIDDEN"),
        ("2001:db8::1", "FORBIDDEN"),
    ],
)
def test_a_key_bound_to_addresses_works_only_from_them(spine: Spine, ip: str | None, code: str) -> None:
    raw = spine.key(spine.customer(), ips=["10.0.0.0/8"])
    assert spine.app.gate.check(raw, "api_calls", ip=ip).code == code


def test_a_scope_that_the_key_lacks_is_named(spine: Spine) -> None:
    raw = spine.key(spine.customer(), scopes=["read"])
    assert spine.app.gate.check(raw, "api_calls", scope="read").code == "VALID"
    refused = spine.app.gate.check(raw, "api_calls", scope="write")
    assert refused.code == "INSUFFICIENT_SCOPE"
    assert "'write'" in refused.explain()


def test_a_customer_without_a_subscription_must_pay_first(spine: Spine) -> None:
    assert codes(spine, spine.key(spine.customer(None)), 1) == ["PAYMENT_REQUIRED"]


def test_live_and_test_never_mix(spine: Spine) -> None:
    customer = spine.customer()
    live, test = spine.key(customer), spine.key(customer, environment="test")
    for _ in range(12):
        spine.time.move(SECOND)
        assert codes(spine, live, 1) == ["VALID"]
        assert codes(spine, test, 2) == ["VALID", "VALID"]
    assert spine.used(customer=customer) == "12"
    assert spine.used(customer=customer, environment="test") == "24"
    spine.time.move(SECOND)
    assert codes(spine, test, 2) == ["VALID", "QUOTA_EXCEEDED"]
    assert codes(spine, live, 1) == ["VALID"]


def test_two_customers_never_share_a_bucket_or_a_total(spine: Spine) -> None:
    a, b = spine.customer(), spine.customer()
    key_a, key_b = spine.key(a), spine.key(b)
    assert codes(spine, key_a, 11)[-1] == "RATE_LIMITED"
    assert codes(spine, key_b, 10) == ["VALID"] * 10
    assert (spine.used(customer=a), spine.used(customer=b)) == ("10", "10")


@pytest.mark.parametrize("cost", ["-1", "abc", "1e400", "NaN", "0.5", "", " 1", "1_000", 1.5, True, "9" * 30])
def test_a_bad_cost_is_refused_and_takes_nothing(spine: Spine, cost: object) -> None:
    raw = spine.key(spine.customer())
    with pytest.raises(InvalidRequest):
        spine.app.gate.check(raw, "api_calls", cost)  # type: ignore[arg-type]
    assert spine.app.gate.check(raw, "api_calls", 0).quota.used == "0"  # type: ignore[union-attr]


def test_an_unknown_meter_is_named_with_those_there_are(spine: Spine) -> None:
    with pytest.raises(NotFound, match="api_calls"):
        spine.app.gate.check(spine.key(spine.customer()), "calls")


@pytest.mark.parametrize(
    "raw", ["", "x", "tk_live_", "tk_live_" + "0" * 36, "\ud800", "tk_live_" + "é" * 36, "a" * 100_000]
)
def test_junk_is_not_found_without_reading_anything(spine: Spine, raw: str) -> None:
    spine.app.gate._grants = None  # type: ignore[assignment]
    assert spine.app.gate.check(raw, "api_calls").code == "NOT_FOUND"


def test_a_sum_meter_takes_fractions_exactly(spine: Spine) -> None:
    customer = spine.customer("pro")
    raw = spine.key(customer)
    for _ in range(10):
        assert spine.app.gate.check(raw, "tokens", "0.1").code == "VALID"
    assert spine.used("tokens", customer=customer) == "1"


def test_moving_to_another_plan_keeps_what_was_used(spine: Spine) -> None:
    customer = spine.customer("pro")
    raw = spine.key(customer)
    codes(spine, raw, 24)
    spine.app.customers.move(customer, "free")
    assert codes(spine, raw, 2) == ["VALID", "QUOTA_EXCEEDED"]


def test_the_first_purchase_begins_a_period_at_once_and_for_good(spine: Spine) -> None:
    customer = spine.customer(None)
    spine.time.move(100 * SECOND + SECOND // 2)
    early = [UsageEvent(str(i), "api.call", customer=customer) for i in range(3)]
    assert {r.status for r in spine.app.ingest.ingest_wait("live", early)} == {"accepted"}
    spine.time.move(100 * SECOND)
    spine.app.customers.move(customer, "free")
    raw = spine.key(customer)
    for restarted in (False, True):
        if restarted:
            spine.reopen()
        spine.time.move(SECOND)
        assert codes(spine, raw, 1) == ["VALID"]
        spine.app.ingest.ingest_wait("live", [UsageEvent(f"x{restarted}", "api.call", customer=customer)])
        used = "4" if restarted else "2"
        assert spine.app.gate.check(raw, "api_calls", 0).quota.used == used  # type: ignore[union-attr]
        assert spine.used(customer=customer) == used


@pytest.mark.parametrize("id", ["call-1", "01JD3V5E6QN8Z4V9W1T7B2X3YE", "0190163d-8694-739b-aea5-966c26f8ad91"])
def test_a_retry_of_the_call_that_used_up_the_quota_or_the_limit_is_no_refusal(spine: Spine, id: str) -> None:
    customer = spine.customer()
    raw = spine.key(customer)
    gate = spine.app.gate
    for number in range(24):
        spine.time.move(SECOND)
        assert gate.check(raw, "api_calls", id=f"before-{number}").code == "VALID"
    spine.time.move(SECOND)
    assert gate.check(raw, "api_calls", id=id).code == "VALID"
    for other in ("new", "0190163d-8694-739b-aea5-966c26f8ad92"):
        assert gate.check(raw, "api_calls", id=other).code == "QUOTA_EXCEEDED"
    again = gate.check(raw, "api_calls", id=id)
    assert (again.code, again.event_id, again.amount) == ("VALID", None, 0)
    assert (again.quota and again.quota.used) == "25"
    with pytest.raises(Conflict):
        gate.check(raw, "api_calls", "2", id=id)
    assert gate.decisions["live"]["QUOTA_EXCEEDED"] == 3  # the conflict is a refusal too
    assert spine.used(customer=customer) == "25"


def test_a_customer_near_the_quota_is_told_before_being_refused(spine: Spine, caplog: pytest.LogCaptureFixture) -> None:
    raw = spine.key(spine.customer())
    warned = []
    with caplog.at_level("INFO", "tollkeeper.gate"):
        for _ in range(25):
            spine.time.move(SECOND)
            warned.append(dict(spine.app.gate.check(raw, "api_calls").headers()).get("x-quota-warning"))
    assert warned[:19] == [None] * 19
    assert (warned[19], warned[24]) == ('"quota-api_calls";used=80%', '"quota-api_calls";used=100%')
    [told] = [record for record in caplog.records if getattr(record, "event", "") == "quota.near"]
    assert (told.meter, told.used, told.limit) == ("api_calls", "20", "25")  # type: ignore[attr-defined]
    spine.time.move(31 * DAY)
    assert "x-quota-warning" not in dict(spine.app.gate.check(raw, "api_calls").headers())
