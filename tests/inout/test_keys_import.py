"""Keys made elsewhere: taken over by digest, judged like any other, and junk still costs no read."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.conftest import Result, Run
from inout.conftest import TOKEN, Served
from pages import Page
from proxy.commands import free_port, running
from proxy.commands import run as command
from spine import SECOND, Spine
from tollkeeper import Gate
from tollkeeper.core.errors import InvalidRequest, Unreachable
from tollkeeper.core.keys import digest, looks_like_key, make_secret
from tollkeeper.services.foreign_keys import ForeignKeys
from tollkeeper.services.keys_import import KeyToImport
from web.site import Site

FOREIGN = "sk_prod_9fQz71bXkA0cD4eF5gH6iJ7kL8mN9"
PLAIN = "an-old-key-of-thirty-two-letters"


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Reads:
    """Counts the reads of a gate's grants."""

    def __init__(self, spine: Spine) -> None:
        self.inner = spine.app.gate._grants
        self.count = 0
        spine.app.gate._grants = self  # type: ignore[assignment]

    def by_digest(self, found: bytes) -> Any:
        self.count += 1
        return self.inner.by_digest(found)

    def by_customer(self, environment: Any, customer: str) -> Any:
        return self.inner.by_customer(environment, customer)


@pytest.fixture
def spine(tmp_path: Path) -> Any:
    spine = Spine(tmp_path)
    yield spine
    spine.app.close()


def code(spine: Spine, key: str) -> str:
    gate = spine.app.gate
    return str(gate.check(key, "api_calls").code)


def test_an_imported_key_of_another_format_is_judged_and_counted_also_after_a_restart(spine: Spine) -> None:
    customer = spine.customer()
    before = spine.key(customer)
    assert code(spine, FOREIGN) == "NOT_FOUND"
    [result] = spine.app.keys.import_([KeyToImport(customer, sha(FOREIGN))])
    assert (result.status, code(spine, FOREIGN)) == ("imported", "VALID")
    spine.reopen()
    assert code(spine, FOREIGN) == "VALID"
    assert code(spine, before) == "VALID"
    assert spine.used(customer=customer) == "3"
    assert spine.used(customer=customer, key=result.id) == "2"


def test_text_that_nobody_imported_costs_no_read(spine: Spine) -> None:
    spine.app.keys.import_([KeyToImport(spine.customer(), sha(FOREIGN))])
    reads = Reads(spine)
    for junk in (FOREIGN[:-1], FOREIGN + "0", FOREIGN.upper(), "", "\ud800", "tk_live_" + "0" * 36, "é" * 40):
        assert code(spine, junk) == "NOT_FOUND"
    assert reads.count == 0
    assert code(spine, FOREIGN) == "VALID"
    assert reads.count == 1


def test_revoking_and_expiry_stop_an_imported_key_at_once(spine: Spine) -> None:
    customer = spine.customer()
    soon = (spine.time.now + 60 * SECOND) // 1000
    first, second = spine.app.keys.import_(
        [KeyToImport(customer, sha(FOREIGN)), KeyToImport(customer, sha(PLAIN), expires_at=soon)]
    )
    assert (code(spine, FOREIGN), code(spine, PLAIN)) == ("VALID", "VALID")
    spine.app.keys.revoke(str(first.id))
    spine.time.move(60 * SECOND)
    assert (code(spine, FOREIGN), code(spine, PLAIN)) == ("DISABLED", "EXPIRED")
    again = spine.app.keys.import_([KeyToImport(customer, sha(FOREIGN)), KeyToImport(customer, sha(PLAIN))])
    assert [(one.status, one.id) for one in again] == [("duplicate", first.id), ("duplicate", second.id)]
    assert (code(spine, FOREIGN), code(spine, PLAIN)) == ("DISABLED", "EXPIRED")


def test_a_rotated_imported_key_is_followed_by_one_of_our_format(spine: Spine) -> None:
    [old] = spine.app.keys.import_([KeyToImport(spine.customer(), sha(FOREIGN))])
    new = spine.app.keys.rotate(str(old.id), 3600)
    assert looks_like_key(new.key) == "live"
    assert (code(spine, FOREIGN), code(spine, new.key)) == ("VALID", "VALID")
    spine.time.move(3600 * SECOND)
    assert (code(spine, FOREIGN), code(spine, new.key)) == ("EXPIRED", "VALID")


def test_a_key_is_never_given_to_a_second_customer_or_environment(spine: Spine) -> None:
    one, two = spine.customer(), spine.customer()
    made = spine.app.keys.create(one)
    sent = [
        KeyToImport(one, sha(FOREIGN)),
        KeyToImport(one, sha(FOREIGN)),
        KeyToImport(two, sha(FOREIGN)),
        KeyToImport(one, sha(FOREIGN), "test"),
        KeyToImport(two, sha(made.key)),
        KeyToImport(one, sha(made.key)),
    ]
    results = spine.app.keys.import_(sent)
    assert [r.status for r in results] == ["imported", "duplicate", "conflict", "conflict", "conflict", "duplicate"]
    assert {r.id for r in results[:4]} == {results[0].id}
    assert spine.app.gate.check(FOREIGN, "api_calls").who.customer == one


def test_a_faulty_key_is_told_by_its_field_and_spoils_no_other(spine: Spine) -> None:
    customer, good = spine.customer(), sha(FOREIGN)
    past = spine.time.now // 1000
    sent = [
        KeyToImport("nobody", good),
        KeyToImport("not an id", good),
        KeyToImport(customer, FOREIGN),
        KeyToImport(customer, good[:-2] + "  "),
        KeyToImport(customer, good, "prod"),
        KeyToImport(customer, good, name="a\nb"),
        KeyToImport(customer, good, prefix="tk_test_abcd"),
        KeyToImport(customer, good, last4="é"),
        KeyToImport(customer, good, scopes=["A b"]),
        KeyToImport(customer, good, expires_at=past),
        KeyToImport(customer, good, ips=["here"]),
        KeyToImport(customer, good),
    ]
    results = spine.app.keys.import_(sent)
    fields = (
        ["customer"] * 2 + ["digest"] * 2 + ["environment", "name", "prefix", "last4", "scopes", "expires_at", "ips"]
    )
    assert [(r.status, r.field) for r in results[:-1]] == [("rejected", field) for field in fields]
    assert results[-1].status == "imported"
    assert FOREIGN not in repr(results)
    assert FOREIGN not in repr(sent[2])
    with pytest.raises(InvalidRequest):
        spine.app.keys.import_([KeyToImport(customer, good)] * 1001)


def test_the_secret_of_an_imported_key_is_no_subject_of_an_event(spine: Spine) -> None:
    from tollkeeper.core.events import UsageEvent

    customer = spine.customer()
    spine.app.keys.import_([KeyToImport(customer, sha(FOREIGN))])
    results = spine.app.ingest.ingest_wait("live", [UsageEvent("a", "api.call", subject=FOREIGN, customer=customer)])
    assert [(r.status, r.code) for r in results] == [("rejected", "subject_invalid")]
    assert FOREIGN not in repr(results)


@given(st.sets(st.text(max_size=40), max_size=40), st.text(max_size=40))
def test_what_is_in_the_set_is_found_and_nothing_else(keys: set[str], other: str) -> None:
    texts = {key for key in keys if key.isprintable()}
    found = ForeignKeys(digest(key) for key in texts)
    assert all(found.has(key) for key in texts)
    assert found.has(other) == (other in texts)


async def test_an_imported_key_reads_its_own_usage_and_is_listed_without_its_digest(
    site: Site, api: httpx.AsyncClient
) -> None:
    await api.post("/v1/customers", json={"id": "acme", "name": "A", "plan": "free"})
    key = {"customer": "acme", "digest": sha(FOREIGN), "prefix": "sk_prod_", "last4": "8mN9", "name": "old"}
    late = {**key, "expires_at": "2026-02-30T00:00:00Z"}
    answer = await api.post("/v1/imports/keys", json={"keys": [late, key, {**key, "customer": "other"}]})
    assert answer.status_code == 200
    told = answer.json()
    assert [(one["index"], one["status"], one["field"]) for one in told["results"]] == [
        (0, "rejected", "expires_at"),
        (1, "imported", None),
        (2, "conflict", "digest"),
    ]
    listed = (await api.get("/v1/keys", params={"customer": "acme"})).json()["data"]
    assert [(one["prefix"], one["last4"], one["name"]) for one in listed] == [("sk_prod_", "8mN9", "old")]
    assert sha(FOREIGN) not in json.dumps(listed)
    async with site.client(FOREIGN) as own:
        site.reads = 0
        assert (await own.get("/v1/usage?meter=api_calls")).json()["total"] == "0"
        assert (await own.post("/v1/imports/keys", json={"keys": [key]})).status_code == 403
    async with site.client(FOREIGN + "x") as other:
        assert (await other.get("/v1/usage?meter=api_calls")).status_code == 401
    assert site.reads == 1


def table(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def test_plain_keys_are_digested_before_they_are_sent_and_are_nowhere(served: Served) -> None:
    (served.folder / "keys.csv").write_bytes(table("customer,key,name,scopes", f"acme,{FOREIGN},old,read write"))
    told = served.tell("keys", "import", "keys.csv", "--verbose")
    assert (told.code, told.out) == (0, "1 imported\n")
    assert FOREIGN not in told.err
    checked = served.tell("check", FOREIGN, "--meter", "api_calls", "--scope", "read", "--verbose")
    assert checked.code == 0
    assert FOREIGN not in checked.err
    assert served.ok("keys", "import", "keys.csv") == "0 imported, 1 duplicate\n"
    files = [str(path) for path in served.folder.iterdir() if path.is_file() and path.name != "keys.csv"]
    kept = subprocess.run(["cat", *files], check=True, capture_output=True).stdout
    assert digest(FOREIGN) in kept
    assert FOREIGN[8:-4].encode() not in kept
    [key] = json.loads(served.ok("keys", "list", "--json"))["data"]
    served.ok("keys", "revoke", key["id"], "--yes")
    assert "DISABLED" in served.tell("check", FOREIGN, "--meter", "api_calls").out


def test_each_faulty_row_is_told_by_its_line_and_the_others_are_imported(served: Served) -> None:
    rows = [
        "customer,key,expires",
        f"nobody,{FOREIGN},",
        "acme,short,",
        f"acme,{PLAIN},2020-01-01",
        f"acme,{PLAIN},soon",
        f"acme,{PLAIN}",
        f'acme,"{PLAIN}\nx",',
        f"acme,{make_secret('test', 7)},",
        f"acme,{PLAIN},30d",
    ]
    (served.folder / "keys.csv").write_bytes(table(*rows) + b"acme,\xff,\n")
    told = served.tell("keys", "import", "keys.csv")
    assert (told.code, told.out) == (1, "1 imported, 8 rejected\n")
    lines = sorted(int(line.split("keys.csv:")[1].split(":")[0]) for line in told.err.splitlines())
    assert lines == [2, 3, 4, 5, 6, 7, 9, 11]
    for secret in (FOREIGN, PLAIN, "short,", "tk_test_"):
        assert secret not in told.err


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"acme,0123456789abcdef0123\n",
        b"customer,key,key\n",
        b"customer,name\n",
        b"customer,key,digest\n",
        b"\xff\xfe,customer\n",
        b'customer,"key\n',
        b"key\nabc\n",
    ],
)
def test_a_file_without_a_sound_header_imports_nothing_and_repeats_nothing(
    ask: Run, server: Any, content: bytes
) -> None:
    told: Result = ask("keys", "import", "-", stdin=content)
    assert (told.code, told.out, server.asked) == (2, "", [])
    assert "0123456789abcdef" not in told.err


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    ports = {"3000": str(free_port())}
    page = Page("import-keys.md", ports)
    where = {"TOLLKEEPER_URL": f"http://127.0.0.1:{ports['3000']}"}

    def do(begins: str) -> str:
        done = command(tmp_path, *page.next("sh", begins).split()[1:], **where)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    (tmp_path / "keys.csv").write_text(page.next("csv"))
    (tmp_path / "plain.csv").write_text(page.next("csv"))
    do("tollkeeper init")
    with running(tmp_path, "serve", PORT=ports["3000"]) as server:
        server.until("listens on")
        do("tollkeeper customers create")
        assert do("tollkeeper keys import keys.csv") == page.next("text")
        assert do("tollkeeper keys import plain.csv") == page.next("text")
        assert do("tollkeeper check").startswith(page.next("text"))
        assert page.left() == {}
        assert server.stop() == 0
        assert server.troubles() == []


def test_a_connected_gate_asks_about_imported_keys_when_told_so(served: Served) -> None:
    (served.folder / "keys.csv").write_bytes(table("customer,key", f"acme,{FOREIGN}"))
    served.ok("keys", "import", "keys.csv")
    with Gate.connect(served.url, TOKEN) as gate:
        assert gate.check(FOREIGN, "api_calls").code == "NOT_FOUND"
    with Gate.connect(served.url, TOKEN, imported_keys=True) as gate:
        assert (gate.check(FOREIGN, "api_calls").code, gate.check("junk", "api_calls").code) == ("VALID", "NOT_FOUND")
    with Gate.connect("http://127.0.0.1:1", TOKEN, imported_keys=True, away="open") as gate, pytest.raises(Unreachable):
        gate.check(FOREIGN, "api_calls")
