"""Ids and cursors as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query.search import Cursor, RecordId
from prefork_logd.records.record import END_OF_TIME
from tests.support.strategies import bounded

ids = st.builds(RecordId, st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 10**18 - 1))


@bounded
@given(st.floats(0, END_OF_TIME, exclude_max=True, allow_subnormal=False), ids)
def test_what_is_written_is_read(created: float, record: RecordId) -> None:
    """An id, and a place with any time that a record may have."""
    assert RecordId.parse(str(record)) == record
    assert Cursor.parse(str(Cursor(created, record))) == Cursor(created, record)


@pytest.mark.parametrize("text", ["", "x", "1" * 32, f"{'1' * 32}-", f"{'1' * 32}-{'9' * 19}", f"{'A' * 32}-1", "1_x"])
def test_other_text_is_refused(text: str) -> None:
    """With a sentence for the user."""
    with pytest.raises(ValueError, match="is not the id of a record"):
        RecordId.parse(text)
    with pytest.raises(ValueError, match="is not "):
        Cursor.parse(text)
