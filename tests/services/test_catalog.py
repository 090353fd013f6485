"""Applying catalogs: versions, archived plans, nothing half applied."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from desk import CATALOG, DAY, START, Desk
from tollkeeper.core.catalog import parse_catalog
from tollkeeper.core.errors import CatalogInvalid, InvalidRequest, NotFound

SMALLER = CATALOG.replace('"1000"', '"500"')
WITHOUT_PRO = CATALOG[: CATALOG.index("[plans.pro]")]


def versions(desk: Desk) -> dict[str, int]:
    current = desk.catalog.current()
    assert current is not None
    return {key: plan.version for key, plan in current.catalog.plans.items()}


def test_before_the_first_apply_there_is_no_catalog(tmp_path_factory: pytest.TempPathFactory) -> None:
    desk = Desk(tmp_path_factory.mktemp("bare"), catalog=None)
    assert desk.catalog.current() is None
    with pytest.raises(NotFound):
        desk.catalog.plan("free")
    assert desk.catalog.apply(CATALOG).version.version == 1
    assert desk.changes == [None]
    desk.database.close()


def test_only_the_plans_that_changed_get_a_new_version(desk: Desk) -> None:
    desk.now += DAY
    applied = desk.catalog.apply(SMALLER)
    assert (applied.changed, applied.version.version, applied.version.applied_at) == (True, 2, START + DAY)
    assert versions(desk) == {"free": 2, "pro": 1}
    assert desk.catalog.plan("free", 1).quotas[0].limit == Decimal(1000)
    assert desk.catalog.plan("free").quotas[0].limit == Decimal(500)
    current = desk.catalog.current()
    assert current == applied.version
    assert current.text == SMALLER
    assert desk.changes == [None]


def test_the_same_catalog_again_makes_no_version(desk: Desk) -> None:
    before = desk.catalog.current()
    applied = desk.catalog.apply(CATALOG + "\n# a comment\n")
    assert not applied.changed
    assert applied.version == before == desk.catalog.current()
    assert desk.changes == []


def test_a_parsed_catalog_is_applied_like_its_text(desk: Desk) -> None:
    assert not desk.catalog.apply(parse_catalog(CATALOG)).changed
    current = desk.catalog.current()
    assert current is not None
    assert not desk.catalog.apply(current.catalog).changed
    assert desk.catalog.apply(parse_catalog(SMALLER)).changed
    assert versions(desk) == {"free": 2, "pro": 1}


def test_the_diff_tells_what_apply_would_do_and_does_nothing(desk: Desk) -> None:
    before = desk.catalog.current()
    diff = desk.catalog.diff(SMALLER)
    assert diff.plans_changed == ("free",)
    assert not desk.catalog.diff(CATALOG)
    assert desk.catalog.current() == before
    assert desk.catalog.apply(SMALLER).diff == diff


def test_a_plan_left_out_is_kept_for_its_subscribers_and_sold_to_nobody(desk: Desk) -> None:
    desk.customers.create("acme", "Acme", plan="pro")
    desk.catalog.apply(WITHOUT_PRO)
    with pytest.raises(NotFound):
        desk.catalog.plan("pro")
    grant = desk.database.grants.by_customer("live", "acme")
    assert grant is not None
    assert grant.plan == desk.catalog.plan("pro", 1)
    with desk.database.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT plan, version, archived FROM plan_versions ORDER BY plan").all()
    assert [tuple(row) for row in rows] == [("free", 1, 0), ("pro", 1, 1)]


def test_a_plan_brought_back_unchanged_keeps_its_version_and_otherwise_gets_the_next(desk: Desk) -> None:
    desk.catalog.apply(WITHOUT_PRO)
    desk.catalog.apply(CATALOG)
    assert versions(desk) == {"free": 1, "pro": 1}
    desk.catalog.apply(WITHOUT_PRO)
    desk.catalog.apply(CATALOG.replace('"0.002"', '"0.003"'))
    assert versions(desk) == {"free": 1, "pro": 2}


def test_going_back_to_an_old_content_is_a_new_version(desk: Desk) -> None:
    desk.catalog.apply(SMALLER)
    desk.catalog.apply(CATALOG)
    assert versions(desk) == {"free": 3, "pro": 1}
    assert replace(desk.catalog.plan("free", 3), version=1) == desk.catalog.plan("free", 1)


def test_a_faulty_catalog_changes_nothing(desk: Desk) -> None:
    before = desk.catalog.current()
    with pytest.raises(CatalogInvalid):
        desk.catalog.apply(CATALOG.replace('aggregation = "count"', 'aggregation = "counting"'))
    assert desk.catalog.current() == before
    assert desk.changes == []


def test_a_meter_stays_while_a_subscriber_is_on_a_plan_that_uses_it(desk: Desk) -> None:
    renamed = CATALOG.replace("api_calls", "calls")
    desk.customers.create("acme", "Acme", plan="free")
    before = desk.catalog.current()
    with pytest.raises(CatalogInvalid, match=r"meters\.api_calls.*version 1 of plan free"):
        desk.catalog.apply(renamed, file="shop.toml")
    assert [fault.key_path for fault in desk.catalog.diff(renamed).refused] == ["meters.api_calls"]
    assert desk.catalog.current() == before
    desk.customers.create("bolt", "Bolt", plan="pro")
    assert len(desk.catalog.diff(renamed).refused) == 1


def test_a_meter_that_nobody_uses_may_go(desk: Desk) -> None:
    assert desk.catalog.apply(CATALOG.replace("api_calls", "calls")).changed


@pytest.mark.parametrize(
    ("key", "version"), [("gold", None), ("free", 2), ("free", -1), ("\ud800", 1), ("free", 2**70)]
)
def test_a_plan_that_is_not_there_is_not_found(desk: Desk, key: str, version: int | None) -> None:
    with pytest.raises(NotFound):
        desk.catalog.plan(key, version)


def test_every_version_is_kept_and_listed_newest_first(desk: Desk) -> None:
    applied = [desk.catalog.version(1)]
    for text in (SMALLER, WITHOUT_PRO):
        desk.now += DAY
        applied.append(desk.catalog.apply(text).version)
    first = desk.catalog.versions(limit=2)
    assert list(first.items) == applied[:0:-1]
    rest = desk.catalog.versions(first.next, limit=2)
    assert (list(rest.items), rest.next) == (applied[:1], None)
    assert [desk.catalog.version(number) for number in (1, 2, 3)] == applied


def test_a_version_that_never_was_is_not_found(desk: Desk) -> None:
    for version in (0, 2, -1, 2**80):
        with pytest.raises(NotFound):
            desk.catalog.version(version)
    with pytest.raises(InvalidRequest):
        desk.catalog.versions("cus_x")


def test_a_meter_that_was_removed_comes_back_only_as_it_was(desk: Desk) -> None:
    desk.catalog.apply(CATALOG.replace("api_calls", "calls"))
    with pytest.raises(CatalogInvalid, match=r"meters\.api_calls\.event_type"):
        desk.catalog.apply(CATALOG.replace('event_type = "', 'event_type = "other.'))
    assert desk.catalog.apply(CATALOG).changed


def test_a_feature_that_was_removed_comes_back_only_as_it_was(desk: Desk) -> None:
    feature = '[features.seats]\nkind = "{}"\n'
    desk.catalog.apply(CATALOG + feature.format("static"))
    desk.catalog.apply(CATALOG)
    with pytest.raises(CatalogInvalid) as refusal:
        desk.catalog.apply(CATALOG + feature.format("boolean"))
    assert [fault.key_path for fault in refusal.value.faults] == ["features.seats.kind"]
    assert desk.catalog.apply(CATALOG + feature.format("static")).changed


def test_a_file_is_applied_and_its_faults_carry_its_name(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALLER.encode())
    assert desk.catalog.apply_file(path).version.version == 2
    path.write_bytes(b'name = "caf\xe9"')
    with pytest.raises(CatalogInvalid, match=r"shop\.toml:1: expected text in UTF-8, found the byte 0xe9"):
        desk.catalog.apply_file(path)
    for missing in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(CatalogInvalid, match="expected a catalog, found a file that cannot be read: "):
            desk.catalog.apply_file(missing)
    assert versions(desk) == {"free": 2, "pro": 1}
