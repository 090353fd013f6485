"""Keys: shown once, kept as digests, rotated with overlap, revoked."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import replace
from typing import Any

import pytest

from desk import DAY, SECOND, START, Desk
from tollkeeper.core.errors import Conflict, InvalidRequest, NotFound
from tollkeeper.core.keys import digest, looks_like_key
from tollkeeper.services.keys import OVERLAPS, NewKey


@pytest.fixture(autouse=True)
def _customers(desk: Desk) -> None:
    for customer in ("acme", "bolt"):
        desk.customers.create(customer, customer, plan="free")
    desk.changes.clear()


def test_a_key_is_well_formed_and_stored_as_its_digest(desk: Desk) -> None:
    new = desk.keys.create("acme", "test", "ci", ["read", "write", "read"], START + DAY, ["10.0.0.0/8", "2001:db8::1"])
    assert looks_like_key(new.key) == "test"
    assert (new.prefix, new.last4) == (new.key[:12], new.key[-4:])
    stored = desk.keys.get(new.id)
    assert stored == new.record
    assert stored.digest == digest(new.key)
    assert (stored.customer, stored.environment, stored.kind, stored.name) == ("acme", "test", "customer", "ci")
    assert stored.scopes == ("read", "write")
    assert stored.ips == ("10.0.0.0/8", "2001:db8::1/128")
    assert (stored.created_at, stored.expires_at, stored.revoked_at) == (START, START + DAY, None)
    assert desk.changes == ["acme"]


def test_an_ipv4_address_written_as_ipv6_is_kept_as_the_address_it_is(desk: Desk) -> None:
    sent = ["::ffff:10.1.2.3", "::ffff:10.0.0.0/104", "::ffff:0:0/96", "::/0"]
    new = desk.keys.create("acme", ips=sent)
    assert new.record.ips == ("10.1.2.3/32", "10.0.0.0/8", "0.0.0.0/0", "::/0")


def test_the_secret_is_nowhere_in_the_database_or_in_what_is_printed(desk: Desk) -> None:
    one = desk.keys.create("acme", name="one")
    two = desk.keys.rotate(one.id)
    server = desk.keys.create(kind="server", scopes=["check"])

    def stored() -> bytes:
        # read by another process: closing the file in this one would drop SQLite's own locks
        files = sorted(str(path) for path in desk.path.parent.iterdir())
        return subprocess.run(["cat", *files], check=True, capture_output=True).stdout

    live = stored()
    desk.database.close()
    closed = stored()
    for new in (one, two, server):
        random_part = new.key[8:-6].encode()
        for content in (live, closed):
            assert new.id.encode() in content
            assert digest(new.key) in content
            assert random_part not in content
            assert random_part[4:] not in content
        assert new.key not in repr(new)
        assert new.key not in str(new.record)


def test_server_keys_belong_to_no_customer_and_need_a_scope_of_the_server(desk: Desk) -> None:
    new = desk.keys.create(kind="server", scopes=["check", "usage:read"])
    assert desk.keys.get(new.id).customer is None
    assert desk.changes == [None]
    for fault in (
        {"scopes": []},
        {"scopes": ["admin"]},
        {"scopes": ["check", "x"]},
        {"customer": "acme", "scopes": ["check"]},
    ):
        with pytest.raises(InvalidRequest):
            desk.keys.create(kind="server", **fault)  # type: ignore[arg-type]
    assert desk.keys.list(kind="server").items == [new.record]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("customer", None),
        ("customer", "a b"),
        ("environment", "prod"),
        ("kind", "root"),
        ("name", "a\0"),
        ("name", "n" * 201),
        ("scopes", ["Read"]),
        ("scopes", [""]),
        ("scopes", ["a" * 65]),
        ("scopes", "read"),
        ("scopes", [1]),
        ("scopes", {"a": 1}),
        ("scopes", [f"s{n}" for n in range(33)]),
        ("ips", ["10.0.0.1/8"]),
        ("ips", ["localhost"]),
        ("ips", ["fe80::1%eth0"]),
        ("ips", ["10.0.0.0/33"]),
        ("ips", [167772161]),
        ("ips", [f"10.0.0.{n}" for n in range(65)]),
        ("expires_at", START),
        ("expires_at", -1),
        ("expires_at", 2**63),
        ("expires_at", 1e18),
        ("expires_at", True),
    ],
)
def test_a_faulty_field_is_named_and_no_key_is_made(desk: Desk, field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as fault:
        desk.keys.create(**{"customer": "acme", field: value})
    assert fault.value.extra["field"] == field
    assert desk.keys.list().items == []
    assert desk.changes == []


def test_a_key_for_an_unknown_customer_is_refused(desk: Desk) -> None:
    with pytest.raises(NotFound):
        desk.keys.create("nobody")
    assert desk.keys.list().items == []


@pytest.mark.parametrize("overlap", [*OVERLAPS, 1, 2_592_000])
def test_after_a_rotation_both_keys_live_for_the_overlap(desk: Desk, overlap: int) -> None:
    old = desk.keys.create("acme", "test", "ci", ["read"], None, ["10.0.0.0/8"])
    desk.now += DAY
    new = desk.keys.rotate(old.id, overlap)
    ended = desk.keys.get(old.id)
    assert (ended.expires_at, ended.replaced_by, ended.revoked_at) == (START + DAY + overlap * SECOND, new.id, None)
    fresh = {
        "id": new.id,
        "digest": digest(new.key),
        "prefix": new.prefix,
        "last4": new.last4,
        "created_at": START + DAY,
    }
    assert desk.keys.get(new.id) == replace(old.record, **fresh)  # type: ignore[arg-type]
    assert new.key != old.key
    assert desk.changes == ["acme", "acme"]


def test_a_rotation_never_prolongs_the_old_key_and_keeps_the_expiry(desk: Desk) -> None:
    old = desk.keys.create("acme", expires_at=START + 60 * SECOND)
    new = desk.keys.rotate(old.id, 3600)
    assert desk.keys.get(old.id).expires_at == START + 60 * SECOND
    assert new.record.expires_at == START + 60 * SECOND


@pytest.mark.parametrize("overlap", [-1, 2_592_001, 1.5, True, None, "0"])
def test_an_overlap_out_of_bounds_is_refused(desk: Desk, overlap: Any) -> None:
    key = desk.keys.create("acme")
    with pytest.raises(InvalidRequest, match="overlap_seconds: "):
        desk.keys.rotate(key.id, overlap)
    assert desk.keys.get(key.id) == key.record


def test_a_key_that_is_rotated_revoked_or_expired_is_not_rotated(desk: Desk) -> None:
    rotated, revoked, expired = (desk.keys.create("acme", expires_at=START + end) for end in (DAY, DAY, 1))
    desk.keys.rotate(rotated.id, 3600)
    desk.keys.revoke(revoked.id)
    desk.now += 1
    for key in (rotated, revoked, expired):
        with pytest.raises(Conflict):
            desk.keys.rotate(key.id)
    assert len(desk.keys.list().items) == 4


def test_ten_threads_rotating_one_key_make_one_successor(desk: Desk) -> None:
    key = desk.keys.create("acme")
    made: list[NewKey] = []
    refused: list[Conflict] = []

    def rotate() -> None:
        try:
            made.append(desk.keys.rotate(key.id))
        except Conflict as conflict:
            refused.append(conflict)

    threads = [threading.Thread(target=rotate) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 9)
    assert desk.keys.get(key.id).replaced_by == made[0].id


def test_revoking_is_told_at_once_and_the_first_instant_stays(desk: Desk) -> None:
    key = desk.keys.create("acme")
    assert desk.keys.revoke(key.id).revoked_at == START
    desk.now += DAY
    assert desk.keys.revoke(key.id).revoked_at == START
    assert desk.changes == ["acme", "acme", "acme"]


def test_last_use_is_recorded_in_batches_and_never_goes_back(desk: Desk) -> None:
    one, two = desk.keys.create("acme"), desk.keys.create("bolt")
    desk.changes.clear()
    desk.keys.touch({one.id: START + 5, two.id: START + 7, "key_unknown": START})
    desk.keys.touch({one.id: START + 3})
    desk.keys.touch({})
    assert [desk.keys.get(key.id).last_used_at for key in (one, two)] == [START + 5, START + 7]
    assert desk.changes == []


def test_lists_are_filtered_and_paged_in_the_order_of_making(desk: Desk) -> None:
    made = []
    for number in range(5):
        desk.now += SECOND
        made.append(desk.keys.create("acme", "live" if number % 2 else "test", str(number)).record)
    other = desk.keys.create("bolt").record
    first = desk.keys.list("acme", limit=3)
    assert [*first.items, *desk.keys.list("acme", cursor=first.next, limit=3).items] == made
    assert desk.keys.list("acme", "live").items == [made[1], made[3]]
    assert desk.keys.list("bolt").items == [other]
    assert desk.keys.list("nobody").items == []
    for fault in ({"customer": "a b"}, {"environment": "prod"}, {"kind": "root"}, {"cursor": ""}, {"limit": 0}):
        with pytest.raises(InvalidRequest):
            desk.keys.list(**fault)  # type: ignore[arg-type]


@pytest.mark.parametrize("key_id", ["key_unknown", "\ud800", "a\0"])
def test_an_unknown_key_is_not_found_and_not_repeated(desk: Desk, key_id: str) -> None:
    for call in (desk.keys.get, desk.keys.revoke, desk.keys.rotate):
        with pytest.raises(NotFound) as refusal:
            call(key_id)
        assert key_id not in refusal.value.detail
