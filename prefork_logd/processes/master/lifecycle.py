"""Defines a child's life cycle as a table of states, events and actions.

Owns the states and the transitions between them. Does not know forks and signals: supervisor.py carries the actions
out. docs/processes.md is drawn from TABLE, and a test compares the two.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from prefork_logd.errors import LocalProtocolError


class State(enum.Enum):
    """The states of a child."""

    STARTING = "forked, and not yet ready"
    RUNNING = "at work"
    RETIRING = "accepts no more, hands its connections over, and ends"
    STOPPING = "drains and ends"
    WAITING = "dead; another is forked when its back-off is over"
    GONE = "dead, without a successor"


class Event(enum.Enum):
    """The events in a child's life."""

    READY = "reports that it is ready"
    EXITED = "has ended"
    DUE = "its back-off is over"
    RETIRE = "fewer workers are wanted"
    STOP = "the collector stops"


class Action(enum.Enum):
    """The master's answers to an event."""

    NOTHING = "nothing"
    CONNECT = "connect it to its peers"
    FORK = "fork another into its slot"
    BACK_OFF = "set a timer, longer each time it dies early"
    SEND_RETIRE = "send it Retire"
    SEND_DRAIN = "send it Drain"
    FORGET = "free its slot"


class Transition(NamedTuple):
    """The result of an event: the next state, and the action."""

    state: State
    action: Action


TABLE: dict[tuple[State, Event], Transition] = {
    (State.STARTING, Event.READY): Transition(State.RUNNING, Action.CONNECT),
    (State.STARTING, Event.EXITED): Transition(State.WAITING, Action.BACK_OFF),
    (State.STARTING, Event.RETIRE): Transition(State.RETIRING, Action.SEND_RETIRE),
    (State.STARTING, Event.STOP): Transition(State.STOPPING, Action.SEND_DRAIN),
    (State.RUNNING, Event.EXITED): Transition(State.WAITING, Action.BACK_OFF),
    (State.RUNNING, Event.RETIRE): Transition(State.RETIRING, Action.SEND_RETIRE),
    (State.RUNNING, Event.STOP): Transition(State.STOPPING, Action.SEND_DRAIN),
    (State.RETIRING, Event.READY): Transition(State.RETIRING, Action.CONNECT),
    (State.RETIRING, Event.EXITED): Transition(State.GONE, Action.FORGET),
    (State.RETIRING, Event.RETIRE): Transition(State.RETIRING, Action.NOTHING),
    (State.RETIRING, Event.STOP): Transition(State.STOPPING, Action.SEND_DRAIN),
    (State.STOPPING, Event.READY): Transition(State.STOPPING, Action.CONNECT),
    (State.STOPPING, Event.EXITED): Transition(State.GONE, Action.FORGET),
    (State.STOPPING, Event.RETIRE): Transition(State.STOPPING, Action.NOTHING),
    (State.STOPPING, Event.STOP): Transition(State.STOPPING, Action.NOTHING),
    (State.WAITING, Event.DUE): Transition(State.STARTING, Action.FORK),
    (State.WAITING, Event.RETIRE): Transition(State.GONE, Action.FORGET),
    (State.WAITING, Event.STOP): Transition(State.GONE, Action.FORGET),
}

ALIVE = frozenset({State.STARTING, State.RUNNING, State.RETIRING, State.STOPPING})
"""States in which there is a process."""


def after(state: State, event: Event) -> Transition:
    """Return the result of an event in a state. Raises LocalProtocolError if the state does not allow it."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise LocalProtocolError(f"a child that is {state.name} cannot have the event {event.name}") from None


FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.1, 30.0
"""The time before a dead child is forked again."""
BACK_OFF_SPREAD = (0.9, 1.1)
HEALTHY_AFTER_S = 2.0
"""A child that lived this long started well: after its death the next one comes after the shortest back-off."""
