from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tollkeeper.core.ids import CROCKFORD, new_id, ulid, ulid_value

LAST_MS = 2**48 - 1
LAST_RANDOM = 2**80 - 1
milliseconds = st.integers(0, LAST_MS)
randoms = st.integers(0, LAST_RANDOM)


@given(milliseconds, randoms)
@example(0, 0)
@example(LAST_MS, LAST_RANDOM)
def test_a_ulid_reads_back_as_its_time_and_its_random_bits(ms: int, random80: int) -> None:
    text = ulid(ms, random80)
    assert len(text) == 26
    assert set(text) <= set(CROCKFORD)
    assert ulid_value(text) == ms << 80 | random80


@given(milliseconds, randoms, milliseconds, randoms)
def test_ids_sort_as_text_by_the_time_they_were_made(
    ms: int, random80: int, other_ms: int, other_random80: int
) -> None:
    one, other = new_id("cus", ms, random80), new_id("cus", other_ms, other_random80)
    assert (one < other) == ((ms, random80) < (other_ms, other_random80))
    assert (one == other) == ((ms, random80) == (other_ms, other_random80))


def test_the_example_of_the_specification_has_its_published_time() -> None:
    value = ulid_value("01ARYZ6S41TSV4RRFFQ69G5FAV")  # https://github.com/ulid/spec: 1469918176385
    assert value is not None
    assert value >> 80 == 1469918176385


@given(st.text(max_size=30) | st.text(CROCKFORD + "ilou", min_size=25, max_size=27))
def test_text_that_is_no_canonical_ulid_is_none(text: str) -> None:
    value = ulid_value(text)
    assert value is None or ulid(value >> 80, value & LAST_RANDOM) == text
