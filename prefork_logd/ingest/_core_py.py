"""Offers the compiled core's interface in Python: takes runs of frames one by one.

Owns the framing of runs. Does not know how lines are made: the caller makes them, as it does for every frame that the
compiled core leaves to Python. The code around a core is therefore the same with either.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_logd.records.redaction import Redactor
    from prefork_logd.records.sender import Sender

_LENGTH = struct.Struct(">I")
_MARK = b"\xf7\x50"
"""The mark before the records of a session's message (inputs/runs.py)."""
STOP = 4
"""Added to the answer for a frame after which the run must end."""
MOST_REJECTED = 64
"""Rejected frames in one run, after which the caller checks the size of their entries."""


class Core:
    """Passes frames to a function that makes lines of them."""

    capable = False
    """Whether this core renders records itself."""

    def __init__(
        self,
        outputs: Sequence[tuple[Sequence[Any] | None, int, Sequence[str]]],  # noqa: ARG002 - all of them
        stores: Sequence[tuple[int, Sequence[str]]] = (),  # noqa: ARG002
        ships: bool = False,  # noqa: ARG002
        redactor: Redactor | None = None,  # noqa: ARG002
        samples: Sequence[Any] = (),  # noqa: ARG002
        sampler: Any = None,  # noqa: ARG002
    ) -> None:
        """Take the compiled core's arguments, which are not needed here."""
        self.redacted = 0
        """Records with a replaced secret: none, since the caller makes the lines."""

    def lines(
        self,
        frame: bytes,  # noqa: ARG002 - the caller knows all of this
        peer: str,  # noqa: ARG002
        received: float,  # noqa: ARG002
        sender: Sender | None = None,  # noqa: ARG002
    ) -> list[bytes | None] | None:
        """Return None: the caller makes the lines."""
        return None

    def run(
        self,
        data: bytes | bytearray | memoryview,
        start: int,
        stop: int,
        count: int,
        max_bytes: int,
        peer: str,  # noqa: ARG002 - the caller's `slow` knows this, `received` and `sender`
        received: float,  # noqa: ARG002
        sinks: Sequence[Any],
        slow: Callable[[bytes], int],
        most_bytes: int,
        failures: int,
        most_failures: int,
        header_bytes: int = 0,
        sender: Sender | None = None,  # noqa: ARG002
        is_over: Callable[[], bool] | None = None,  # noqa: ARG002 - `slow` looks at the time after each frame
    ) -> tuple[int, int, int, int, list[tuple[int, int]]]:
        """Take frames from `data[start:stop]`, each a big-endian length of 4 bytes and a body, at most `count` of them.

        Each body is passed to `slow(body)`, which returns 1 for a record, 2 for one that is for the stores, and 0 for a
        rejected frame, and adds STOP to end the run after it. If `header_bytes` is not 0, that many bytes are skipped
        at each mark of a session's message. Ends before a frame that is not whole or above `max_bytes`, once `sinks`
        hold `most_bytes`, after `most_failures` rejected bodies in a row (`failures` of them before this run), and
        after MOST_REJECTED in this run.

        Returns the offset where it ended, the number of bodies handled, the number of these rejected, the failures in a
        row, and runs of those for the stores: (first, count), counted from 0.

        Longer than other functions: it specifies one loop of the compiled core, and half of it is signature.
        """
        position, taken, rejected = start, 0, 0
        shipped: list[tuple[int, int]] = []
        unpack_length = _LENGTH.unpack_from
        while taken < count and stop - position >= _LENGTH.size:
            if header_bytes and data[position : position + 2] == _MARK:
                if stop - position < header_bytes:
                    break
                position += header_bytes
                continue
            (length,) = unpack_length(data, position)
            end = position + _LENGTH.size + length
            if length > max_bytes or end > stop:
                break
            outcome = slow(bytes(data[position + _LENGTH.size : end]))
            is_last = outcome & STOP
            outcome -= is_last
            failures = 0 if outcome else failures + 1
            rejected += not outcome
            if outcome > 1:
                if shipped and sum(shipped[-1]) == taken:
                    shipped[-1] = (shipped[-1][0], shipped[-1][1] + 1)
                else:
                    shipped.append((taken, 1))
            taken += 1
            position = end
            if (
                sum(sink.nbytes for sink in sinks) >= most_bytes
                or rejected >= MOST_REJECTED
                or failures >= most_failures
                or is_last
            ):
                break
        return position, taken, rejected, failures, shipped
