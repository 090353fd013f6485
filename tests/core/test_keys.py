from __future__ import annotations

import hashlib

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tollkeeper.core.customers import ENVIRONMENTS, Environment
from tollkeeper.core.keys import BASE62, KEY_LENGTH, RANDOM_LENGTH, base62, digest, looks_like_key, make_secret

environments = st.sampled_from(ENVIRONMENTS)
randoms = st.integers(0, 62**RANDOM_LENGTH - 1)


@given(environments, randoms)
@example("live", 0)
@example("test", 62**RANDOM_LENGTH - 1)
def test_a_made_secret_is_well_formed_and_names_its_environment(environment: Environment, random: int) -> None:
    secret = make_secret(environment, random)
    assert len(secret) == KEY_LENGTH
    assert secret.startswith(f"tk_{environment}_")
    assert looks_like_key(secret) == environment


@given(environments, randoms, randoms)
def test_different_random_numbers_make_different_secrets(environment: Environment, one: int, other: int) -> None:
    assert (make_secret(environment, one) == make_secret(environment, other)) == (one == other)


@given(
    environments, randoms, st.integers(0, KEY_LENGTH - 1), st.sampled_from(BASE62 + "_- \0é\ud800") | st.characters()
)
def test_any_single_character_change_of_a_key_is_refused(
    environment: Environment, random: int, where: int, character: str
) -> None:
    secret = make_secret(environment, random)
    assume(character != secret[where])
    assert looks_like_key(secret[:where] + character + secret[where + 1 :]) is None


@given(environments, randoms, st.integers(0, KEY_LENGTH - 2))
def test_two_neighbours_swapped_are_refused(environment: Environment, random: int, where: int) -> None:
    secret = make_secret(environment, random)
    assume(secret[where] != secret[where + 1])
    assert looks_like_key(secret[:where] + secret[where + 1] + secret[where] + secret[where + 2 :]) is None


@given(environments, randoms, st.integers(0, KEY_LENGTH - 1))
def test_a_character_lost_or_doubled_is_refused(environment: Environment, random: int, where: int) -> None:
    secret = make_secret(environment, random)
    assert looks_like_key(secret[:where] + secret[where + 1 :]) is None
    assert looks_like_key(secret[:where] + secret[where] + secret[where:]) is None


@given(st.text(max_size=60) | st.text(BASE62, min_size=36, max_size=36).map("tk_live_".__add__))
def test_text_nobody_made_is_refused(text: str) -> None:
    assert looks_like_key(text) is None


@given(st.integers(0, 62**6 - 1))
def test_base_62_is_positional_with_a_fixed_length(number: int) -> None:
    text = base62(number, 6)
    assert len(text) == 6
    value = 0
    for character in text:
        value = value * 62 + BASE62.index(character)
    assert value == number


def test_the_digest_is_sha_256_of_the_whole_key() -> None:
    secret = make_secret("live", 1)
    assert digest(secret) == hashlib.sha256(secret.encode()).digest()


@pytest.mark.parametrize("text", ["tk_live_", "tk_prod_" + "0" * 36, "TK_LIVE_" + "0" * 36, "", "\ud800" * KEY_LENGTH])
def test_other_shapes_are_refused_without_raising(text: str) -> None:
    assert looks_like_key(text) is None
