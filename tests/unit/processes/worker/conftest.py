"""Lets a test count turns on a busy machine, too."""

from __future__ import annotations

import pytest

from prefork_logd.net import loop as loops

LONG_S = 10.0


@pytest.fixture(autouse=True)
def long_turns(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let no turn end because this process had to wait for a processor; return the time of a turn in service."""
    turn_s = loops.TURN_S
    monkeypatch.setattr(loops, "TURN_S", LONG_S)
    return turn_s
