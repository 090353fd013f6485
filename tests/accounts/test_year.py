"""A year of many customers: every invoice, preview and sum is the accountant's, and no usage drifts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from accounts.year import Year
from sandbox.conftest import Running

SOAK = bool(os.environ.get("TOLLKEEPER_SOAK"))
SEEDS = range(1, 7) if SOAK else (2,)
CUSTOMERS, MONTHS, INVOICES = (30, 12, 200) if SOAK else (6, 3, 12)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_invoice_of_a_rehearsed_year_is_the_one_foreseen(tmp_path: Path, seed: int) -> None:
    running = Running()
    year = Year(tmp_path, running, seed, CUSTOMERS, MONTHS)
    try:
        year.run()
        compared = year.compare()
        assert year.failures == []
        assert year.drifting() == []
        assert compared >= INVOICES
        assert year.previewed
    finally:
        year.close()
        running.stop()
