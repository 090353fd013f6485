"""What `import tollkeeper` offers, pinned."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tollkeeper
from tollkeeper.core.errors import AlreadyOpen

CATALOG = """
currency = "usd"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[plans.free]
quotas = [{meter = "api_calls", limit = "2", kind = "hard"}]
"""


def test_the_public_names_are_these() -> None:
    assert tollkeeper.__all__ == ["Client", "Decision", "Gate", "__version__"]
    assert [n for n, _ in inspect.getmembers(tollkeeper.Gate, inspect.isfunction) if n[0] != "_"] == [
        "check",
        "close",
        "record",
        "usage",
    ]
    with pytest.raises(AttributeError):
        tollkeeper.nothing  # noqa: B018


def test_importing_loads_no_vendor_package_and_starts_nothing() -> None:
    code = "import sys, threading, tollkeeper; print(sorted(sys.modules)); print(threading.active_count())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for package in ("apsw", "sqlalchemy", "fastapi", "msgspec", "uvicorn", "typer", "asyncio", "sqlite3"):
        assert f"'{package}'" not in out
    assert out.splitlines()[-1] == "1"


def test_the_gate_in_a_program_checks_counts_and_looks_up(tmp_path: Path) -> None:
    catalog = tmp_path / "tollkeeper.toml"
    catalog.write_text(CATALOG)
    url = str(tmp_path / "toll.db")
    with tollkeeper.Gate.open(url, catalog=catalog) as gate:
        customer = gate.toll.customers.create(name="Ann", plan="free").customer.id
        key = gate.toll.keys.create(customer=customer).key
        assert gate.check(key, "api_calls").allowed
        assert [r.status for r in gate.record([{"id": "1", "type": "api.call", "customer": customer}] * 2)] == [
            "accepted",
            "duplicate",
        ]
        assert gate.check(key, "api_calls").code == "QUOTA_EXCEEDED"
        assert gate.usage("api_calls", customer=customer).total == "2"
        with pytest.raises(AlreadyOpen, match="TOLLKEEPER_URL"):
            tollkeeper.Gate.open(url)
    with tollkeeper.Gate.open(url) as again:
        assert again.usage("api_calls", customer=customer).total == "2"
