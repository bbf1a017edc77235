"""A frame's pickle read as data: bytes in, plain values out.

Owns the choice between the fast path (`skim`: a flat record, proven byte by byte, then `pickle.loads`) and the
machine, and the promise that whatever the bytes are, the outcome is a dict of plain values or RecordRejected, in
bounded time and memory. Nothing is imported, called or executed on a client's word. Knows nothing of LogRecord's
attributes, of sockets or of files.

Reasons of a rejection: `truncated`, `malformed`, `trailing` (bytes after the end), `forbidden` (an opcode that refers
to something outside the record), `budget`, `not-a-record` (a value that is no dict).
"""

from __future__ import annotations

from typing import Any

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles import flat as skim
from prefork_logd.inputs.pickles import unpickle
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET, Budget, OverBudgetError, exceeded
from prefork_logd.inputs.pickles.symbols import Dict, Node
from prefork_logd.inputs.pickles.values import Reader
from prefork_logd.records.values import Plain

__all__ = ["DEFAULT_BUDGET", "Budget", "Plain", "decode", "decode_cut"]

_SMALL_BYTES = 2_048
"""Up to this size the line of a frame is too short to take long to measure, also with repeated references."""


def decode(frame: bytes | bytearray | memoryview, budget: Budget = DEFAULT_BUDGET) -> dict[str, Plain]:
    """Return the attributes of the pickled LogRecord, as plain values.

    Raises RecordRejected, with a reason from the list above, and nothing else.
    """
    data = frame if type(frame) is bytes else bytes(frame)
    # The skim's own limits lie within the default budget; any other one is for the machine to measure.
    flat = skim.load_flat(data) if budget is DEFAULT_BUDGET else None
    if flat is None or (len(data) > _SMALL_BYTES and _text_size(flat) > budget.output_for(len(data))):
        return decode_symbolically(data, budget)
    return flat


def _text_size(attributes: dict[str, Plain]) -> int:
    """Return the characters of all texts of a flat record, as often as they are referred to."""
    return sum([len(value) for value in attributes.values() if isinstance(value, str)])


def decode_symbolically(frame: bytes, budget: Budget = DEFAULT_BUDGET) -> dict[str, Plain]:
    """Do what `decode` does without the fast path: the specification that the fast path is tested against."""
    flat = _attributes(frame, budget)
    _kept[:] = frame, flat
    try:
        return _read(Reader(budget, len(frame)), flat)
    except OverBudgetError:
        return _read_cut(flat, frame, budget)


def decode_cut(frame: bytes, budget: Budget = DEFAULT_BUDGET) -> dict[str, Plain]:
    """Return the attributes of a record whose line has become too large, without what does not fit (plain.TRUNCATED).

    Raises RecordRejected as `decode` does.
    """
    flat = _kept[1] if _kept and _kept[0] is frame else _attributes(frame, budget)
    return _read_cut(flat, frame, budget)


_kept: list[Any] = []
"""The frame that was read last, and what it builds: to be cut it need not be read again."""


def forget() -> None:
    """Let go of what is kept of the last frame."""
    _kept.clear()


def _attributes(frame: bytes, budget: Budget) -> list[Node]:
    """Return the keys and values, in turn, of the dict that a frame's pickle builds."""
    node = unpickle.run(frame, budget)
    if type(node) is not Dict:
        raise RecordRejected("not-a-record", f"the pickle holds {type(node).__name__.lower()}, not a dict")
    return node.flat


def _read_cut(flat: list[Node], frame: bytes, budget: Budget) -> dict[str, Plain]:
    try:
        return _read(Reader(budget, len(frame), cuts=True), flat)
    except OverBudgetError:
        raise exceeded("names of attributes") from None


def _read(reader: Reader, flat: list[Node]) -> dict[str, Plain]:
    try:
        return reader.attributes(flat)
    except RecursionError:
        raise RecordRejected("budget", "too many or too large: nested values") from None
