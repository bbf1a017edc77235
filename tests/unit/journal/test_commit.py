"""The last commit is always whole, whenever the writer dies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.journal.commit import NOTHING, CommitCells, Committed, decode, encode

U64 = st.integers(0, 2**64 - 1)
ENTRIES = st.builds(
    Committed, U64, st.dictionaries(st.tuples(U64, U64), U64, max_size=5), st.dictionaries(U64, U64, max_size=5)
)


@given(ENTRIES)
def test_an_entry_comes_back(entry: Committed) -> None:
    """What is decoded is what was encoded, whatever follows it."""
    assert decode(encode(entry) + b"rest") == entry


@given(ENTRIES, st.data())
def test_a_changed_byte_is_noticed(entry: Committed, data: st.DataObject) -> None:
    """An entry with any byte changed is no entry."""
    encoded = bytearray(encode(entry))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(encoded)) is None


@given(ENTRIES, st.integers(8, 2000))
def test_a_torn_entry_is_none(entry: Committed, length: int) -> None:
    """An entry that was cut off anywhere is no entry."""
    encoded = encode(entry)
    if length < len(encoded):
        assert decode(encoded[:length]) is None


def test_the_cells_give_the_last_entry() -> None:
    """Before the first commit there is nothing; then there is the last one."""
    cells = CommitCells()
    assert cells.read() == NOTHING
    for turn in range(1, 6):
        cells.write(Committed(turn, {(1, 2): turn * 10}, {3: turn}))
        assert cells.read() == Committed(turn, {(1, 2): turn * 10}, {3: turn})


def test_a_writer_that_dies_in_a_commit_leaves_the_one_before() -> None:
    """At no byte of a commit does the entry before it get lost."""
    cells = CommitCells()
    cells.write(Committed(1, {(1, 2): 10}, {}))
    cells.write(Committed(2, {(1, 2): 20}, {}))
    new = encode(Committed(3, {(1, 2): 30}, {}))
    start = (3 % 2) * (len(cells._map) // 2)
    for length in range(len(new)):
        cells._map[start : start + length] = new[:length]
        assert cells.read() in (Committed(2, {(1, 2): 20}, {}), Committed(3, {(1, 2): 30}, {}))


def test_an_entry_that_does_not_fit_is_refused() -> None:
    """Better an error than half an entry."""
    with pytest.raises(ValueError, match="does not fit"):
        CommitCells().write(Committed(1, {(1, number): 0 for number in range(5000)}, {}))
