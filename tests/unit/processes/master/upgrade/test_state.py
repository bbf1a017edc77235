"""The next program gets the state whole, and counts on from where the last one stopped."""

from __future__ import annotations

import os

import msgspec
import pytest

from prefork_logd.ipc.scoreboard import WRITER_SLOT, Field, OutputField, Scoreboard
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import State
from prefork_logd.processes.master.upgrade.state import (
    Counters,
    InheritedChild,
    InheritedCounters,
    InheritedSocket,
    UpgradeState,
)
from prefork_logd.processes.master.upgrade.upgrader import inheritance
from tests.support.children import make_child, make_state


def test_a_state_comes_back_as_it_was_written() -> None:
    """Through a file in memory; the descriptor is closed."""
    child = InheritedChild("worker", 1, "RUNNING", 77, 9, 1.5, 0, 1, 1, 10, 11)
    state = make_state(
        sockets=[InheritedSocket(6, "any", is_own=True)], children=[child], restarts={0: 1}, output_ids={"/a": 1},
        counters=Counters({1: {"RECORDS": 7}}, {"/a": {"BYTES": 9}}), answer_fds=[7], client_fds=[8], lifeline_fd=9,
    )  # fmt: skip
    fd = state.to_file()
    assert UpgradeState.from_file(fd) == state
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_every_descriptor_is_named_once() -> None:
    """One that is forgotten would be closed by the exec."""
    child = InheritedChild("worker", 1, "RUNNING", 77, 9, 1.5, 0, 1, 1, 10, 11)
    bare = InheritedChild("writer", 0, "RUNNING", 78, 8, 1.5, 0, 1, 1, 12, -1)
    sockets = [InheritedSocket(6, "any", is_own=True)]
    state = make_state(sockets=sockets, children=[child, bare], answer_fds=[7], client_fds=[8], lifeline_fd=9)
    assert sorted(state.descriptors()) == list(range(3, 13))
    assert sorted(make_state().descriptors()) == [3, 4, 5]


def test_fields_of_a_later_version_are_passed_over() -> None:
    """So that a version may add some."""
    fd = os.memfd_create("state", os.MFD_CLOEXEC)
    os.write(fd, msgspec.json.encode(msgspec.to_builtins(make_state()) | {"weather": "fine"}))
    assert UpgradeState.from_file(fd) == make_state()


def test_settings_of_another_version_are_no_obstacle() -> None:
    """The file is read anew then."""
    assert make_state(configurations=[msgspec.Raw(b'{"generation": 1}')]).taken_configurations() == []


def test_only_children_that_can_be_talked_to_are_inherited() -> None:
    """One that is dead, or whose channel has ended, is forked anew."""
    alive, dead, mute = (make_child(Kind.WORKER, slot) for slot in (1, 2, 3))
    dead.state = State.WAITING
    mute.channel = None
    (left,) = inheritance([alive, dead, mute, Child(Kind.WRITER, WRITER_SLOT)])
    assert (left.kind, left.slot, left.state, left.spawn_id) == ("worker", 1, "RUNNING", alive.spawn_id)


def test_counters_go_on_over_programs() -> None:
    """While children of the last program count, and when they have ended; nothing is counted twice."""
    board, carried = Scoreboard(), InheritedCounters()
    board.slot(1)[Field.RECORDS], board.slot(WRITER_SLOT)[Field.STARTS] = 7, 2
    board.output(4)[OutputField.BYTES] = 9
    before = Counters({1: {"RECORDS": 100}}, {"/a": {"BYTES": 1000}})
    carried.inherit(make_state(board_fd=os.dup(board.fd), output_ids={"/a": 4}, counters=before))
    assert carried.total("RECORDS") == 107
    assert carried.of_output("/a", "BYTES") == 1009
    assert (carried.of_old(1, "RECORDS"), carried.of_worker(1, "RECORDS")) == (7, 100)
    board.slot(1)[Field.RECORDS] += 1
    assert carried.total("RECORDS") == 108
    board.slot(1)[Field.CONNECTIONS] = 3
    carried.clear(1, "CONNECTIONS")
    assert board.slot(1)[Field.CONNECTIONS] == 0
    carried.settle()
    carried.settle()
    assert carried.total("RECORDS") == 108
    assert (carried.of_worker(1, "RECORDS"), carried.of_output("/a", "BYTES")) == (108, 1009)
    assert (carried.of_old(1, "RECORDS"), carried.of_worker(2, "RECORDS"), carried.of_output("/b", "BYTES")) == (
        0,
        0,
        0,
    )
    assert carried.counters.workers[WRITER_SLOT]["STARTS"] == 2
