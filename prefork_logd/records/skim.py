"""The fast path: recognise a pickle that is one flat dict of scalars, and only then let `pickle.loads` have it.

Owns the proof that a frame holds nothing else: every byte is matched by a grammar before anything is loaded. A frame
outside the grammar is not judged here; the machine reads it.

Why what passes is safe to load. The grammar admits one EMPTY_DICT, one MARK, then keys and values in turn, SETITEMS and
STOP at the very end. A key is a str or a reference to one, and a value a scalar, so nothing is named, called, built or
nested. Only strs are ever put into the memo, except the dict itself at the start, and its index cannot be referred to.
Lengths are part of the match, indexes have one byte, integers 18 digits or 8 bytes, and a float is finite. What remains
for `pickle.loads` to refuse is a reference to nothing and text that is not UTF-8.
"""

from __future__ import annotations

import functools
import pickle
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from prefork_logd.records.budget import Plain


MAX_BYTES = 32_768
MAX_ITEMS = 64
"""Of the dict. With MAX_BYTES it keeps the text of repeated references (2 MiB) within the default budget."""
MAX_LONG_TEXTS = 16
"""A text above 255 bytes is stepped over outside the regular expression; this many in one record."""

_FINITE_FLOAT = rb"G(?![\x7f\xff][\xf0-\xff]).{8}"
_SCALARS = rb"N|K.|%s|M..|J....|I0[01]\n|L-?[0-9]{1,18}L\n" % _FINITE_FLOAT


class Grammar(NamedTuple):
    """The flat records of one pickle dialect."""

    run: re.Pattern[bytes]
    """The opening and up to MAX_ITEMS items."""
    more: re.Pattern[bytes]
    """Items after a long text, perhaps none."""
    long_item: re.Pattern[bytes]
    """A key and the opcode and length of a long text, which is the only group."""
    memoize: re.Pattern[bytes]
    """What may follow a text."""


def _counted(opcode: bytes, length_tail: bytes) -> bytes:
    """Return an expression for a text opcode with its length in one byte, `length_tail`, and that many bytes."""
    lengths = b"|".join(re.escape(bytes((n,))) + length_tail + (b".{%d}" % n if n else b"") for n in range(256))
    return opcode + b"(?:" + lengths + b")"


def _grammar(
    opening: bytes, texts: bytes, long_text: bytes, *, memoize: bytes, reference: bytes, extra: bytes
) -> Grammar:
    text = b"(?:" + texts + b")" + memoize
    key = b"(?:" + text + b"|" + reference + b")"
    value = b"(?:" + text + b"|" + reference + b"|" + _SCALARS + extra + b")"
    item = key + value
    return Grammar(
        re.compile(opening + b"(?:" + item + b"){0,%d}" % MAX_ITEMS, re.DOTALL),
        re.compile(b"(?:" + item + b"){0,%d}" % MAX_ITEMS, re.DOTALL),
        re.compile(key + long_text, re.DOTALL),
        re.compile(memoize, re.DOTALL),
    )


_PROTOCOL_2 = rb"|\x88|\x89|\x8a(?:\x00|\x01.|\x02..|\x03.{3}|\x04.{4}|\x05.{5}|\x06.{6}|\x07.{7}|\x08.{8})"


@functools.cache
def _python3(opening: bytes, extra: bytes) -> Grammar:
    """Protocols 1 to 3 of Python 3, which memoizes every text and the dict as number 0."""
    text = _counted(b"X", rb"\x00\x00\x00")
    return _grammar(
        opening + rb"\}q\x00\(", text, rb"X(..\x00\x00)", memoize=rb"q.", reference=rb"h[^\x00]", extra=extra
    )


@functools.cache
def _python2(opening: bytes, extra: bytes) -> Grammar:
    """Protocols 1 and 2 of Python 2, which memoizes what is referred to elsewhere and the dict as number 1."""
    text = _counted(b"X", rb"\x00\x00\x00") + b"|" + _counted(b"U", b"")
    return _grammar(
        opening + rb"\}q\x01\(", text, rb"[XT](..\x00\x00)", memoize=rb"(?:q.)?", reference=rb"h[^\x01]", extra=extra
    )


@functools.cache
def _framed() -> Grammar:
    """Protocols 4 and 5, which memoize by MEMOIZE. The FRAME's length is for the unpickler to compare."""
    text = _counted(rb"\x8c", b"")
    opening = rb"\x80[\x04\x05]\x95.{8}\}\x94\("
    return _grammar(opening, text, rb"X(..\x00\x00)", memoize=rb"\x94", reference=rb"h[^\x00]", extra=_PROTOCOL_2)


def _grammar_of(frame: bytes) -> Grammar | None:
    head = frame[:5]
    if head.startswith(b"}q\x00"):
        return _python3(b"", b"")
    if head.startswith(b"}q\x01"):
        return _python2(b"", b"")
    if head.startswith((b"\x80\x04", b"\x80\x05")):
        return _framed()
    if head.startswith((b"\x80\x02}q\x00", b"\x80\x03}q\x00")):
        return _python3(rb"\x80[\x02\x03]", _PROTOCOL_2)
    if head.startswith(b"\x80\x02}q\x01"):
        return _python2(rb"\x80\x02", _PROTOCOL_2)
    return None


def is_flat(frame: bytes) -> bool:
    """Tell whether every byte of the frame belongs to one flat dict of scalars."""
    grammar = _grammar_of(frame)
    match = grammar and len(frame) <= MAX_BYTES and grammar.run.match(frame)
    if not grammar or not match:
        return False
    position = match.end()
    for _ in range(MAX_LONG_TEXTS):
        if len(frame) - position == 2:
            break
        item = grammar.long_item.match(frame, position)
        if item is None:
            return False
        position = item.end() + int.from_bytes(item[1], "little")
        after = grammar.memoize.match(frame, position)
        items = after and grammar.more.match(frame, after.end())
        if not items:
            return False
        position = items.end()
    return frame[position:] == b"u."


def load_flat(frame: bytes) -> dict[str, Plain] | None:
    """Return the record of a frame that is flat, else None. Raises nothing."""
    if not is_flat(frame):
        return None
    try:
        attributes: dict[str, Plain] = pickle.loads(frame, encoding="utf-8", errors="surrogateescape")  # noqa: S301 - is_flat
    except (pickle.UnpicklingError, ValueError):
        return None
    return attributes if len(attributes) <= MAX_ITEMS else None
