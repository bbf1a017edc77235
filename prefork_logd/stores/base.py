"""Defines a store: the methods that a shipper calls.

Owns what passes between a shipper and its store. Does not know journal files, processes or settings.

A journal's records are numbered from 0 on. `journal` (32 random hexadecimal digits) identifies it, because several
collectors may share one store, and a new state directory begins again at 0. For each journal a store keeps the number
of the first record that it does not have, in the same transaction as the records: so each record is stored exactly
once, whichever process is killed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Run(NamedTuple):
    """Records of one session with consecutive numbers."""

    first: int
    """The session's number of the first record (docs/protocol.md)."""
    count: int  # type: ignore[assignment]  # tuple.count is hidden, and meant to be


class Block(NamedTuple):
    """Records that were committed together, in order: an entry of the journal."""

    first: int
    """The journal's number of the first record."""
    count: int  # type: ignore[assignment]  # tuple.count is hidden, and meant to be
    """Number of records, one or more: the number of newlines in `lines`."""
    session: bytes
    """16 bytes: the session of the records; zeros stand for unacknowledged clients."""
    runs: tuple[Run, ...]
    """The session's numbers of the records, in order; empty for unacknowledged clients."""
    lines: bytes
    """The stored records, one line of JSON each (docs/record.md)."""


def split_block(block: Block, count: int) -> tuple[Block, Block | None]:
    """Return the first records of a block, and the others; None if there are none."""
    if count >= block.count:
        return block, None
    at = 0
    for _ in range(count):
        at = block.lines.index(b"\n", at) + 1
    ours, others = _split_runs(block.runs, count)
    return (
        block._replace(count=count, runs=ours, lines=block.lines[:at]),
        block._replace(first=block.first + count, count=block.count - count, runs=others, lines=block.lines[at:]),
    )


def block_from(block: Block, number: int) -> Block | None:
    """Return a block without the records before a number; None if nothing is left."""
    if number <= block.first:
        return block
    if number >= block.first + block.count:
        return None
    return split_block(block, number - block.first)[1]


def _split_runs(runs: tuple[Run, ...], count: int) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    ours: list[Run] = []
    for index, run in enumerate(runs):
        if count < run.count:
            if count:
                ours.append(Run(run.first, count))
            return tuple(ours), (Run(run.first + count, run.count - count), *runs[index + 1 :])
        ours.append(run)
        count -= run.count
    return tuple(ours), ()


class Store(Protocol):
    """Keeps records. Its methods may take long: each store has a process of its own.

    Every method raises StoreError when the store cannot be reached or used at the moment; the shipper then calls
    `close`, and later `open` and the failed method again.
    """

    def open(self, journal: str) -> int:
        """Connect, make or migrate tables and files, and return the number of the first record that is needed."""

    def write(self, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]) -> None:
        """Store every record of `blocks`, and the position after them, in one transaction.

        The blocks are consecutive, and the first may begin with records that the store has already. A record that can
        never be stored is passed to `refuse` before the commit, and does not delay the others.
        """

    def maintain(self) -> float:
        """Do due maintenance (retention, indexes, partitions); return the seconds until the next call.

        Called between writes when no record waits, at least once an hour, and each second while a disk of the collector
        is nearly full; one call takes a second or two at most.
        """

    def close(self) -> None:
        """Release every resource; never raises."""


@runtime_checkable
class ReportsStatus(Protocol):
    """Optional: a store with details for `status`."""

    def status(self) -> dict[str, Any]:
        """Return the details, as JSON values.

        `status` prints two of the keys, if present: `summary`, a sentence, and `warnings`, a list of sentences.

        Called between other calls, while the store is open.
        """


@runtime_checkable
class DelayedDurability(Protocol):
    """Optional: a store whose acknowledgements are not durable yet; its `open` may return an earlier number."""

    def durable(self) -> int:
        """Return the number of the first record that may be needed again; the journal keeps it and all after it.

        Called between other calls, while the store is open.
        """


class Finding(NamedTuple):
    """The state of a store's server, for `check --connect`."""

    sentence: str
    warnings: tuple[str, ...] = ()


def details_of(store: Store | None) -> dict[str, Any]:
    """Return a store's details for `status`; empty without ReportsStatus, or if the store is not open (None)."""
    return store.status() if isinstance(store, ReportsStatus) else {}


def is_lagging(store: Store | None) -> bool:
    """Return whether a store's acknowledgements are not durable yet (DelayedDurability)."""
    return isinstance(store, DelayedDurability)


def first_needed(store: Store | None, position: int) -> int:
    """Return the number of the first record that a store may need again, if it has all before `position`."""
    return min(position, store.durable()) if isinstance(store, DelayedDurability) else position
