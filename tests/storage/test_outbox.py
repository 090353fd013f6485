"""Rows of the outbox, of periods, reports and adjustments."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from desk import DAY, SECOND, START, Desk
from tollkeeper.core.billing import MINUTE_US, Adjustment, BillingPeriod, UsageReport
from tollkeeper.core.outbox import FIRST, METER_EVENT, NORMAL, OutboxMessage, Settlement, usage_lane
from tollkeeper.core.ports import Repositories
from tollkeeper.storage.sql.outbox import _CLAIM

LEASE = START + 60 * SECOND


def message(number: int, meter: str = "calls", **fields: Any) -> OutboxMessage:
    values: dict[str, Any] = {
        "id": f"out_{number:03}",
        "environment": "live",
        "topic": METER_EVENT,
        "lane": usage_lane("live", "acme", meter),
        "identifier": f"i{number}",
        "payload": {"at": START},
        "priority": NORMAL,
        "created_at": START,
        "due_at": START,
        "customer": "acme",
        "meter": meter,
        "period_start": START,
        "quantity": Decimal("12.5"),
    }
    return OutboxMessage(**{**values, **fields})


@pytest.fixture
def rows(desk: Desk) -> Iterator[Repositories]:
    with desk.database.write() as rows:
        yield rows


def test_a_message_comes_back_as_it_was_put(rows: Repositories) -> None:
    rows.outbox.put([message(1)])
    assert rows.outbox.get("out_001") == message(1)
    assert rows.outbox.by_identifier(METER_EVENT, "i1") == message(1)


def test_the_same_identifier_is_owed_once(rows: Repositories) -> None:
    assert rows.outbox.put([message(1)]) == 1
    assert rows.outbox.put([replace(message(2), identifier="i1", quantity=Decimal(7))]) == 0
    assert rows.outbox.get("out_001") == message(1)
    assert rows.outbox.get("out_002") is None


def test_of_a_lane_one_goes_after_the_other_in_the_order_they_came(rows: Repositories) -> None:
    rows.outbox.put([message(1), message(2), message(3), message(4, "tokens")])
    first = rows.outbox.claim("live", START, LEASE, 10)
    assert [one.id for one in first] == ["out_001", "out_004"]
    assert rows.outbox.claim("live", START, LEASE, 10) == []
    assert rows.outbox.settle([Settlement(first[0], "sent", START)], START) == [True]
    assert [one.id for one in rows.outbox.claim("live", START, LEASE, 10)] == ["out_002"]


def test_two_messages_of_a_lane_cannot_both_be_at_its_head(desk: Desk) -> None:
    with desk.database.write() as rows:
        rows.outbox.put([message(1), message(2)])
    with sqlite3.connect(desk.path) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE outbox_messages SET status = 'sending', head = 1")
    connection.close()


def test_head_and_status_cannot_part(desk: Desk) -> None:
    with desk.database.write() as rows:
        rows.outbox.put([message(1)])
    with sqlite3.connect(desk.path) as connection, pytest.raises(sqlite3.IntegrityError, match="head"):
        connection.execute("UPDATE outbox_messages SET status = 'sent'")
    connection.close()


def test_a_claim_leaves_the_index_of_lanes_alone(desk: Desk) -> None:
    """Lanes stand there by name, so that each message claimed would cost a page of its own when many wait."""
    connection = sqlite3.connect(desk.path)
    names = dict(connection.execute("SELECT rootpage, name FROM sqlite_master"))
    program = connection.execute(f"EXPLAIN {_CLAIM}", dict.fromkeys(_CLAIM.compile().params, 1))
    written = {names[row[3]] for row in program if row[1] == "OpenWrite"}
    connection.close()
    assert "ix_outbox_messages_due" in written
    assert "uq_outbox_messages_lane" not in written


def test_what_is_urgent_goes_first_and_takes_its_whole_customer_along(rows: Repositories) -> None:
    rows.outbox.put(
        [message(1), message(2, "tokens"), message(3, "tokens"), message(4, "bytes", customer="other", lane="x")]
    )
    assert rows.outbox.hurry("live", "acme", START) == 3
    assert [one.id for one in rows.outbox.claim("live", START, LEASE, 2)] == ["out_001", "out_002"]
    waiting = rows.outbox.get("out_003")
    assert waiting is not None
    assert (waiting.status, waiting.priority) == ("queued", FIRST)


def test_what_is_not_due_waits_and_does_not_hold_up_other_lanes(rows: Repositories) -> None:
    rows.outbox.put([message(1, due_at=START + SECOND), message(2, "tokens")])
    assert [one.id for one in rows.outbox.claim("live", START, LEASE, 10)] == ["out_002"]
    assert [one.id for one in rows.outbox.claim("live", START + SECOND, LEASE, 10)] == ["out_001"]


def test_a_claim_says_how_often_it_was_tried_and_since_when_there_is_doubt(rows: Repositories) -> None:
    rows.outbox.put([message(1)])
    (claimed,) = rows.outbox.claim("live", START + 5, LEASE, 1)
    assert (claimed.status, claimed.attempts, claimed.fence) == ("sending", 1, 1)
    assert (claimed.last_attempt_at, claimed.doubt_since, claimed.lease_until) == (START + 5, START + 5, LEASE)
    rows.outbox.settle([Settlement(claimed, "unknown", START + 10, "no answer")], START + 6)
    (doubtful,) = rows.outbox.doubtful("live", START + 10, LEASE, 1)
    assert (doubtful.status, doubtful.doubt_since, doubtful.fence) == ("unknown", START + 5, 2)
    assert rows.outbox.doubtful("live", START + 10, LEASE, 1) == []
    rows.outbox.settle([Settlement(doubtful, "pending", START + 10)], START + 10)
    (again,) = rows.outbox.claim("live", START + 20, LEASE, 1)
    assert (again.attempts, again.doubt_since) == (2, START + 5)
    rows.outbox.settle([Settlement(again, "pending", START + 20, certain=True)], START + 20)
    assert rows.outbox.claim("live", START + 30, LEASE, 1)[0].doubt_since == START + 30


def test_what_a_dead_sender_took_is_unknown_and_its_late_word_still_counts(rows: Repositories) -> None:
    rows.outbox.put([message(1)])
    (claimed,) = rows.outbox.claim("live", START, LEASE, 1)
    assert rows.outbox.expire(LEASE - 1) == 0
    assert rows.outbox.expire(LEASE) == 1
    assert rows.outbox.claim("live", LEASE, LEASE + 60, 1) == []
    assert rows.outbox.settle([Settlement(claimed, "sent", LEASE)], LEASE) == [True]


def test_a_settlement_of_an_older_claim_changes_nothing(rows: Repositories) -> None:
    rows.outbox.put([message(1)])
    (claimed,) = rows.outbox.claim("live", START, LEASE, 1)
    rows.outbox.expire(LEASE)
    (newer,) = rows.outbox.doubtful("live", LEASE, LEASE + 60, 1)
    assert rows.outbox.settle([Settlement(claimed, "rejected", LEASE)], LEASE) == [False]
    assert rows.outbox.settle([Settlement(newer, "sent", LEASE)], LEASE) == [True]
    assert rows.outbox.settle([Settlement(newer, "rejected", LEASE)], LEASE) == [False]


def test_what_was_taken_first_and_refused_later_is_rejected_once(rows: Repositories) -> None:
    rows.outbox.put([message(1)])
    rows.outbox.settle([Settlement(rows.outbox.claim("live", START, LEASE, 1)[0], "sent", START)], START)
    refused = rows.outbox.reject(METER_EVENT, "i1", "no such customer", START + 9)
    assert refused is not None
    assert refused.status == "sent"
    assert rows.outbox.reject(METER_EVENT, "i1", "no such customer", START + 10) is None
    assert rows.outbox.reject(METER_EVENT, "another", "", START) is None
    assert rows.outbox.quantities("live", "acme", "calls", START) == {"rejected": Decimal("12.5")}


def test_only_what_certainly_was_not_sent_is_withdrawn(rows: Repositories) -> None:
    rows.outbox.put([message(1), message(2), message(3, "tokens"), message(4, "bytes", period_start=START + DAY)])
    rows.outbox.settle([Settlement(rows.outbox.claim("live", START, LEASE, 1)[0], "unknown", START)], START)
    assert [one.id for one in rows.outbox.withdraw("live", "acme", START, START)] == ["out_002", "out_003"]
    assert rows.outbox.quantities("live", "acme", "calls", START) == {
        "unknown": Decimal("12.5"),
        "carried_forward": Decimal("12.5"),
    }
    assert [one.id for one in rows.outbox.claim("live", START, LEASE, 9)] == ["out_004"]


def test_a_dead_message_frees_its_lane_and_comes_back_behind_what_is_there(rows: Repositories) -> None:
    rows.outbox.put([message(1), message(2)])
    (claimed,) = rows.outbox.claim("live", START, LEASE, 1)
    rows.outbox.settle([Settlement(claimed, "dead", START, "too often")], START)
    dead = rows.outbox.get("out_001")
    assert dead is not None
    assert (dead.status, dead.error, dead.settled_at) == ("dead", "too often", START)
    rows.outbox.replay(dead, "pending", START)
    back = rows.outbox.get("out_001")
    assert back is not None
    assert (back.status, back.attempts, back.error) == ("queued", 0, None)


def test_lists_and_counts_name_each_state(rows: Repositories) -> None:
    rows.outbox.put([message(1), message(2), message(3, "tokens")])
    assert [one.id for one in rows.outbox.list(None, None, None, 10)] == ["out_003", "out_002", "out_001"]
    assert [one.id for one in rows.outbox.list("queued", METER_EVENT, None, 10)] == ["out_002"]
    assert [one.id for one in rows.outbox.list(None, None, "out_003", 1)] == ["out_002"]
    counts = rows.outbox.counts()
    assert (counts["pending"], counts["queued"], counts["dead"]) == (2, 1, 0)
    assert rows.outbox.oldest() == START


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        (
            "claim",
            "SELECT id FROM outbox_messages WHERE status = 'pending'"
            " AND environment = 'live' AND priority = 5 AND due_at <= 9 ORDER BY due_at, id LIMIT 3",
        ),
        (
            "doubt",
            "SELECT id FROM outbox_messages WHERE status = 'unknown' AND due_at <= 9 ORDER BY due_at, id LIMIT 3",
        ),
        ("expire", "SELECT id FROM outbox_messages WHERE status = 'sending' AND lease_until <= 9"),
        (
            "queue",
            "SELECT id FROM outbox_messages WHERE lane = 'x' AND status = 'queued' ORDER BY priority, id LIMIT 1",
        ),
        (
            "head",
            "SELECT 1 FROM outbox_messages WHERE lane = 'x' AND head = 1",
        ),
        (
            "stale",
            "SELECT * FROM billing_periods WHERE stale = 1 AND environment = 'live' ORDER BY environment, customer, start LIMIT 3",
        ),
    ],
)
def test_what_the_dispatcher_asks_all_the_time_seeks_in_an_index(desk: Desk, name: str, statement: str) -> None:
    connection = sqlite3.connect(desk.path)
    plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}"))
    connection.close()
    assert "USING" in plan, plan
    assert "SCAN outbox_messages" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan


PERIOD = BillingPeriod("live", "acme", START, START + 30 * DAY, "stripe", "sub_9", "pro", 1)


def test_a_period_is_stale_when_it_is_new_and_when_its_bounds_or_state_change(rows: Repositories) -> None:
    rows.periods.put(PERIOD)
    assert rows.periods.stale("live", START + MINUTE_US, 9) == [PERIOD]
    assert rows.periods.stale("live", START + MINUTE_US - 1, 9) == []
    assert rows.periods.looked_at(PERIOD)
    assert rows.periods.stale("live", START + MINUTE_US, 9) == []
    rows.periods.put(PERIOD)
    assert rows.periods.stale("live", START + MINUTE_US, 9) == []
    shorter = replace(PERIOD, end=START + DAY)
    rows.periods.put(shorter)
    assert rows.periods.stale("live", START + MINUTE_US, 9) == [shorter]
    assert not rows.periods.looked_at(PERIOD)
    assert rows.periods.looked_at(shorter)
    rows.periods.move("live", "acme", START, "closing", "in_1")
    assert rows.periods.stale("live", START + MINUTE_US, 9) == [replace(shorter, state="closing", invoice="in_1")]


def test_an_invoiced_period_is_stale_when_all_that_is_billed_with_it_is_there(rows: Repositories) -> None:
    invoiced = replace(PERIOD, end=START + DAY, tail=2 * SECOND, state="invoiced", invoice="in_1")
    rows.periods.put(invoiced)
    assert rows.periods.stale("live", invoiced.until - 1, 9) == []
    assert rows.periods.stale("live", invoiced.until, 9) == [invoiced]
    assert rows.periods.overlapping("live", ["acme"], invoiced.until - 1, invoiced.until) == [invoiced]
    assert rows.periods.overlapping("live", ["acme"], invoiced.until, invoiced.until + 1) == []


def test_periods_are_found_by_the_time_they_overlap(rows: Repositories) -> None:
    following = replace(PERIOD, start=PERIOD.end, end=PERIOD.end + 30 * DAY)
    rows.periods.put(PERIOD)
    rows.periods.put(following)
    assert rows.periods.overlapping("live", ["acme"], PERIOD.end - 1, PERIOD.end) == [PERIOD]
    assert rows.periods.overlapping("live", ["acme"], PERIOD.end, PERIOD.end + 1) == [following]
    assert rows.periods.overlapping("live", ["acme"], START, following.end) == [PERIOD, following]
    assert rows.periods.overlapping("test", ["acme"], START, following.end) == []
    assert rows.periods.unsettled(None, 1) == [PERIOD]
    assert rows.periods.unsettled(("live", "acme", START), 9) == [following]


def test_reports_and_adjustments_come_back_as_they_were_written(rows: Repositories) -> None:
    report = UsageReport("live", "acme", "calls", START, Decimal("12.5"), Decimal("-1"), None, 3, 77)
    rows.reports.put(report, START)
    rows.reports.put(replace(report, billed=Decimal(9)), START)
    assert rows.reports.get("live", "acme", "calls", START) == replace(report, billed=Decimal(9))
    assert rows.reports.of("live", "acme", START) == [replace(report, billed=Decimal(9))]
    made = Adjustment(
        "live",
        "adj_1",
        "acme",
        Decimal("-0.10"),
        "usd",
        "late",
        START,
        "pending",
        "calls",
        START,
        "calls",
        Decimal("-2.5"),
        "out_1",
    )
    rows.adjustments.add(made)
    rows.adjustments.change(replace(made, state="sent", invoice="in_2"))
    assert rows.adjustments.of("live", "acme", START) == [replace(made, state="sent", invoice="in_2")]
    assert rows.adjustments.by_outbox("out_1") == replace(made, state="sent", invoice="in_2")
    assert str(rows.adjustments.of("live", "acme")[0].amount) == "-0.10"
