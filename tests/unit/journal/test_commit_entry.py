"""A commit says what was said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.journal.commit_entry import Committed, decode, encode

U64 = st.integers(0, 2**64 - 1)
COMMITS = st.builds(
    Committed, U64, st.dictionaries(st.tuples(U64, U64), U64, max_size=5), st.dictionaries(U64, U64, max_size=5), U64
)


@given(COMMITS, st.binary(max_size=20))
def test_a_commit_comes_back(commit: Committed, rest: bytes) -> None:
    """What is decoded is what was encoded, and what follows is handed on."""
    assert decode(encode(commit) + rest) == (commit, rest)


@pytest.mark.slow
@given(COMMITS, st.data())
def test_a_commit_cut_short_is_an_error(commit: Committed, data: st.DataObject) -> None:
    """No part of a commit is taken for one."""
    encoded = encode(commit)
    with pytest.raises(ValueError, match="commit of"):
        decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
