"""Finds the lines of a block that may be errors, without reading the others.

Owns the signs of an error in the bytes of a line. Does not know groups; a line that is found may turn out to be none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The collector's own lines have no space behind a colon. A quote inside of a text is escaped, so a text cannot hold the
# signs; a key of `extra` can, and costs no more than a look at its line.
_LEVEL = re.compile(rb'"levelno":(?:[4-9]\d|\d{3})')
_SIGNS = (b'"exc_text":"', b'"exception":[')


def error_lines(lines: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the index and the bytes of each line of a block that may be an error, in order."""
    places = {match.start() for match in _LEVEL.finditer(lines)}
    for sign in _SIGNS:
        at = lines.find(sign)
        while at >= 0:
            places.add(at)
            at = lines.find(sign, at + 1)
    end = index = 0
    for place in sorted(places):
        if place < end:
            continue
        start = lines.rfind(b"\n", end, place) + 1 or end
        index += lines.count(b"\n", end, start)
        end = lines.find(b"\n", place) + 1 or len(lines)
        yield index, lines[start:end]
        index += 1
