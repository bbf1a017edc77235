"""Decodes a frame's pickle into plain values, as data.

Owns the choice between the fast path (flat.py: a flat record, proven byte by byte, then `pickle.loads`) and the
machine. For any bytes the result is a dict of plain values or RecordRejected, in limited time and memory. No import,
call or code of a client is ever executed. Does not know LogRecord's attributes, sockets or files.

Reasons of a rejection: `truncated`, `malformed`, `trailing` (bytes after the end), `forbidden` (an opcode that refers
to something outside the record), `budget`, `not-a-record` (a value that is not a dict).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles import flat as skim
from prefork_logd.inputs.pickles import unpickle
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET, TRIMMED_BUDGET, Budget, OverBudgetError, exceeded
from prefork_logd.inputs.pickles.symbols import Dict, Node
from prefork_logd.inputs.pickles.trim import trimmed
from prefork_logd.inputs.pickles.values import Attributes, Reader
from prefork_logd.records.values import Plain

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEFAULT_BUDGET", "Attributes", "Budget", "Plain", "decode", "decode_cut", "decode_holed"]

_LARGE_BYTES = 16_384
_SMALL_BYTES = 2_048
"""Up to this size the line of a frame is quick to measure, even with repeated references."""

read_symbols: Callable[[bytes], list[Node] | None] | None = None
"""The compiled core's reader: what `_members` returns, or None for a frame that the machine has to read."""


def decode(frame: bytes | bytearray | memoryview, budget: Budget = DEFAULT_BUDGET) -> dict[str, Plain]:
    """Return the attributes of the pickled LogRecord, as plain values.

    Raises only RecordRejected, with a reason from the list above.
    """
    data = frame if type(frame) is bytes else bytes(frame)
    # The limits of the fast path lie within the default budget; only the machine measures another one.
    flat = skim.load_flat(data) if budget is DEFAULT_BUDGET else None
    if flat is None or (len(data) > _SMALL_BYTES and _text_size(flat) > budget.output_for(len(data))):
        return decode_symbolically(data, budget)
    return flat


def _text_size(attributes: dict[str, Plain]) -> int:
    """Return the number of characters of all texts of a flat record, once for each reference."""
    return sum([len(value) for value in attributes.values() if isinstance(value, str)])


def decode_symbolically(frame: bytes, budget: Budget = DEFAULT_BUDGET) -> dict[str, Plain]:
    """Do what `decode` does without the fast path: the specification that the fast path is tested against."""
    flat, is_trimmed = _attributes(frame, budget)
    _kept[:] = frame, flat
    if is_trimmed:
        return _read_cut(flat, frame, budget)
    try:
        return _read(Reader(budget, len(frame)), flat)
    except OverBudgetError:
        return _read_cut(flat, frame, budget)


def decode_cut(frame: bytes, budget: Budget = DEFAULT_BUDGET) -> dict[str, Plain]:
    """Return the attributes of a record whose line is too large, without those that do not fit (values.TRUNCATED).

    Raises RecordRejected as `decode` does.
    """
    flat = _kept[1] if _kept and _kept[0] is frame else _attributes(frame, budget)[0]
    return _read_cut(flat, frame, budget)


_kept: list[Any] = []
"""The last frame and the values it builds, so that cutting it does not read it again."""


def forget() -> None:
    """Forget the last frame."""
    _kept.clear()


def _attributes(frame: bytes, budget: Budget) -> tuple[list[Node], bool]:
    """Return the keys and values, in turn, of the dict that a frame's pickle builds.

    A pickle above the budget is read as a smaller one; the second value is whether it was.
    """
    # It is quicker to measure a large frame than to read it up to its budget.
    smaller = trimmed(frame, budget.opcodes) if len(frame) > _LARGE_BYTES else None
    if smaller is None:
        # The limits of the compiled core are those of the default budget.
        flat = read_symbols(frame) if read_symbols is not None and budget is DEFAULT_BUDGET else None
        if flat is not None:
            return flat, False
        try:
            return _members(unpickle.run(frame, budget)), False
        except RecordRejected as rejected:
            if rejected.reason != "budget":
                raise
        smaller = trimmed(frame, 0)
    return _members(unpickle.run(smaller or frame, TRIMMED_BUDGET, is_trimmed=True)), True


def decode_holed(frame: bytes, hole: int, hole_bytes: int) -> dict[str, Plain]:
    """Return the attributes of a frame that lacks `hole_bytes` before the offset `hole`.

    A text with the hole in it has its head and its tail; behind a hole elsewhere the frame has nothing. Raises
    RecordRejected as `decode` does.
    """
    smaller = trimmed(frame, 0, hole, hole_bytes)
    flat = _members(unpickle.run(smaller or frame, TRIMMED_BUDGET, is_trimmed=True))
    return _read_cut(flat, frame, DEFAULT_BUDGET)


def _members(node: Node) -> list[Node]:
    if type(node) is not Dict:
        raise RecordRejected("not-a-record", f"the pickle holds {type(node).__name__.lower()}, not a dict")
    return node.flat


def _read_cut(flat: list[Node], frame: bytes, budget: Budget) -> Attributes:
    reader = Reader(budget, len(frame), cuts=True)
    try:
        return reader.cut_attributes(flat)
    except RecursionError:
        raise exceeded("nested values") from None


def _read(reader: Reader, flat: list[Node]) -> dict[str, Plain]:
    try:
        return reader.mapping(flat, 0)
    except RecursionError:
        raise RecordRejected("budget", "too many or too large: nested values") from None
