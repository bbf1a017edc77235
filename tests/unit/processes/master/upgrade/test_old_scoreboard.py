"""Another version's scoreboard is read by its own layout."""

from __future__ import annotations

import os

from prefork_logd.ipc.scoreboard import LAYOUT, Field, Layout, OutputField, Scoreboard
from prefork_logd.processes.master.upgrade.old_scoreboard import OldBoard


def test_this_versions_scoreboard_is_read_by_its_layout() -> None:
    """What one program counts, the next reads."""
    board = Scoreboard()
    board.slot(3)[Field.RECORDS] = 7
    board.output(2)[OutputField.BYTES] = 9
    old = OldBoard(os.dup(board.fd), LAYOUT)
    assert (old.get(3, "RECORDS"), old.get(3, "REJECTED"), old.output(2, "BYTES")) == (7, 0, 9)
    old.clear(3, "RECORDS")
    assert board.slot(3)[Field.RECORDS] == 0
    old.close()


def test_another_layout_is_read_by_its_own_numbers() -> None:
    """Counters that it does not have are 0, and are not cleared elsewhere."""
    fd = os.memfd_create("board", os.MFD_CLOEXEC)
    cells = [0, 11, 12, 21, 22, 31, 32]
    os.write(fd, b"".join(cell.to_bytes(8, "little") for cell in cells))
    layout = Layout(2, 1, 2, 1, 5, 2, {"PID": 0, "RECORDS": 1}, {"BYTES": 1})
    old = OldBoard(fd, layout)
    assert list(old.slots()) == [0, 1]
    assert [old.get(slot, "RECORDS") for slot in (0, 1)] == [12, 22]
    assert old.get(1, "REJECTED") == 0
    assert (old.output(0, "BYTES"), old.output(0, "SKIPPED")) == (32, 0)
    old.clear(1, "REJECTED")
    assert old.get(1, "PID") == 21
    old.close()
