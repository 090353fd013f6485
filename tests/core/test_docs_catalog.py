from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tollkeeper.core.catalog import check_catalog
from tollkeeper.core.catalog_keys import DEPENDS, MODELS, REQUIRED, SECTIONS
from tollkeeper.core.metering import format_quantity

PAGE = (Path(__file__).parents[2] / "docs" / "catalog.md").read_text()
HEADER = "| key | takes | default | meaning |\n|---|---|---|---|\n"


def default(value: Any) -> str:
    if value is REQUIRED:
        return "*required*"
    if value is DEPENDS:
        return "*see text*"
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{format_quantity(value) if isinstance(value, Decimal) else value}"`'


def table(section: str) -> str:
    """The section's keys as they stand in the page."""
    return HEADER + "\n".join(
        f"| `{key.name}` | {key.kind.expected or 'tables'} | {default(key.default)} | {key.meaning} |"
        for key in SECTIONS[section]
    )


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s or "top")
def test_the_page_has_every_key_with_what_it_takes_its_default_and_meaning(section: str) -> None:
    assert table(section) + "\n" in PAGE


def test_the_page_has_no_key_that_does_not_exist() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert documented == [key.name for section in SECTIONS.values() for key in section]


def test_the_page_says_which_keys_each_model_needs_and_takes() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| (`.*) \|$", PAGE, re.MULTILINE))
    assert set(rows) == set(MODELS)
    for model, row in rows.items():
        needs, takes = (set(re.findall(r"`(\w+)`", cell)) for cell in row.split(" | "))
        needed, taken = MODELS[model]
        assert needs == set(needed)
        assert needs | takes | {"key", "model"} == taken


def test_the_example_of_the_page_has_neither_fault_nor_warning() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert check_catalog(example)[1:] == ((), ())
