"""A child's life cycle holds together."""

from __future__ import annotations

import pytest

from prefork_logd.errors import LocalProtocolError
from prefork_logd.processes.master.lifecycle import (
    ALIVE,
    TABLE,
    Action,
    Event,
    State,
    after,
)


def test_every_state_can_be_reached_and_left() -> None:
    """Nothing is stuck but what is gone, and nothing is there for nothing."""
    assert {transition.state for transition in TABLE.values()} == set(State)
    assert {state for state, _ in TABLE} == set(State) - {State.GONE}
    assert {transition.action for transition in TABLE.values()} == set(Action)


@pytest.mark.parametrize("state", sorted(ALIVE, key=lambda state: state.name))
def test_a_living_child_can_always_die_and_always_be_stopped(state: State) -> None:
    """Death and the end of the collector come unasked, whatever the state."""
    assert after(state, Event.EXITED).state not in ALIVE
    assert after(state, Event.STOP).state is State.STOPPING


def test_a_child_told_to_end_does_not_come_back() -> None:
    """Only a child that was to stay is forked again."""
    comes_back = {state for state in ALIVE if after(state, Event.EXITED).action is Action.BACK_OFF}
    assert comes_back == {State.STARTING, State.RUNNING}


def test_what_cannot_happen_is_an_error() -> None:
    """A dead child is never ready."""
    with pytest.raises(LocalProtocolError, match="WAITING cannot have the event READY"):
        after(State.WAITING, Event.READY)
