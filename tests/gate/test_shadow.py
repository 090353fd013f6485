"""Shadow mode refuses nothing, counts as it would, and tells what it would have refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.commands import free_port, run, running
from spine import DAY, SECOND, Spine
from tollkeeper.core.errors import CatalogInvalid, StorageUnavailable

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "shadow.md").read_text()
[CATALOG] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
LIMITED = (
    CATALOG
    + 'limits = [{name = "burst", limit = 1, window_seconds = 60}]\n'
    + '[plans.pro]\nquotas = [{meter = "api_calls", limit = "1", kind = "hard"}]\n'
)


@pytest.fixture
def toll(tmp_path: Path) -> Iterator[Spine]:
    spine = Spine(tmp_path, LIMITED)
    yield spine
    spine.app.close()


def switch(spine: Spine, plans: str) -> None:
    spine.app.catalog.apply(LIMITED.replace('shadow = ["free"]', f"shadow = {plans}"))


def test_limits_and_quotas_of_a_plan_in_shadow_let_through_and_are_told(toll: Spine) -> None:
    customer = toll.customer("free")
    key = toll.key(customer)
    first, limited = (toll.app.gate.check(key, "api_calls") for _ in range(2))
    toll.time.move(60 * SECOND)
    assert toll.app.gate.check(key, "api_calls").shadow is None
    toll.time.move(60 * SECOND)
    over = toll.app.gate.check(key, "api_calls")
    assert [(d.code, d.shadow, bool(d.event_id)) for d in (first, limited, over)] == [
        ("VALID", None, True),
        ("VALID", "RATE_LIMITED", False),
        ("VALID", "QUOTA_EXCEEDED", False),
    ]
    assert json.loads(over.to_json()) == over.as_dict()
    assert toll.used(customer=customer) == "2"
    [report] = toll.app.shadow.report().customers
    assert (report.customer, report.codes) == (customer, {"RATE_LIMITED": 1, "QUOTA_EXCEEDED": 1})
    assert toll.app.gate.decisions["live"] | {"VALID": 4} == toll.app.gate.decisions["live"]
    assert sum(toll.app.gate.decisions["live"].values()) == 4


def test_other_plans_and_keys_are_refused_as_ever(toll: Spine) -> None:
    pro = toll.key(toll.customer("pro"))
    assert [toll.app.gate.check(pro, "api_calls").code for _ in range(2)] == ["VALID", "QUOTA_EXCEEDED"]
    free = toll.customer("free")
    made = toll.app.keys.create(customer=free)
    toll.app.keys.revoke(made.record.id)
    assert toll.app.gate.check(made.key, "api_calls").code == "DISABLED"
    assert toll.app.gate.check("junk", "api_calls").code == "NOT_FOUND"
    assert toll.app.shadow.report().refused == 0


def test_a_star_lets_everybody_through(toll: Spine) -> None:
    switch(toll, '["*"]')
    for raw in ("junk", toll.key(toll.customer(None))):
        decision = toll.app.gate.check(raw, "api_calls")
        assert (decision.code, decision.event_id) == ("VALID", None)
    report = toll.app.shadow.report()
    assert {one.customer != "": one.codes for one in report.customers} == {
        False: {"NOT_FOUND": 1},
        True: {"PAYMENT_REQUIRED": 1},
    }


def test_it_holds_at_once_both_ways_for_whoever_is_on_the_plan(toll: Spine) -> None:
    key = toll.key(toll.customer("free"))
    for plans, code in (
        ('["free"]', "VALID"),
        ("[]", "RATE_LIMITED"),
        ('["pro"]', "RATE_LIMITED"),
        ('["free"]', "VALID"),
    ):
        switch(toll, plans)
        toll.app.gate.check(key, "api_calls")
        assert toll.app.gate.check(key, "api_calls").code == code


def test_the_report_survives_a_restart_and_says_when_it_is_safe(toll: Spine) -> None:
    key = toll.key(toll.customer("free"))
    for _ in range(3):
        toll.app.gate.check(key, "api_calls")
    toll.reopen()
    report = toll.app.shadow.report()
    assert (report.refused, report.safe, report.since) == (2, False, None)
    toll.time.move(8 * DAY)
    report = toll.app.shadow.report()
    assert (report.refused, report.safe) == (0, True)
    assert toll.app.shadow.report(days=30).refused == 2
    switch(toll, "[]")
    assert not toll.app.shadow.report().safe


def test_what_cannot_be_written_is_kept(toll: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    key = toll.key(toll.customer("free"))
    for _ in range(2):
        toll.app.gate.check(key, "api_calls")

    def full() -> None:
        raise StorageUnavailable("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(toll.app.database, "write", full)
        with pytest.raises(StorageUnavailable):
            toll.app.shadow.flush()
    toll.app.gate.check(key, "api_calls")
    assert toll.app.shadow.report().refused == 2


def test_the_catalog_names_plans_that_are_there(toll: Spine) -> None:
    for plans in ('["fre"]', '["free", "free"]', '"free"', "[1]", '["free", "*", "other"]'):
        with pytest.raises(CatalogInvalid, match="shadow"):
            switch(toll, plans)


def test_the_how_to(tmp_path: Path) -> None:
    (tmp_path / "tollkeeper.toml").write_text(CATALOG)
    port = str(free_port())
    env = {"PORT": port, "TOLLKEEPER_ADMIN_TOKEN": "admin-token-of-the-tests"}
    here = {**env, "TOLLKEEPER_URL": f"http://127.0.0.1:{port}"}
    with running(tmp_path, "serve", **env) as server:
        server.wait_for_port(port)
        commands = re.findall(r"```sh\ntollkeeper (.*?)\n```", PAGE)
        assert run(tmp_path, *commands[0].split(), **here).returncode == 0
        run(tmp_path, "customers", "create", "Ann", "--id", "ann", "--plan", "free", **here)
        key = json.loads(run(tmp_path, "keys", "create", "--customer", "ann", "--json", **here).stdout)["key"]
        for _ in range(3):
            told = json.loads(run(tmp_path, "check", key, "--meter", "api_calls", "--json", **here).stdout)
        [answer] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
        assert json.loads(answer).items() <= told.items()
        report = run(tmp_path, *commands[1].split(), **here)
        assert report.returncode == 1
        assert "QUOTA_EXCEEDED 1" in report.stdout
        assert "Not yet: 1 call would have been refused in the last 7 days." in PAGE
        assert "Not yet: 1 call would have been refused in the last 7 days." in report.stdout
