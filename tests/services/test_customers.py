"""Customers: idempotent create, members, moves between plan versions, overrides."""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from desk import CATALOG, DAY, START, Desk
from tollkeeper.core.customers import Customer
from tollkeeper.core.errors import Conflict, InvalidRequest, NotFound
from tollkeeper.core.plans import Quota, RateLimit


def test_create_makes_a_customer_a_member_and_a_subscription_in_each_environment(desk: Desk) -> None:
    record = desk.customers.create("acme", "Acme", "Ada@Example.com", "free", zone="Europe/Berlin")
    assert record.customer == Customer("acme", "Acme", "Ada@Example.com", "usd", "Europe/Berlin", START)
    assert [(s.environment, s.plan, s.plan_version, s.anchor, s.zone, s.status) for s in record.subscriptions] == [
        ("live", "free", 1, START, "Europe/Berlin", "active"),
        ("test", "free", 1, START, "Europe/Berlin", "active"),
    ]
    assert [(m.customer, m.email) for m in desk.customers.members("acme")] == [("acme", "ada@example.com")]
    assert desk.customers.get("acme") == record
    assert desk.changes == ["acme"]


def test_an_id_is_made_when_none_is_given(desk: Desk) -> None:
    one, other = (desk.customers.create(name="A").customer.id for _ in range(2))
    assert one.startswith("cus_")
    assert one != other


def test_the_same_create_again_returns_what_is_there_even_after_a_move(desk: Desk) -> None:
    first = desk.customers.create("acme", "Acme", "ada@example.com", "free")
    desk.now += DAY
    assert desk.customers.create("acme", " Acme ", "ada@example.com", "free", currency="usd") == first
    moved = desk.customers.move("acme", "pro")
    assert desk.customers.create("acme", "Acme", "ada@example.com", "free") == moved
    assert len(desk.customers.members("acme")) == 1
    assert desk.changes == ["acme", "acme"]


def test_a_create_repeated_in_the_instant_of_a_move_is_still_the_same(desk: Desk) -> None:
    desk.customers.create("acme", "Acme", plan="pro")
    moved = desk.customers.move("acme", "free")
    assert desk.customers.create("acme", "Acme", plan="pro") == moved


@pytest.mark.parametrize(
    ("field", "other"),
    [("name", "Other"), ("email", None), ("plan", "pro"), ("plan", None), ("currency", "eur"), ("zone", "Asia/Tokyo")],
)
def test_the_same_id_with_other_content_is_a_conflict_that_names_it(desk: Desk, field: str, other: Any) -> None:
    content = {"id": "acme", "name": "Acme", "email": "ada@example.com", "plan": "free"}
    before = desk.customers.create(**content)
    with pytest.raises(Conflict) as conflict:
        desk.customers.create(**content | {field: other})
    assert conflict.value.extra["fields"] == [field]
    assert desk.customers.get("acme") == before


def test_twenty_threads_creating_one_customer_make_one(desk: Desk) -> None:
    barrier = threading.Barrier(20)
    made = []

    def create() -> None:
        barrier.wait()
        made.append(desk.customers.create("acme", "Acme", "ada@example.com", "free"))

    threads = [threading.Thread(target=create) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [desk.customers.get("acme")] * 20
    assert len(desk.customers.history("acme")) == 2
    assert len(desk.customers.members("acme")) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", "a b"),
        ("id", "a" * 65),
        ("id", "é"),
        ("id", 7),
        ("name", " "),
        ("name", "a\0b"),
        ("name", "a\nb"),
        ("name", "\ud800"),
        ("name", "n" * 201),
        ("name", None),
        ("email", "ada"),
        ("email", "ada@"),
        ("email", "a@b@c"),
        ("email", "a@b.c\r\nBcc: d@e.f"),
        ("email", "a" * 300 + "@b.c"),
        ("plan", "gold"),
        ("plan", ["free"]),
        ("currency", "USD"),
        ("currency", "zzz"),
        ("currency", 1),
        ("zone", "Mars/Base"),
        ("zone", "../../etc/passwd"),
        ("zone", None),
    ],
)
def test_a_faulty_field_is_named_and_nothing_is_written(desk: Desk, field: str, value: Any) -> None:
    content: dict[str, Any] = {"id": "acme", "name": "Acme", "plan": "free"}
    with pytest.raises(InvalidRequest) as fault:
        desk.customers.create(**content | {field: value})
    assert fault.value.extra["field"] == field
    assert fault.value.detail.startswith(f"{field}: ")
    assert desk.customers.list().items == []


def test_a_plan_is_not_sold_in_a_currency_it_has_no_price_in(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="sold in usd, not in eur"):
        desk.customers.create(name="A", plan="pro", currency="eur")
    desk.customers.create("a", "A", plan="free", currency="eur")
    with pytest.raises(InvalidRequest, match="sold in usd, not in eur"):
        desk.customers.move("a", "pro")


def test_without_a_catalog_a_currency_is_needed(desk: Desk, tmp_path: Any) -> None:
    (tmp_path / "bare").mkdir()
    bare = Desk(tmp_path / "bare", catalog=None)
    with pytest.raises(InvalidRequest, match="currency: "):
        bare.customers.create(name="A")
    with pytest.raises(InvalidRequest, match="no catalog is applied yet"):
        bare.customers.create(name="A", plan="free", currency="usd")
    assert bare.customers.create(name="A", currency="usd").subscriptions == ()
    bare.database.close()


def test_pages_follow_each_other_and_end(desk: Desk) -> None:
    for name in "edcba":
        desk.customers.create(name, name, plan="free")
    first = desk.customers.list(limit=2)
    second = desk.customers.list(first.next, limit=2)
    third = desk.customers.list(second.next, limit=2)
    assert [[r.customer.id for r in page.items] for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert third.next is None
    assert desk.customers.list(limit=5).next is None
    assert first.items[0] == desk.customers.get("a")


@pytest.mark.parametrize(
    ("cursor", "limit", "field"),
    [(None, 0, "limit"), (None, 1001, "limit"), (None, True, "limit"), ("a b", 1, "cursor")],
)
def test_a_page_out_of_bounds_is_refused(desk: Desk, cursor: Any, limit: Any, field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{field}: "):
        desk.customers.list(cursor, limit)


def test_members_are_added_once_and_removed_only_from_their_customer(desk: Desk) -> None:
    for name in "ab":
        desk.customers.create(name, name)
    ada = desk.customers.add_member("a", "Ada@Example.com", "Ada")
    assert desk.customers.add_member("a", "ada@example.com") == ada
    assert desk.customers.add_member("b", "ada@example.com").id != ada.id
    with pytest.raises(NotFound):
        desk.customers.remove_member("b", ada.id)
    desk.customers.remove_member("a", ada.id)
    assert desk.customers.members("a") == []
    assert [member.email for member in desk.customers.members("b")] == ["ada@example.com"]
    with pytest.raises(NotFound):
        desk.customers.remove_member("a", ada.id)


def test_a_subscriber_stays_on_the_version_bought_until_moved(desk: Desk) -> None:
    desk.customers.create("acme", "Acme", plan="free")
    desk.catalog.apply(CATALOG.replace('"1000"', '"500"'))
    assert desk.customers.get("acme").subscription("live").plan_version == 1  # type: ignore[union-attr]
    assert desk.customers.create("later", "Later", plan="free").subscription("live").plan_version == 2  # type: ignore[union-attr]
    desk.now += DAY
    record = desk.customers.move("acme", "free")
    assert [s.plan_version for s in record.subscriptions] == [2, 2]
    assert [s.plan_version for s in desk.customers.move("acme", "free", version=1).subscriptions] == [1, 1]


def test_a_move_keeps_the_period_and_leaves_the_old_subscription_as_history(desk: Desk) -> None:
    before = desk.customers.create("acme", "Acme", plan="free").subscriptions
    desk.now += DAY
    record = desk.customers.move("acme", "pro", environment="live")
    live, test = record.subscriptions
    assert (live.plan, live.anchor, live.zone, live.started_at) == ("pro", START, "UTC", START + DAY)
    assert test == before[1]
    ended = replace(before[0], status="ended", ended_at=START + DAY)
    assert {s.id: s for s in desk.customers.history("acme")} == {s.id: s for s in (ended, test, live)}
    assert desk.customers.move("acme", "pro", environment="live") == record
    assert desk.changes == ["acme", "acme", "acme"]


def test_a_customer_without_a_plan_starts_one_by_a_move(desk: Desk) -> None:
    assert desk.customers.create("acme", "Acme").subscriptions == ()
    desk.now += DAY
    assert [s.anchor for s in desk.customers.move("acme", "free").subscriptions] == [START + DAY] * 2


@pytest.mark.parametrize(
    ("plan", "version"), [("gold", None), ("free", 2), ("free", 0), ("free", 2**40), ("free", True), ("\0", 1)]
)
def test_a_move_to_a_plan_that_is_not_there_changes_nothing(desk: Desk, plan: str, version: Any) -> None:
    before = desk.customers.create("acme", "Acme", plan="free")
    with pytest.raises(InvalidRequest):
        desk.customers.move("acme", plan, version)
    assert desk.customers.get("acme") == before


def test_overrides_are_set_listed_and_removed_in_their_environment(desk: Desk) -> None:
    desk.customers.create("acme", "Acme", plan="free")
    limit = RateLimit("burst", 50, 10, "api_calls", "key")
    quota = Quota("api_calls", Decimal("2500.5"), "soft")
    desk.customers.set_limit("acme", "live", replace(limit, limit=5))
    desk.customers.set_limit("acme", "live", limit)
    desk.customers.set_quota("acme", "live", quota)
    assert desk.customers.overrides("acme", "live") == ([limit], [quota])
    assert desk.customers.overrides("acme", "test") == ([], [])
    desk.customers.remove_limit("acme", "live", "burst")
    desk.customers.remove_quota("acme", "live", "api_calls")
    assert desk.customers.overrides("acme", "live") == ([], [])
    assert desk.changes == ["acme"] * 6
    with pytest.raises(NotFound):
        desk.customers.remove_limit("acme", "live", "burst")
    with pytest.raises(NotFound):
        desk.customers.remove_quota("acme", "live", "api_calls")


@pytest.mark.parametrize(
    "override",
    [
        RateLimit("", 1, 1),
        RateLimit("a", 0, 1),
        RateLimit("a", True, 1),
        RateLimit("a", 10**10, 10**5),
        RateLimit("a", 1_000_001, 1),
        RateLimit("a", 1, 0),
        RateLimit("a", 1, 10**10),
        RateLimit("a", 1, 1, "no_such_meter"),
        RateLimit("a", 1, 1, None, "planet"),  # type: ignore[arg-type]
        Quota("no_such_meter", Decimal(1), "hard"),
        Quota("api_calls", Decimal(-1), "hard"),
        Quota("api_calls", Decimal("-0.5"), "hard"),
        Quota("api_calls", Decimal("NaN"), "hard"),
        Quota("api_calls", Decimal("1e15"), "hard"),
        Quota("api_calls", Decimal(1), "medium"),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_faulty_override_is_refused(desk: Desk, override: RateLimit | Quota) -> None:
    desk.customers.create("acme", "Acme", plan="free")
    setter: Any = desk.customers.set_limit if isinstance(override, RateLimit) else desk.customers.set_quota
    with pytest.raises(InvalidRequest, match=r"^(limit|quota)\.\w+: "):
        setter("acme", "live", override)
    assert desk.customers.overrides("acme", "live") == ([], [])


def test_a_customer_has_at_most_twenty_limits_of_its_own(desk: Desk) -> None:
    desk.customers.create("acme", "Acme")
    for number in range(20):
        desk.customers.set_limit("acme", "live", RateLimit(f"l{number}", 1, 1))
    with pytest.raises(InvalidRequest, match=r"limit\.name: .* at most 20"):
        desk.customers.set_limit("acme", "live", RateLimit("one_more", 1, 1))
    desk.customers.set_limit("acme", "live", RateLimit("l7", 2, 1))
    desk.customers.set_limit("acme", "test", RateLimit("one_more", 1, 1))


@pytest.mark.parametrize("customer", ["nobody", "\ud800", "a\0", "", "x" * 1000])
def test_an_unknown_customer_is_not_found_everywhere(desk: Desk, customer: str) -> None:
    calls = [
        lambda: desk.customers.get(customer),
        lambda: desk.customers.members(customer),
        lambda: desk.customers.history(customer),
        lambda: desk.customers.overrides(customer, "live"),
        lambda: desk.customers.add_member(customer, "a@b.c"),
        lambda: desk.customers.remove_member(customer, "mem_1"),
        lambda: desk.customers.move(customer, "free"),
        lambda: desk.customers.set_limit(customer, "live", RateLimit("a", 1, 1)),
        lambda: desk.customers.set_quota(customer, "live", Quota("api_calls", Decimal(1), "hard")),
        lambda: desk.customers.remove_limit(customer, "live", "a"),
        lambda: desk.customers.remove_quota(customer, "live", "api_calls"),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()
    assert desk.changes == []


def test_a_change_keeps_what_it_does_not_name_and_the_zone_of_periods(desk: Desk) -> None:
    made = desk.customers.create("acme", "Acme", "ada@example.com", "free", zone="Europe/Berlin")
    desk.changes.clear()
    changed = desk.customers.change("acme", name=" Acme Ltd ", zone="Asia/Tokyo")
    assert changed.customer == replace(made.customer, name="Acme Ltd", zone="Asia/Tokyo")
    assert changed.subscriptions == made.subscriptions
    assert desk.customers.change("acme", email=None).customer == replace(changed.customer, email=None)
    assert desk.customers.get("acme").customer.email is None
    assert desk.customers.change("acme").customer.email is None
    assert desk.changes == ["acme"] * 3


def test_a_faulty_change_changes_nothing(desk: Desk) -> None:
    made = desk.customers.create("acme", "Acme", "ada@example.com")
    for fault in ({"name": ""}, {"name": "Ada", "email": "nobody"}, {"zone": "Mars/Olympus"}):
        with pytest.raises(InvalidRequest):
            desk.customers.change("acme", **fault)  # type: ignore[arg-type]
    assert desk.customers.get("acme") == made
    with pytest.raises(NotFound):
        desk.customers.change("nobody", name="Ada")
