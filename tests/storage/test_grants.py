"""The gate's one read: the right customer's rows, overrides applied, one statement."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from desk import CATALOG, Desk
from tollkeeper.core.grants import CustomerGrant, KeyGrant
from tollkeeper.core.keys import digest
from tollkeeper.core.plans import Quota, RateLimit


def test_a_key_is_found_with_its_customer_subscription_plan_limits_and_quotas(desk: Desk) -> None:
    record = desk.customers.create("acme", "Acme", "ada@example.com", "free")
    new = desk.keys.create("acme", "test", scopes=["read"], ips=["10.0.0.0/8"])
    plan = desk.catalog.plan("free", 1)
    grant = CustomerGrant(record.customer, record.subscription("test"), plan, plan.limits, plan.quotas)
    assert desk.database.grants.by_digest(digest(new.key)) == KeyGrant(new.record, grant)
    assert desk.database.grants.by_customer("test", "acme") == grant
    assert desk.database.grants.by_customer("live", "acme") == replace(grant, subscription=record.subscription("live"))


def test_a_server_key_has_no_grant(desk: Desk) -> None:
    new = desk.keys.create(kind="server", scopes=["check"])
    assert desk.database.grants.by_digest(digest(new.key)) == KeyGrant(new.record, None)


def test_what_is_not_there_is_none(desk: Desk) -> None:
    assert desk.database.grants.by_digest(digest("tk_live_nothing")) is None
    assert desk.database.grants.by_customer("live", "nobody") is None


def test_a_customer_without_a_plan_has_only_what_was_agreed(desk: Desk) -> None:
    customer = desk.customers.create("acme", "Acme").customer
    quota = Quota("api_calls", Decimal(5), "hard")
    desk.customers.set_quota("acme", "live", quota)
    assert desk.database.grants.by_customer("live", "acme") == CustomerGrant(customer, None, None, (), (quota,))
    assert desk.database.grants.by_customer("test", "acme") == CustomerGrant(customer, None, None, (), ())


def test_overrides_replace_by_name_and_meter_and_others_are_added(desk: Desk) -> None:
    desk.customers.create("acme", "Acme", plan="free")
    desk.customers.create("bolt", "Bolt", plan="free")
    burst, daily = RateLimit("burst", 50, 2), RateLimit("daily", 900, 86_400, "api_calls", "key")
    quota = Quota("api_calls", Decimal("2500.5"), "soft")
    desk.customers.set_limit("acme", "live", daily)
    desk.customers.set_limit("acme", "live", burst)
    desk.customers.set_quota("acme", "live", quota)
    live = desk.database.grants.by_customer("live", "acme")
    assert live is not None
    assert (live.limits, live.quotas) == ((burst, daily), (quota,))
    for environment, customer in (("test", "acme"), ("live", "bolt")):
        other = desk.database.grants.by_customer(environment, customer)  # type: ignore[arg-type]
        assert other is not None
        assert other.plan is not None
        assert (other.limits, other.quotas) == (other.plan.limits, other.plan.quotas)


def test_a_subscriber_keeps_the_limits_of_the_version_bought_until_moved(desk: Desk) -> None:
    desk.customers.create("acme", "Acme", plan="free")
    new = desk.keys.create("acme")

    def quota() -> Decimal:
        found = desk.database.grants.by_digest(digest(new.key))
        assert found is not None
        assert found.grant is not None
        return found.grant.quotas[0].limit

    desk.catalog.apply(CATALOG.replace('"1000"', '"500"'))
    assert quota() == Decimal(1000)
    desk.customers.move("acme", "free")
    assert quota() == Decimal(500)
    desk.customers.move("acme", "free", 1)
    assert quota() == Decimal(1000)


def test_revocation_and_last_use_are_seen_by_the_next_read(desk: Desk) -> None:
    desk.customers.create("acme", "Acme", plan="free")
    new = desk.keys.create("acme")
    revoked = desk.keys.revoke(new.id)
    found = desk.database.grants.by_digest(digest(new.key))
    assert found is not None
    assert found.key == revoked
    assert found.key.revoked_at is not None


def test_each_read_is_one_statement(desk: Desk) -> None:
    desk.customers.create("acme", "Acme", plan="free")
    desk.customers.set_limit("acme", "live", RateLimit("daily", 1, 1))
    new = desk.keys.create("acme")
    statements: list[str] = []

    @event.listens_for(desk.database.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    desk.database.grants.by_digest(digest(new.key))
    assert len(statements) == 1
    desk.database.grants.by_customer("live", "acme")
    assert len(statements) == 2


NAMES = st.sampled_from(["a", "b", "B", "a.b", "a:b", "ab"])
STEPS = st.lists(
    st.tuples(
        NAMES,
        st.sampled_from(["live", "test"]),
        st.sampled_from(["key", "member", "limit", "quota", "move", "rotate", "revoke"]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_one_customer_never_sees_anothers_rows(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any, str]]
) -> None:
    desk = Desk(tmp_path_factory.mktemp("d"))
    secrets: dict[tuple[str, str], list[str]] = {}
    limits: dict[tuple[str, str], RateLimit] = {}
    members: dict[str, set[str]] = {}
    plans: dict[tuple[str, str], str] = {}
    for number, (name, environment, step) in enumerate(steps):
        desk.now += 1
        if name not in members:
            desk.customers.create(name, name, plan="free")
            members[name] = set()
            plans |= {(name, "live"): "free", (name, "test"): "free"}
        if step == "key":
            secrets.setdefault((name, environment), []).append(desk.keys.create(name, environment).key)
        elif step == "member":
            members[name].add(desk.customers.add_member(name, "same@example.com").id)
        elif step == "limit":
            limits[name, environment] = RateLimit("burst", number + 1, 7)
            desk.customers.set_limit(name, environment, limits[name, environment])
        elif step == "quota":
            desk.customers.set_quota(name, environment, Quota("api_calls", Decimal(number), "soft"))
        elif step == "move":
            desk.customers.move(name, "pro", environment=environment)
            plans[name, environment] = "pro"
        else:
            for key in desk.keys.list(name, environment).items[:1]:
                if step == "revoke":
                    desk.keys.revoke(key.id)
                elif key.revoked_at is None and key.replaced_by is None:
                    secrets[name, environment].append(desk.keys.rotate(key.id).key)
    for name in members:
        assert {member.id for member in desk.customers.members(name)} == members[name]
        for environment in ("live", "test"):
            own = {digest(secret) for secret in secrets.get((name, environment), [])}
            assert {key.digest for key in desk.keys.list(name, environment).items} == own
            for found in map(desk.database.grants.by_digest, own):
                assert found is not None
                assert found.key.environment == environment
                assert found.grant == desk.database.grants.by_customer(environment, name)
                assert found.grant is not None
                assert found.grant.customer.id == name
            grant = desk.database.grants.by_customer(environment, name)
            assert grant is not None
            assert grant.subscription is not None
            assert (grant.subscription.customer, grant.subscription.environment) == (name, environment)
            assert grant.subscription.plan == plans[name, environment]
            assert grant.plan is not None
            assert grant.limits == (limits.get((name, environment), grant.plan.limits[0]),)
    desk.database.close()
