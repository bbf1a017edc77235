"""Reads the scoreboard of another version by that version's layout.

Does not know what the counters mean, or who wrote them.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

from prefork_logd.ipc.scoreboard import sum_of

if TYPE_CHECKING:
    from prefork_logd.ipc.scoreboard import Cells, Layout


class OldBoard:
    """The scoreboard of another version. A counter that its layout does not have reads as 0."""

    def __init__(self, fd: int, layout: Layout) -> None:
        """Map the memory in `fd`, and close the descriptor."""
        self._layout = layout
        self._map = mmap.mmap(fd, 0)
        self._cells = memoryview(self._map).cast("Q")
        os.close(fd)

    def slots(self) -> range:
        """Return the numbers of the slots of the writer and the workers."""
        return range(self._layout.slots)

    def get(self, slot: int, name: str) -> int:
        """Return a counter of a child."""
        field = self._layout.fields.get(name)
        return 0 if field is None else self._cells[self._layout.slots_at + slot * self._layout.slot_fields + field]

    def clear(self, slot: int, name: str) -> None:
        """Set a counter of a child that is gone to 0."""
        field = self._layout.fields.get(name)
        if field is not None:
            self._cells[self._layout.slots_at + slot * self._layout.slot_fields + field] = 0

    def output(self, output_id: int, name: str) -> int:
        """Return a counter of an output."""
        at = self._layout.of_output.get(name)
        return 0 if at is None else self._cells[self._layout.outputs_at + output_id * self._layout.output_fields + at]

    def sum(self, cells: Cells) -> int:
        """Return the sum of cells."""
        return sum_of(self._cells, cells)

    def close(self) -> None:
        """Unmap the memory."""
        self._cells.release()
        self._map.close()
