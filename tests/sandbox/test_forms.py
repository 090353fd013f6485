"""What the official client encodes is decoded to what it was given."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe._encode import _api_encode

from tollkeeper.sandbox import forms
from tollkeeper.sandbox.errors import ApiError

NAMES = st.text(st.characters(exclude_characters="[]", exclude_categories=["Cs"]), min_size=1, max_size=6)
VALUES = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=8,
)


def indexed(value: Any) -> Any:
    """Lists as mappings of their indices, which is how a form has them."""
    if isinstance(value, list):
        return {str(index): indexed(item) for index, item in enumerate(value)}
    if isinstance(value, dict):
        return {name: indexed(item) for name, item in value.items()}
    return value


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_a_form_of_the_official_client_is_decoded_to_what_it_was_made_of(params: dict[str, Any]) -> None:
    assert forms.decode(urlencode(list(_api_encode(params)))) == indexed(params)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("expand[]=a&expand[]=b", {"expand": {"0": "a", "1": "b"}}),
        (
            "i[][price]=a&i[][quantity]=1&i[][price]=b",
            {"i": {"0": {"price": "a", "quantity": "1"}, "1": {"price": "b"}}},
        ),
        ("metadata=", {"metadata": ""}),
    ],
)
def test_lists_without_indices_are_counted(form: str, expected: dict[str, Any]) -> None:
    assert forms.decode(form) == expected


@pytest.mark.parametrize(
    "form", ["a[b=1", "[a]=1", "a]b[=1", "a[b]c=1", "a=1&a[b]=2", "a[b]=1&a=2", "a" + "[b]" * 30 + "=1"]
)
def test_a_name_that_is_none_is_refused(form: str) -> None:
    with pytest.raises(ApiError):
        forms.decode(form)
