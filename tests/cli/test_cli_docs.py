"""The pages made from the code say what the code says."""

from __future__ import annotations

import pytest

from .write_docs import DOCS, PAGES


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_page_equals_the_code(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run: python tests/cli/write_docs.py"
