"""Events from outside: counted once, answered one by one."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spine import DAY, SECOND, START, Spine
from tollkeeper.core.errors import InvalidRequest, StorageUnavailable
from tollkeeper.core.events import UsageEvent, pack_id, unpack_id
from tollkeeper.core.ids import ulid
from tollkeeper.core.periods import period_at
from tollkeeper.core.plans import Quota

NOW = datetime.fromtimestamp(START // SECOND, UTC)


def send(spine: Spine, *events: UsageEvent, environment: str = "live") -> list[str]:
    return [result.status for result in spine.app.ingest.ingest_wait(environment, events)]  # type: ignore[arg-type]


IDS = {
    "text": "order-1",
    "uuid4": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "uuid7": "01932f3a-7b7c-7abc-9def-0123456789ab",
    "ulid": "01JD3V5E6QN8Z4V9W1T7B2X3YA",
}


@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
def test_a_repeated_event_is_a_duplicate_and_another_payload_a_conflict(spine: Spine, id: str) -> None:
    customer = spine.customer()
    first = UsageEvent(id, "api.call", customer=customer, data={"a": 1})
    assert send(spine, first) == ["accepted"]
    spine.time.move(7 * SECOND)  # without a time of its own, the retry carries another one
    assert send(spine, first) == ["duplicate"]
    assert send(spine, UsageEvent(id, "api.call", customer=customer, data={"a": 2})) == ["conflict"]
    assert send(spine, UsageEvent(id, "other", customer=customer, data={"a": 1})) == ["conflict"]
    assert send(spine, UsageEvent(id, "api.call", customer=customer, subject="s", data={"a": 1})) == ["conflict"]
    assert send(spine, UsageEvent(id, "api.call", customer=spine.customer(), data={"a": 1})) == ["conflict"]
    spine.reopen()
    assert send(spine, first) == ["duplicate"]
    assert spine.used(customer=customer) == "1"


@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
def test_an_id_is_unique_per_environment_and_source(spine: Spine, id: str) -> None:
    customer = spine.customer()
    event = UsageEvent(id, "api.call", customer=customer)
    assert send(spine, event) == ["accepted"]
    assert send(spine, event, environment="test") == ["accepted"]
    assert send(spine, UsageEvent(id, "api.call", "other", customer=customer)) == ["accepted"]
    assert send(spine, event) == ["duplicate"]


@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
def test_a_repeat_within_one_batch_counts_once(spine: Spine, id: str) -> None:
    customer = spine.customer()
    one, two = UsageEvent(id, "api.call", customer=customer), UsageEvent(id, "api.call", customer=customer, data={})
    elsewhere = UsageEvent(id, "api.call", customer=spine.customer())
    assert send(spine, one, one, two, elsewhere, one) == ["accepted", "duplicate", "conflict", "conflict", "duplicate"]
    assert spine.used(customer=customer) == "1"


@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
def test_concurrent_duplicates_count_once_and_a_conflict_among_them_is_told(spine: Spine, id: str) -> None:
    customer = spine.customer()
    same = UsageEvent(id, "api.call", customer=customer)
    other = UsageEvent(id, "api.call", customer=customer, data={"x": 1})
    with ThreadPoolExecutor(40) as pool:
        with spine.stalled_writer():  # so that all of them meet in one transaction
            futures = [pool.submit(send, spine, other if i == 39 else same) for i in range(40)]
            while spine.app.usage_file.writer.queued < 40:
                pass
        answers = [future.result()[0] for future in futures]
    assert answers.count("accepted") == 1
    assert answers.count("conflict") in (1, 39)
    assert answers.count("duplicate") == 39 - answers.count("conflict")
    assert spine.used(customer=customer) == "1"


def test_one_bad_event_never_spoils_its_batch(spine: Spine) -> None:
    customer = spine.customer()
    results = spine.app.ingest.ingest_wait(
        "live",
        [
            UsageEvent("1", "llm.completion", customer=customer, data={"tokens": 3}),
            UsageEvent("", "llm.completion", customer=customer),
            UsageEvent("2", "llm.completion", customer="nobody", data={"tokens": 3}),
            UsageEvent("3", "llm.completion", customer=customer, data={"tokens": "many"}),
            UsageEvent("4", "llm.completion", data={"tokens": 3}),
            UsageEvent("5", "llm.completion", subject="who", data={"tokens": 3}),
            UsageEvent("6", "llm.completion", "tollkeeper:gate", customer=customer),
            UsageEvent("7", "llm.completion", customer=customer, time=NOW.replace(tzinfo=None)),
            UsageEvent("8", "llm.completion", customer=customer, time=NOW + timedelta(minutes=6)),
            UsageEvent("9", "llm.completion", customer=customer, time=NOW - timedelta(days=36)),
            UsageEvent("10", "llm.completion", customer=customer, data={"tokens": Decimal("1e15")}),
            UsageEvent("11", "llm.completion", customer=customer, data={"tokens": 1.5}),
            UsageEvent("12", "llm.completion", customer=customer, data={"tokens": Decimal("0.5")}),
        ],
    )
    assert [result.code for result in results] == [
        None,
        "id_invalid",
        "unknown_customer",
        "quantity_invalid",
        "customer_missing",
        "unknown_subject",
        "source_reserved",
        "time_invalid",
        "too_early",
        "too_old",
        "quantity_invalid",
        "quantity_invalid",
        None,
    ]
    assert [result.index for result in results] == list(range(13))
    assert spine.used("tokens", customer=customer) == "3.5"


def test_the_secret_of_a_key_is_neither_kept_as_subject_nor_repeated(spine: Spine) -> None:
    customer = spine.customer()
    secret = spine.key(customer)
    results = spine.app.ingest.ingest_wait(
        "live",
        [
            UsageEvent("1", "api.call", subject=secret, customer=customer),
            UsageEvent("2", "api.call", subject=secret),
            UsageEvent("3", "api.call", customer=secret),
        ],
    )
    assert [result.code for result in results] == ["subject_invalid", "subject_invalid", "unknown_customer"]
    assert not [result for result in results if secret in str(result.detail)]
    assert spine.used(customer=customer) == "0"


def test_the_bounds_of_time_are_exact_to_the_microsecond(spine: Spine) -> None:
    customer = spine.customer()
    oldest, latest, moment = NOW - timedelta(days=35), NOW + timedelta(minutes=5), timedelta(microseconds=1)
    times = [oldest, oldest - moment, latest, latest + moment]
    events = [UsageEvent(str(i), "api.call", customer=customer, time=time) for i, time in enumerate(times)]
    results = spine.app.ingest.ingest_wait("live", events)
    assert [result.code for result in results] == [None, "too_old", None, "too_early"]


@settings(max_examples=25)
@given(parts=st.lists(st.integers(-(10**10), 10**10), min_size=1, max_size=8), batches=st.integers(1, 3))
def test_a_sum_is_exact_to_the_billionth_in_one_commit_and_over_several(parts: list[int], batches: int) -> None:
    with TemporaryDirectory() as folder:
        spine = Spine(Path(folder))
        customer = spine.customer()
        raw = spine.key(customer)
        spine.app.customers.set_quota(customer, "live", Quota("tokens", Decimal(0), "soft"))
        exact = Decimal(sum(parts) * batches).scaleb(-9)
        for batch in range(batches):
            data = [{"tokens": Decimal(part).scaleb(-9)} for part in parts]
            events = [
                UsageEvent(f"{batch}-{i}", "llm.completion", customer=customer, data=d) for i, d in enumerate(data)
            ]
            assert set(send(spine, *events)) == {"accepted"}
        assert Decimal(spine.used("tokens", customer=customer)) == exact
        for _ in range(2):
            assert Decimal(spine.app.gate.check(raw, "tokens", 0).quota.used) == exact  # type: ignore[union-attr]
            spine.reopen()
        spine.app.close()


@pytest.mark.parametrize("named_by", ["customer", "subject"])
def test_events_of_test_and_live_use_up_quotas_of_their_own(spine: Spine, named_by: str) -> None:
    customer = spine.customer()
    keys = {environment: spine.key(customer, environment=environment) for environment in ("live", "test")}
    for environment, events in (("live", 2), ("test", 5)):
        named = {named_by: customer}
        send(spine, *[UsageEvent(str(i), "api.call", **named) for i in range(events)], environment=environment)
    for _ in range(2):
        for environment, used in (("live", "2"), ("test", "5")):
            assert spine.app.gate.check(keys[environment], "api_calls", 0).quota.used == used  # type: ignore[union-attr]
            assert spine.used(customer=customer, environment=environment) == used
        spine.reopen()


def test_an_event_that_no_meter_counts_is_accepted_and_visible(spine: Spine) -> None:
    customer = spine.customer()
    results = spine.app.ingest.ingest_wait("live", [UsageEvent(str(i), "api.cal", customer=customer) for i in range(3)])
    assert [(r.status, r.meters) for r in results] == [("accepted", ())] * 3
    assert [(u.type, u.events) for u in spine.app.usage.unmatched()] == [("api.cal", 3)]


def test_an_event_may_name_its_key_or_its_customer_as_subject(spine: Spine) -> None:
    customer = spine.customer()
    key = spine.app.keys.create(customer=customer)
    assert (
        send(spine, UsageEvent("1", "api.call", subject=key.id), UsageEvent("2", "api.call", subject=customer))
        == ["accepted"] * 2
    )
    assert spine.used(customer=customer) == "2"
    assert spine.used(customer=customer, key=key.id) == "1"


def test_a_late_event_counts_in_the_period_of_its_time(spine: Spine) -> None:
    customer = spine.customer()
    raw = spine.key(customer)
    spine.time.move(40 * DAY)
    late = NOW + timedelta(days=20)
    assert send(spine, UsageEvent("1", "api.call", customer=customer, time=late)) == ["accepted"]
    assert spine.used(customer=customer) == "0"
    periods = spine.app.usage.query("api_calls", customer=customer, window="period", start=START // 1000)
    assert [row.value for row in periods.data] == ["1", "0"]
    assert spine.app.gate.check(raw, "api_calls", 0).quota.used == "0"  # type: ignore[union-attr]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
def test_late_events_on_both_sides_of_a_boundary_count_in_their_own_periods(spine: Spine, zone: str) -> None:
    customer = spine.customer("pro", zone=zone)
    anchor = START // 1000
    edges = [anchor]
    for _ in range(3):
        edges.append(period_at(anchor, zone, edges[-1])[1])
    spine.time.now = edges[3] * 1000 + DAY  # the clocks of New York changed on 1 November
    third = datetime.fromtimestamp(edges[2] // 1_000_000, UTC)
    moment = timedelta(microseconds=1)
    late = [third - moment, third, third + moment]
    send(spine, *[UsageEvent(str(i), "api.call", customer=customer, time=time) for i, time in enumerate(late)])
    rows = spine.app.usage.query("api_calls", customer=customer, window="period", start=anchor).data
    assert [(row.start, row.value) for row in rows] == list(zip(edges, ["0", "1", "2", "0"], strict=True))
    raw = spine.key(customer)
    for _ in range(2):
        assert spine.app.gate.check(raw, "api_calls", 0).quota.used == "0"  # type: ignore[union-attr]
        spine.reopen()


def test_a_late_event_of_an_ended_period_does_not_begin_the_next_one(spine: Spine) -> None:
    customer = spine.customer()
    raw = spine.key(customer)
    first, second = period_at(START // 1000, "UTC", START // 1000)
    spine.time.now = second * 1000
    assert spine.app.gate.check(raw, "api_calls", 0).quota.used == "0"  # type: ignore[union-attr]
    late = datetime.fromtimestamp(first // 1_000_000, UTC)
    assert send(spine, UsageEvent("1", "api.call", customer=customer, time=late)) == ["accepted"]
    spine.time.now = period_at(first, "UTC", second)[1] * 1000
    assert spine.app.gate.check(raw, "api_calls", 0).quota.used == "0"  # type: ignore[union-attr]


def test_events_count_towards_the_quota_of_the_gate(spine: Spine) -> None:
    customer = spine.customer()
    raw = spine.key(customer)
    send(spine, *[UsageEvent(str(i % 24), "api.call", customer=customer) for i in range(48)])
    assert [spine.app.gate.check(raw, "api_calls").code for _ in range(2)] == ["VALID", "QUOTA_EXCEEDED"]


def test_an_event_ahead_of_the_clock_counts_in_the_period_it_names(spine: Spine) -> None:
    customer = spine.customer()
    raw = spine.key(customer)
    end = spine.app.gate.account_of("live", customer).end  # type: ignore[union-attr]
    spine.time.now = end * 1000 - 60 * SECOND
    ahead = datetime.fromtimestamp(end // 1_000_000, UTC)
    assert send(spine, UsageEvent("1", "api.call", customer=customer, time=ahead)) == ["accepted"]
    assert spine.app.gate.check(raw, "api_calls", 0).quota.used == "0"  # type: ignore[union-attr]
    spine.time.move(60 * SECOND)
    assert spine.app.gate.check(raw, "api_calls", 0).quota.used == "1"  # type: ignore[union-attr]
    assert spine.used(customer=customer) == "1"


def test_a_total_beyond_64_bits_is_refused_and_the_others_are_not_hurt(spine: Spine) -> None:
    customer, other = spine.customer(), spine.customer()
    big = 10**15 - 1
    for batch in range(9):
        events = [
            UsageEvent(f"{batch}-{i}", "llm.completion", customer=customer, data={"tokens": big}) for i in range(1000)
        ]
        assert set(send(spine, *events)) == {"accepted"}
    with pytest.raises(InvalidRequest, match="64 bits"):
        send(
            spine,
            *[UsageEvent(f"x-{i}", "llm.completion", customer=customer, data={"tokens": big}) for i in range(1000)],
        )
    assert send(spine, UsageEvent("o", "llm.completion", customer=other, data={"tokens": 1})) == ["accepted"]
    assert spine.used("tokens", customer=customer) == str(9000 * big)
    assert spine.used("tokens", customer=other) == "1"
    spine.app.customers.set_quota(customer, "live", Quota("tokens", Decimal(1), "soft"))
    assert spine.app.gate.check(spine.key(customer), "tokens", 0).quota.used == str(9000 * big)  # type: ignore[union-attr]


def test_a_disk_that_is_full_loses_nothing_that_was_acknowledged(spine: Spine) -> None:
    customer = spine.customer()
    writer = spine.app.usage_file.writer
    writer.call(lambda log: log.db.pragma("max_page_count", log.db.pragma("page_count") + 20))
    acknowledged = failed = 0
    for batch in range(200):
        events = [UsageEvent(f"{batch}-{i}", "api.call", customer=customer) for i in range(50)]
        try:
            acknowledged += send(spine, *events).count("accepted")
        except StorageUnavailable:
            failed += 1
            if failed == 2:
                break
    assert failed == 2
    assert spine.used(customer=customer) == str(acknowledged)
    writer.call(lambda log: log.db.pragma("max_page_count", 1 << 30))
    assert send(spine, *events) == ["accepted"] * 50
    assert spine.used(customer=customer) == str(acknowledged + 50)


@given(st.one_of(st.uuids().map(str), st.text(min_size=1, max_size=40), st.uuids(version=4).map(lambda u: u.hex)))
def test_an_id_is_kept_exactly_as_sent(id: str) -> None:
    assert unpack_id(*pack_id(id)) == id
    assert unpack_id(*pack_id(id.upper())) == id.upper()


@given(st.integers(0, 2**128 - 1))
def test_a_ulid_and_a_uuid_of_any_bits_are_kept_exactly(bits: int) -> None:
    for id in (ulid(bits >> 80, bits & (2**80 - 1)), str(uuid.UUID(int=bits))):
        kind, stored = pack_id(id)
        assert isinstance(stored, bytes)
        assert unpack_id(kind, stored) == id


def test_subjects_beyond_the_cap_of_a_day_fold_into_other_and_totals_stay_exact(spine: Spine) -> None:
    customer = spine.customer()
    for batch in range(3):
        events = [
            UsageEvent(f"{batch}-{i}", "api.call", customer=customer, subject=f"s{batch}-{i}") for i in range(500)
        ]
        send(spine, *events)
    spine.reopen()
    send(
        spine,
        UsageEvent("a", "api.call", customer=customer, subject="s0-0"),
        UsageEvent("b", "api.call", customer=customer, subject="new"),
    )
    groups = {
        row.group["key"]: row.value
        for row in spine.app.usage.query("api_calls", customer=customer, group_by=("key",)).data
    }
    assert len(groups) == 1001
    assert groups["other"] == "501"
    assert groups["s0-0"] == "2"
    assert spine.used(customer=customer) == "1502"


def test_the_usage_of_a_key_stays_its_own_beside_any_number_of_subjects(spine: Spine) -> None:
    customer = spine.customer("pro")
    raw = spine.key(customer)
    [key] = spine.app.keys.list(customer=customer).items
    send(spine, *[UsageEvent(f"e{i}", "api.call", customer=customer, subject=f"s{i}") for i in range(1500)])
    spine.app.gate.check(raw, "api_calls")
    spine.app.gate.check(raw, "api_calls", id="order-1")
    assert spine.used(customer=customer, key=key.id) == "2"
    assert spine.used(customer=customer) == "1502"


@pytest.mark.parametrize("source", ["tollkeeper:gate", "tollkeeper:check"])
def test_no_event_from_outside_takes_an_id_of_the_gates_own(spine: Spine, source: str) -> None:
    customer = spine.customer("pro")
    [result] = spine.app.ingest.ingest_wait("live", [UsageEvent("order-1", "api.call", source, customer=customer)])
    assert (result.status, result.code) == ("rejected", "source_reserved")
    assert spine.app.gate.check(spine.key(customer), "api_calls", 2, id="order-1").event_id is not None
