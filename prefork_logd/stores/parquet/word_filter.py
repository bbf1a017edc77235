"""Tells quickly which records cannot have a word: a Bloom filter of the words of a segment's records.

Owns the layout of a filter, and the choice between the compiled WordSet and Python's. Does not know queries or files.

A filter has blocks of eight integers of 32 bits, as the Bloom filters of Parquet have: a word sets one bit in each
integer of one block. With 10 bits a word, it takes one of 70 words that it does not have for one that it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.stores import rows_core
from prefork_logd.stores.parquet import _word_set_py
from prefork_logd.stores.parquet._word_set_py import hash_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_WORDS = 600_000
"""Different words of a segment; records with more have no filter, so that memory is bounded."""
BITS = 10
"""Bits of a filter for each word."""
_BLOCK_BYTES = 32
_SALTS = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)
_MASK = (1 << 32) - 1


def make_filter(texts: Iterable[bytes]) -> bytes:
    """Return the filter of the words in lines, each text of several lines; empty if there are too many words."""
    words = (rows_core.WordSet or _word_set_py.WordSet)(MOST_WORDS)
    for lines in texts:
        words.add(lines)
    if words.is_full:
        return b""
    made = bytearray(max(1, -(-len(words) * BITS // (_BLOCK_BYTES * 8))) * _BLOCK_BYTES)
    (rows_core.fill_filter or _fill)(words.hashes(), made)
    return bytes(made)


def _fill(hashes: bytes, target: bytearray) -> None:
    for at in range(0, len(hashes), 8):
        for octet, bit in _bits(int.from_bytes(hashes[at : at + 8], "little"), len(target)):
            target[octet] |= bit


def _bits(value: int, size: int) -> Iterable[tuple[int, int]]:
    """Yield the places of a hash in a filter of so many octets: an octet, and the bit in it."""
    block = ((value >> 32) * (size // _BLOCK_BYTES) >> 32) * _BLOCK_BYTES
    for index, salt in enumerate(_SALTS):
        bit = ((value & _MASK) * salt & _MASK) >> 27
        yield block + 4 * index + bit // 8, 1 << bit % 8


def finder(read: Callable[[int, int], bytes], size: int) -> Callable[[bytes], bool]:
    """Return the function that tells whether a word may be in a filter: it is, or it is one of few others.

    `read(offset, length)` returns octets of the filter, which has `size`; a word needs those of one block.
    """

    def has(word: bytes) -> bool:
        bits = [*_bits(hash_of(word), size)]
        start = bits[0][0] // _BLOCK_BYTES * _BLOCK_BYTES
        block = read(start, _BLOCK_BYTES)
        return len(block) < _BLOCK_BYTES or all(block[octet - start] & bit for octet, bit in bits)

    return has
