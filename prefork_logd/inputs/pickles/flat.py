"""Loads a pickle by `pickle.loads` if it is proven to be one flat dict of scalars: the fast path.

Owns the proof: a grammar matches every byte before the pickle is loaded. The machine reads all other frames.

Why a matching pickle is safe to load: the grammar admits one EMPTY_DICT, one MARK, then keys and values in turn,
SETITEMS and STOP at the very end. A key is a str or a reference to one, and a value a scalar, so nothing is named,
called, built or nested. Only strs are ever put into the memo, except the dict itself at the start, if at all, and its
index cannot be referred to. Lengths are part of the match, indexes have one byte, integers 18 digits or 8 bytes, and a
float is finite. `pickle.loads` can still refuse a reference to nothing, and text that is not UTF-8.
"""

from __future__ import annotations

import functools
import pickle
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.records.values import Plain


MAX_BYTES = 32_768
MAX_ITEMS = 64
"""Most items of the dict. With MAX_BYTES it keeps the text of repeated references (2 MiB) within the budget."""
MAX_LONG_TEXTS = 16
"""Most texts above 255 bytes in a record: each is stepped over outside the regular expression."""

_FINITE_FLOAT = rb"G(?![\x7f\xff][\xf0-\xff]).{8}"
_SCALARS = rb"N|K.|%s|M..|J....|I(?:0[01]|0|-?[1-9][0-9]{0,17})\n|L-?[0-9]{1,18}L\n" % _FINITE_FLOAT
_SCALARS_2 = _SCALARS + (rb"|\x88|\x89|\x8a(?:\x00|\x01.|\x02..|\x03.{3}|\x04.{4}|\x05.{5}|\x06.{6}|\x07.{7}|\x08.{8})")
"""The opening, from protocol 2 on."""


class Grammar(NamedTuple):
    """The flat records of one pickle dialect, behind the opening."""

    items: re.Pattern[bytes]
    """All items, and perhaps a key with the opcode and length of a long text, the only group."""
    memoize: re.Pattern[bytes]
    """The opcodes that may follow a text."""


def _counted(opcode: bytes, length_tail: bytes) -> bytes:
    """Return an expression for a text opcode with its length in one byte, `length_tail`, and that many bytes."""
    lengths = b"|".join(re.escape(bytes((n,))) + length_tail + (b".{%d}" % n if n else b"") for n in range(256))
    return opcode + b"(?:" + lengths + b")"


def _grammar(texts: bytes, long_text: bytes, memoize: bytes, reference: bytes, scalars: bytes) -> Grammar:
    text = b"(?:" + texts + b")" + memoize
    key = b"(?:" + text + b"|" + reference + b")"
    value = b"(?:" + text + b"|" + reference + b"|" + scalars + b")"
    items = b"(?:" + key + value + b"){0,%d}" % MAX_ITEMS
    return Grammar(re.compile(items + b"(?:" + key + long_text + b")?", re.DOTALL), re.compile(memoize, re.DOTALL))


@functools.cache
def _python3(scalars: bytes) -> Grammar:
    """Protocols 1 to 3 of Python 3, which memoizes every text, and the dict as number 0."""
    return _grammar(_counted(b"X", rb"\x00\x00\x00"), rb"X(..\x00\x00)", rb"q.", rb"h[^\x00]", scalars)


@functools.cache
def _python2(scalars: bytes) -> Grammar:
    """Protocols 1 and 2 of Python 2, which memoizes values with other references, and the dict as number 1."""
    texts = _counted(b"X", rb"\x00\x00\x00") + b"|" + _counted(b"U", b"")
    return _grammar(texts, rb"[XT](..\x00\x00)", rb"(?:q.)?", rb"h[^\x01]", scalars)


@functools.cache
def _framed() -> Grammar:
    """Protocols 4 and 5, which memoize every text by MEMOIZE, and the dict as number 0. Our handler memoizes none."""
    return _grammar(_counted(rb"\x8c", b""), rb"X(..\x00\x00)", rb"\x94?", rb"h[^\x00]", _SCALARS_2)


_OPENINGS: dict[bytes, Callable[[], Grammar]] = {
    b"}q\x00(": lambda: _python3(_SCALARS),
    b"}q\x01(": lambda: _python2(_SCALARS),
    b"\x80\x02}q\x00(": lambda: _python3(_SCALARS_2),
    b"\x80\x03}q\x00(": lambda: _python3(_SCALARS_2),
    b"\x80\x02}q\x01(": lambda: _python2(_SCALARS_2),
    # Our handler on Python 2: the dict has no number.
    b"\x80\x02}(": lambda: _python2(_SCALARS_2),
}
_FRAMED_OPENING = re.compile(rb"\x80[\x04\x05]\x95..\x00{6}\}\x94?\(", re.DOTALL)
"""The FRAME's length fits two bytes here; the unpickler checks it."""


def is_flat(frame: bytes) -> bool:
    """Tell whether every byte of the frame belongs to one flat dict of scalars."""
    if len(frame) > MAX_BYTES:
        return False
    position = 4 if frame[:4] in _OPENINGS else 6
    grammar = _OPENINGS.get(frame[:position])
    if grammar is None:
        opening = _FRAMED_OPENING.match(frame)
        if opening is None:
            return False
        grammar, position = _framed, opening.end()
    items, memoize = grammar()
    for _ in range(MAX_LONG_TEXTS + 1):
        match = items.match(frame, position)
        if match is None:  # pragma: no cover - it matches no items at all, too
            return False
        if match[1] is None:
            return frame[match.end() :] == b"u."
        after = memoize.match(frame, match.end() + int.from_bytes(match[1], "little"))
        if after is None:
            return False
        position = after.end()
    return False


def load_flat(frame: bytes) -> dict[str, Plain] | None:
    """Return the record of a flat frame, else None. Raises nothing."""
    if not is_flat(frame):
        return None
    try:
        attributes: dict[str, Plain] = pickle.loads(frame, encoding="utf-8", errors="surrogateescape")  # noqa: S301 - is_flat
    except (pickle.UnpicklingError, ValueError):
        return None
    return attributes if len(attributes) <= MAX_ITEMS else None
