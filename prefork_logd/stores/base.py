"""Defines a store: the methods that a shipper calls.

Owns what passes between a shipper and its store. Knows no journal files, processes or settings.

A journal's records are numbered from 0 on, and `journal` (32 hexadecimal digits, random) names it: several collectors
may share one store, and a state directory that was made anew counts anew. A store keeps, for each journal, the number
of the first record that it has not yet, in the same transaction as the records themselves: so each lands exactly once,
whatever is killed when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Run(NamedTuple):
    """Records of one session with numbers that follow one another."""

    first: int
    """The session's number of the first one (docs/protocol.md)."""
    count: int  # type: ignore[assignment]  # tuple.count is hidden, and meant to be


class Block(NamedTuple):
    """Records that were committed together, in order: an entry of the journal."""

    first: int
    """The journal's number of the first record."""
    count: int  # type: ignore[assignment]  # tuple.count is hidden, and meant to be
    """How many records, one or more: as many as `lines` has newlines."""
    session: bytes
    """16 bytes: whose records they are; zeros stand for clients that are not acknowledged."""
    runs: tuple[Run, ...]
    """The session's numbers of the records, in order; empty for clients that are not acknowledged."""
    lines: bytes
    """One stored record as JSON a line (docs/record.md)."""


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
    """A place that keeps records. Its methods may take long: each store has a process of its own.

    Every method raises StoreError when the store cannot be reached or used just now; the shipper then calls `close`,
    and after a while `open` and what had failed again.
    """

    def open(self, journal: str) -> int:
        """Connect, make or migrate what has to be there, and return the number of the first record wanted."""

    def write(self, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]) -> None:
        """Keep every record of `blocks` and the position after them in one transaction.

        The blocks follow one another, and the first may begin with records that the store has already. A record that
        can never be stored is handed to `refuse` before the commit, and holds up none of the others.
        """

    def maintain(self) -> float:
        """Do what is due besides (retention, indexes, partitions); return in how many seconds to call again.

        Called between writes when nothing waits, and at least once an hour; one call takes a second or two at most.
        """

    def close(self) -> None:
        """Let go of every resource; never raises."""


@runtime_checkable
class ReportsStatus(Protocol):
    """What a store has besides that can say more of itself than how far it is."""

    def status(self) -> dict[str, Any]:
        """Return what people want to know, as JSON has it.

        `status` prints two of the keys, if they are there: `summary`, a sentence, and `warnings`, a list of sentences.

        Asked between calls, while the store is open.
        """


@runtime_checkable
class DelayedDurability(Protocol):
    """What a store has besides that may lose, for a while, what it said it keeps: its `open` may then step back."""

    def durable(self) -> int:
        """Return the number of the first record that may be wanted again; the journal keeps it and all after it.

        Asked between calls, while the store is open.
        """


class Finding(NamedTuple):
    """What `check --connect` says of a store."""

    sentence: str
    warnings: tuple[str, ...] = ()


def details_of(store: Store | None) -> dict[str, Any]:
    """Return what a store has to say of itself; empty for one that says nothing, or is not open (None)."""
    return store.status() if isinstance(store, ReportsStatus) else {}


def is_lagging(store: Store | None) -> bool:
    """Tell whether a store may lose, for a while, what it said it keeps."""
    return isinstance(store, DelayedDurability)


def first_needed(store: Store | None, position: int) -> int:
    """Return the number of the first record that a store may want again, if it has all before `position`."""
    return min(position, store.durable()) if isinstance(store, DelayedDurability) else position
