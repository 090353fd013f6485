"""Bloom filters of one word a key."""

from __future__ import annotations

import hashlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.storage.sql.usage import filters
from tollkeeper.storage.sql.usage.filters import Filter, Probe

KEY = struct.Struct(">QBB6x")
digests = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=2, max_size=2).map(lambda end: b"\xff" * 14 + end),
    st.binary(min_size=2, max_size=2).map(lambda end: bytes(14) + end),
)


def uniform(numbers: range) -> list[bytes]:
    return [hashlib.blake2b(n.to_bytes(8, "big"), digest_size=16).digest() for n in numbers]


def built(keys: list[bytes], pieces: int = 1) -> Filter:
    made = Filter(len(keys))
    for at in range(0, len(keys), -(-len(keys) // pieces)):
        made.add(b"".join(sorted(keys)[at : at + -(-len(keys) // pieces)]), KEY)
    made.fill()
    return made


def hits(asked: list[bytes], asked_of: Filter) -> list[int]:
    probe = Probe(asked)
    return probe.hits(probe.words(asked_of.shift)(asked_of.words))


@given(st.lists(digests, min_size=1, max_size=300), st.integers(1, 5))
def test_a_filter_passes_every_key_added_to_it_in_however_many_pieces(keys: list[bytes], pieces: int) -> None:
    assert hits(keys, built(keys, pieces)) == list(range(len(keys)))


def test_one_stranger_in_two_hundred_passes_at_most() -> None:
    strangers = uniform(range(1_000_000, 1_040_000))
    for count in (24_000, 36_000):  # as many bits a key as in use, and the fewest
        assert len(hits(strangers, built(uniform(range(count))))) < 0.008 * len(strangers)
    assert len(hits(strangers, built(uniform(range(24_576))))) < 0.005 * len(strangers)


@given(st.lists(digests, min_size=1, max_size=300))
def test_a_filter_read_from_its_parts_is_the_same(keys: list[bytes]) -> None:
    made, read = built(keys), Filter(len(keys))
    for part in range(-(-made.size // filters.PART_WORDS)):
        read.load(made.part(part))
    assert read.words == made.words


def test_the_format_on_disk_has_not_changed() -> None:
    parts = built(uniform(range(30_000))).part(0) + built(uniform(range(30_000))).part(1)
    assert hashlib.sha256(parts).hexdigest() == "6ac2f9fd3eaf4bab06366c3d1a680c5e3dc593f0ead766c751c241b26529b784"
