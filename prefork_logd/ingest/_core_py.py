"""Offers the compiled core's interface in Python: takes runs of frames one by one.

Owns framing of runs. What becomes of a frame is the caller's business, as it is for every frame
that the compiled core does not finish. So nothing is faster for it, and what is around a core is the same with either.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LENGTH = struct.Struct(">I")
_MARK = b"\xf7\x50"
"""What stands before the records of a session's message (inputs/runs.py)."""
STOP = 4
"""Added to the answer for a frame: the run has to end after it."""
MOST_REJECTED = 64
"""In one run, before the caller has a look at how much that makes."""


class Core:
    """Turns frames into lines, by the hands of others."""

    capable = False
    """Whether records can be rendered here."""

    def __init__(
        self,
        outputs: Sequence[tuple[Sequence[Any] | None, int, Sequence[str]]],
        stores: Sequence[tuple[int, Sequence[str]]] = (),
        ships: bool = False,
    ) -> None:
        """Take what the compiled core takes; all that counts here is what its caller knows as well."""

    def lines(self, frame: bytes, peer: str, received: float) -> list[bytes | None] | None:  # noqa: ARG002
        """Return None: the record is somebody else's to judge."""
        return None

    def run(
        self,
        data: bytes | bytearray | memoryview,
        start: int,
        stop: int,
        count: int,
        max_bytes: int,
        peer: str,  # noqa: ARG002 - the caller's `slow` knows these three
        received: float,  # noqa: ARG002
        sinks: Sequence[Any],
        slow: Callable[[bytes], int],
        most_bytes: int,
        failures: int,
        most_failures: int,
        header_bytes: int = 0,
    ) -> tuple[int, int, int, int, list[tuple[int, int]]]:
        """Take frames from `data[start:stop]`, each a big-endian length of 4 bytes and a body, at most `count` of them.

        Each is given to `slow(body)`, which says whether it was a record (1), one for the stores (2), or none (0),
        and adds STOP to end the run behind it. With
        `header_bytes`, so many are passed over where the mark of a session's message stands. Ends before a frame that
        is not whole or above `max_bytes`, once `sinks` hold `most_bytes`, after `most_failures` bodies in a row that
        are no records (`failures` is how many there were before), and now and then.

        Returns where it ended, how many bodies were taken, how many of them were rejected, failures in a row, and runs
        of those for the stores: (first, count), counted from 0.

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
