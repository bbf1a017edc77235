"""Finds the lines of a block that may be errors, without reading the others.

Owns the signs of an error in the bytes of a line, and the choice between the compiled core and Python. Does not know
groups; a line that is found may turn out to be none.

The collector's own lines have no space behind a colon, and the level before every text. A quote inside of a text is
escaped, so a text cannot hold a sign. A key of `extra` can, and costs no more than a look at its line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prefork_logd.stores import rows_core

if TYPE_CHECKING:
    from collections.abc import Iterable

_LEVEL = re.compile(rb'"levelno":(?:[4-9]\d|\d{3})')
_FIELD = b'"levelno":'
_SIGNS = (b'"exc_text":"', b'"exception":[')


def find_error_lines(lines: bytes) -> Iterable[tuple[int, bytes]]:
    """Return the index and the bytes of each line of a block that may be an error, in order: the specification."""
    places = {match.start() for match in _LEVEL.finditer(lines) if _is_first(lines, match.start())}
    for sign in _SIGNS:
        at = lines.find(sign)
        while at >= 0:
            places.add(at)
            at = lines.find(sign, at + 1)
    found = []
    end = index = 0
    for place in sorted(places):
        if place < end:
            continue
        start = lines.rfind(b"\n", end, place) + 1 or end
        index += lines.count(b"\n", end, start)
        end = lines.find(b"\n", place) + 1 or len(lines)
        found.append((index, lines[start:end]))
        index += 1
    return found


def _is_first(lines: bytes, place: int) -> bool:
    """Tell whether no earlier key of the line is a level: a later one is of `extra`."""
    return lines.find(_FIELD, lines.rfind(b"\n", 0, place) + 1, place) < 0


error_lines = rows_core.error_lines or find_error_lines
