"""Reads built batches back, in pieces of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.ipc.batch_reader import BatchReader

if TYPE_CHECKING:
    from prefork_logd.ipc.batch import Batch


def read(data: bytes, sizes: list[int]) -> list[Batch]:
    """Return the batches of some bytes; each read takes the next of `sizes`, over and over."""
    reader = BatchReader()
    batches = []
    position = 0
    for size in [*sizes, len(data)] * (len(data) + 1):
        if position == len(data):
            break
        want = reader.want()
        piece = data[position : position + max(1, min(size, len(want)))]
        want[: len(piece)] = piece
        position += len(piece)
        batch = reader.filled(len(piece))
        if batch is not None:
            batches.append(batch)
    assert not reader.pending
    return batches
