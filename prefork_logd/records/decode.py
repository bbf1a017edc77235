"""A frame's pickle read as data: bytes in, plain values out.

Owns the choice between the fast path (`skim`: a flat record, proven byte by byte, then `pickle.loads`) and the
machine, and the promise that whatever the bytes are, the outcome is a dict of plain values or RecordRejected, in
bounded time and memory. Nothing is imported, called or executed on a client's word. Knows nothing of LogRecord's
attributes, of sockets or of files.

Reasons of a rejection: `truncated`, `malformed`, `trailing` (bytes after the end), `forbidden` (an opcode that refers
to something outside the record), `budget`, `not-a-record` (a value that is no dict).
"""

from __future__ import annotations

from prefork_logd.errors import RecordRejected
from prefork_logd.records import machine, skim
from prefork_logd.records.budget import DEFAULT_BUDGET, Budget, Plain
from prefork_logd.records.plain import Reader
from prefork_logd.records.symbols import Dict

__all__ = ["DEFAULT_BUDGET", "Budget", "Plain", "decode"]


def decode(frame: bytes | bytearray | memoryview, budget: Budget = DEFAULT_BUDGET) -> dict[str, Plain]:
    """Return the attributes of the pickled LogRecord, as plain values.

    Raises RecordRejected, with a reason from the list above, and nothing else.
    """
    data = frame if type(frame) is bytes else bytes(frame)
    # The skim's own limits lie within the default budget; any other one is for the machine to measure.
    flat = skim.load_flat(data) if budget is DEFAULT_BUDGET else None
    return decode_symbolically(data, budget) if flat is None else flat


def decode_symbolically(frame: bytes, budget: Budget = DEFAULT_BUDGET) -> dict[str, Plain]:
    """Do what `decode` does without the fast path: the specification that the fast path is tested against."""
    node = machine.run(frame, budget)
    if type(node) is not Dict:
        raise RecordRejected("not-a-record", f"the pickle holds {type(node).__name__.lower()}, not a dict")
    try:
        return Reader(budget, len(frame)).mapping(node.flat, 0)
    except RecursionError:
        raise RecordRejected("budget", "too many or too large: nested values") from None
