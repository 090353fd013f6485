"""What is reserved is held, what is committed counts once and for ever, and the quota is exact in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spine import DAY, SECOND, START, Spine
from tollkeeper.core.errors import Conflict, InvalidRequest, NotFound, StorageUnavailable
from tollkeeper.core.gate import Decision
from tollkeeper.core.metering import QuantityInvalid
from tollkeeper.core.reservations import HOLD_SECONDS, PREFIX, Reservation, read_token
from tollkeeper.upkeep import verify_database

SECRET = b"s" * 32

CATALOG = """
currency = "usd"

[meters.tokens]
event_type = "llm.completion"
aggregation = "sum"
value_property = "tokens"

[meters.completions]
event_type = "llm.completion"
aggregation = "count"

[meters.jobs]
event_type = "job"
aggregation = "count"

[plans.pro]
limits = [{name = "tokens", limit = 1000, window_seconds = 60, meter = "tokens"}, {name = "calls", limit = 100, window_seconds = 60}]
quotas = [{meter = "tokens", limit = "500", kind = "hard"}, {meter = "jobs", limit = "10", kind = "hard"}]
"""


@pytest.fixture
def toll(tmp_path: Path) -> Iterator[Spine]:
    spine = Spine(tmp_path, CATALOG)
    yield spine
    spine.app.close()


def reserve(spine: Spine, key: str, cost: int | str = 100, meter: str = "tokens") -> Decision:
    gate = spine.app.gate
    decision = gate.judge(gate.find(key) or gate.load(key), meter, cost)
    spine.app.reservations.hold(decision)
    return decision


def token(decision: Decision) -> str:
    assert decision.reservation is not None
    return decision.reservation


def left(spine: Spine, key: str, meter: str = "tokens") -> str:
    """What remains of the quota, asked without taking."""
    quota = spine.app.gate.check(key, meter, 0).quota
    assert quota is not None
    return quota.remaining


def total(spine: Spine, customer: str, meter: str = "tokens") -> str:
    return spine.app.usage.query(meter, customer=customer).total


@pytest.fixture
def who(toll: Spine) -> tuple[str, str]:
    customer = toll.customer("pro")
    return customer, toll.key(customer)


def test_what_is_reserved_is_held_and_what_is_used_counts_in_its_place(toll: Spine, who: tuple[str, str]) -> None:
    customer, key = who
    decision = reserve(toll, key, 400)
    assert (decision.code, decision.event_id, left(toll, key), total(toll, customer)) == ("VALID", None, "100", "0")
    assert reserve(toll, key, 101).code == "QUOTA_EXCEEDED"
    made = toll.app.reservations.commit(token(decision), "120.5")
    assert (made.status, made.event_id, made.reserved, made.quantity) == ("accepted", decision.ulid, "400", "120.5")
    assert (left(toll, key), total(toll, customer)) == ("379.5", "120.5")
    assert toll.app.usage.query("completions", customer=customer).total == "1"


def test_a_commit_is_repeated_safely_and_another_quantity_is_told(toll: Spine, who: tuple[str, str]) -> None:
    customer, key = who
    decision = reserve(toll, key)
    first, again = (toll.app.reservations.commit(token(decision), quantity) for quantity in (30, "30.0"))
    assert (first.status, again.status) == ("accepted", "duplicate")
    with pytest.raises(Conflict):
        toll.app.reservations.commit(token(decision), 31)
    assert (left(toll, key), total(toll, customer)) == ("470", "30")
    assert toll.app.reservations.release(token(decision)).released == "0"
    assert left(toll, key) == "470"


def test_a_release_gives_everything_back_once(toll: Spine, who: tuple[str, str]) -> None:
    customer, key = who
    decision = reserve(toll, key, 400)
    assert [toll.app.reservations.release(token(decision)).released for _ in range(2)] == ["400", "0"]
    assert (left(toll, key), total(toll, customer)) == ("500", "0")


def test_a_commit_always_counts(toll: Spine, who: tuple[str, str]) -> None:
    """After a release, after a lapse, after a restart, above the reserve, above the quota, after the key's end."""
    customer, key = who
    released, lapsed, restarted = (reserve(toll, key, 10) for _ in range(3))
    toll.app.reservations.release(token(released))
    toll.app.reservations.commit(token(released), 600)
    assert (left(toll, key), total(toll, customer)) == ("0", "600")
    toll.time.move(HOLD_SECONDS * SECOND + SECOND)
    toll.app.reservations.lapse()
    assert len(toll.app.gate.holds) == 0
    toll.app.reservations.commit(token(lapsed), 1)
    toll.app.keys.revoke(str(restarted.who.key_id))
    toll.reopen()
    toll.app.reservations.commit(token(restarted), "0.000000001")
    assert total(toll, customer) == "601.000000001"


def test_what_nobody_asks_for_lapses_after_an_hour_and_no_sooner(toll: Spine, who: tuple[str, str]) -> None:
    _, key = who
    reserve(toll, key, 400)
    for seconds, remaining in ((HOLD_SECONDS - 1, "100"), (2, "500")):
        toll.time.move(seconds * SECOND)
        toll.app.reservations.lapse()
        assert left(toll, key) == remaining


def test_usage_counts_in_the_period_that_admitted_it(toll: Spine, who: tuple[str, str]) -> None:
    customer, key = who
    decision = reserve(toll, key, 400)
    toll.time.move(31 * DAY)
    assert left(toll, key) == "500"
    toll.app.reservations.commit(token(decision), 300)
    assert left(toll, key) == "500"
    answer = toll.app.usage.query("tokens", customer=customer, window="period", start=START // 1000)
    assert [row.value for row in answer.data] == ["300", "0"]


def test_a_commit_that_fails_leaves_what_was_held(
    toll: Spine, who: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    customer, key = who
    decision = reserve(toll, key, 400)

    def full(groups: object) -> object:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(toll.app.usage_file.writer.log, "append", full)
        with pytest.raises(StorageUnavailable):
            toll.app.reservations.commit(token(decision), 50)
    assert left(toll, key) == "100"
    toll.app.reservations.commit(token(decision), 50)
    assert (left(toll, key), total(toll, customer)) == ("450", "50")


def test_threads_that_reserve_and_commit_admit_exactly_the_quota(toll: Spine, who: tuple[str, str]) -> None:
    """Each commits all it reserved, so whatever the order, what is used and held together never passes the quota."""
    customer, key = who
    barrier = threading.Barrier(16)
    admitted: list[int] = []

    def work() -> None:
        barrier.wait()
        for _ in range(10):
            decision = reserve(toll, key, 1, "jobs")
            if decision.code == "VALID":
                admitted.append(1)
                toll.app.reservations.commit(token(decision), 1)

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(work) for _ in range(16)]:
            future.result()
    assert len(admitted) == 10
    assert total(toll, customer, "jobs") == "10"


def test_a_limit_by_weight_gets_back_what_was_not_used(toll: Spine, who: tuple[str, str]) -> None:
    _, key = who
    decision = reserve(toll, key, 500)

    def remaining() -> dict[str, int]:
        return {state.name: state.remaining for state in toll.app.gate.check(key, "tokens", 0).rate_limits}

    assert remaining() == {"tokens": 500, "calls": 99}
    toll.app.reservations.commit(token(decision), 20)
    assert remaining() == {"tokens": 980, "calls": 99}
    toll.app.reservations.commit(token(reserve(toll, key, 10)), 40)
    assert remaining() == {"tokens": 940, "calls": 98}


def test_a_reserve_of_nothing_still_gives_a_token(toll: Spine, who: tuple[str, str]) -> None:
    customer, key = who
    toll.app.reservations.commit(token(reserve(toll, key, 0)), 7)
    assert (left(toll, key), total(toll, customer)) == ("493", "7")


def test_the_log_refolded_gives_the_same_totals(toll: Spine, who: tuple[str, str]) -> None:
    customer, key = who
    for quantity in (1, "2.5", 0, 300):
        toll.app.reservations.commit(token(reserve(toll, key, 10)), quantity)
    toll.app.reservations.commit(token(reserve(toll, key, 3, "jobs")), 4)
    assert (total(toll, customer), total(toll, customer, "jobs")) == ("303.5", "4")
    toll.app.close()
    assert verify_database(toll.url).ok


@pytest.mark.parametrize("quantity", ["x", "-1", "1e99", "", "0.0000000001", 1 << 80])
def test_what_is_no_quantity_changes_nothing(toll: Spine, who: tuple[str, str], quantity: int | str) -> None:
    customer, key = who
    decision = reserve(toll, key, 400)
    with pytest.raises(QuantityInvalid):
        toll.app.reservations.commit(token(decision), quantity)
    assert (left(toll, key), total(toll, customer)) == ("100", "0")
    with pytest.raises(QuantityInvalid):
        toll.app.reservations.commit(token(reserve(toll, key, 1, "jobs")), Decimal("0.5"))


def test_a_token_of_the_other_environment_is_not_seen(toll: Spine, who: tuple[str, str]) -> None:
    decision = reserve(toll, who[1])
    with pytest.raises(NotFound):
        toll.app.reservations.commit(token(decision), 1, "test")
    with pytest.raises(NotFound):
        toll.app.reservations.release(token(decision), "test")


def test_a_reservation_older_than_usage_may_be_is_refused(toll: Spine, who: tuple[str, str]) -> None:
    decision = reserve(toll, who[1])
    toll.time.move(35 * DAY)
    with pytest.raises(InvalidRequest, match="35 days"):
        toll.app.reservations.commit(token(decision), 1)


RESERVATION = Reservation(12345 << 80 | 7, "live", "cus_1", "key_1", "tokens", "llm", "tokens", 5)


@given(st.data())
def test_a_token_with_any_change_is_refused(data: st.DataObject) -> None:
    good = RESERVATION.token(SECRET)
    place = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.characters(max_codepoint=126, min_codepoint=33).filter(lambda c: c != good[place]))
    for bad in (good[:place] + other + good[place + 1 :], good[:place], good + other):
        with pytest.raises(InvalidRequest):
            read_token(bad, SECRET)
    assert read_token(good, SECRET) == RESERVATION
    with pytest.raises(InvalidRequest):
        read_token(good, b"t" * 32)


@given(st.text(max_size=60))
def test_junk_is_no_token(junk: str) -> None:
    with pytest.raises(InvalidRequest):
        read_token(PREFIX + junk, SECRET)
