"""Single values of a configuration: how they are written and printed."""

from __future__ import annotations

import pytest

from prefork_logd.values import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.26, "0.3 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")]
)
def test_durations_are_said_in_their_two_largest_units(seconds: float, text: str) -> None:
    """Nobody wants to divide by 86,400."""
    assert format_duration(seconds) == text
