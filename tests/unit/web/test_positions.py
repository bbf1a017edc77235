"""Places in a journal, as texts that a client gives back."""

from __future__ import annotations

import pytest

from prefork_logd.web.positions import Position
from tests.support.stores import JOURNAL


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (f"{JOURNAL}-7", Position(JOURNAL, 8)),
        (f"{JOURNAL}-0@1795404250", Position(JOURNAL, 0, 1_795_404_250)),
        (f"{JOURNAL}-8@5", Position(JOURNAL, 8, 5)),
    ],
)
def test_a_position_is_read_as_it_was_written(text: str, position: Position) -> None:
    assert Position.parse(text) == position
    assert str(position) == text


@pytest.mark.parametrize(
    "text", ["", "7", JOURNAL, f"{JOURNAL}--1", f"{JOURNAL}-8@", f"{JOURNAL}-8@x", f"{JOURNAL}-8@-5"]
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the id of a record"):
        Position.parse(text)
