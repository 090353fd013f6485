"""Bloom filters of one 64-bit word a key: "certainly not here" for the price of one index and one AND.

A word is chosen by the top bits of a key's first 8 bytes, and the bits inside it by a table of masks, so the words stand in the
order of the keys: a filter can be built front to back from sorted keys, written in parts as they become final, and read again.
Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007), section 3: blocked filters with bit patterns.

A member has its bits cleared, so a probe is `word & mask == 0`. With 21 bits a key 0.2 % of strangers pass.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from operator import and_, itemgetter
from typing import Any

ONES = (1 << 64) - 1
PART_WORDS = 4096  # a part on disk: 32 KB
MIN_BITS = 14  # a key; the number of words is a power of two, so up to twice as many

_HEAD = struct.Struct(">QBB6x")  # a 16-byte digest: the word's number in the top bits, then two patterns


def _patterns() -> tuple[list[int], list[int]]:
    """Two tables of 256 patterns of three bits; a key sets one of each. Part of the format on disk: they never change.

    Small tables, because a large one costs a memory access a lookup.
    """
    patterns: list[int] = []
    state = 1
    while len(patterns) < 512:
        # Knuth's MMIX generator, of which the high bits are the good ones
        state = (state * 6364136223846793005 + 1442695040888963407) & ONES
        pattern = 1 << (state >> 58) | 1 << (state >> 52 & 63) | 1 << (state >> 46 & 63)
        if pattern.bit_count() == 3:
            patterns.append(pattern)
    return patterns[:256], patterns[256:]


_A, _B = _patterns()
_CLEAR_A, _CLEAR_B = [ONES ^ pattern for pattern in _A], [ONES ^ pattern for pattern in _B]


class Filter:
    """A filter for `keys` keys, at first without words: they appear as sorted records are added, and `fill` appends the rest."""

    def __init__(self, keys: int) -> None:
        bits = max((MIN_BITS * keys - 1) // 64, 0).bit_length()
        self.size = 1 << bits
        self.shift = 64 - bits
        self.words = array("Q")

    def add(self, records: bytes, record: struct.Struct) -> None:
        """Adds the keys of sorted `records`; `record` unpacks one to its first 8 bytes, big-endian, and the next two."""
        words, shift, clear_a, clear_b = self.words, self.shift, _CLEAR_A, _CLEAR_B
        last: int = record.unpack_from(records, len(records) - record.size)[0] >> shift
        while len(words) <= last:
            words.extend(_blank(min(PART_WORDS, self.size)))
        for top, a, b in record.iter_unpack(records):
            words[top >> shift] &= clear_a[a] & clear_b[b]

    def fill(self) -> None:
        while len(self.words) < self.size:
            self.words.extend(_blank(min(PART_WORDS, self.size)))

    def part(self, number: int) -> bytes:
        """Words `number * PART_WORDS` and following, little-endian."""
        return _little(self.words[number * PART_WORDS : (number + 1) * PART_WORDS]).tobytes()

    def load(self, part: bytes) -> None:
        """Appends a part that was saved."""
        words = array("Q")
        words.frombytes(part)
        self.words.extend(_little(words))


class Probe:
    """A batch of 16-byte digests to be looked for in several filters."""

    def __init__(self, digests: Sequence[bytes]) -> None:
        table_a, table_b = _A, _B
        heads = list(_HEAD.iter_unpack(b"".join(digests)))
        self._tops = [top for top, _, _ in heads]
        self._masks = [table_a[a] | table_b[b] for _, a, b in heads]

    def words(self, shift: int) -> Callable[[Any], Sequence[int]]:
        """What takes the words of this batch out of a filter of that shift."""
        return itemgetter(*[top >> shift for top in self._tops], 0)  # one more, as of a single item it makes no tuple

    def hits(self, words: Sequence[int]) -> list[int]:
        """Positions in the batch of the digests that may be in the filter `words` were taken from."""
        left = list(map(and_, words, self._masks))
        hits, position = [], -1
        for _ in range(left.count(0)):
            position = left.index(0, position + 1)
            hits.append(position)
        return hits


def _blank(words: int) -> array[int]:
    return array("Q", (ONES,)) * words


def _little(words: array[int]) -> array[int]:
    if sys.byteorder == "big":
        words.byteswap()
    return words
