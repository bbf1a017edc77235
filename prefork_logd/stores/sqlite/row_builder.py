"""Turns JSON lines into the rows of a day's file. Every record takes this way, so it has to be short.

Owns which sites and origins a file has, as far as its writer remembers them. Knows no database. The compiled core
(stores/_rows_c.pyx) does what `_pack_in_python` does, for lines in the form that the collector writes.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.errors import NotARecord
from prefork_logd.records.stored import split_lines
from prefork_logd.stores import rows_core
from prefork_logd.stores.sqlite import columns
from prefork_logd.stores.sqlite.schema import ID_BITS

if TYPE_CHECKING:
    from prefork_logd.stores.sqlite.columns import Values

MOST_KNOWN = 50_000
"""Sites, and origins, that are remembered; a client may invent any number of them."""
MOST_KNOWN_CHARS = 8 << 20
"""Of their texts, in all."""
MOST_KEY_CHARS = 4096
"""Of one that is remembered."""
_NUMBERS = (1 << ID_BITS) - 1


class Packed(NamedTuple):
    """Lines as rows."""

    rows: list[Values]
    """In the order of their ids (schema.ROW_COLUMNS)."""
    least: float
    """The first and the last time that a record was received, in seconds since 1970; 0 and 0 if there is none."""
    most: float
    refused: list[tuple[int, bytes, str]]
    """Number and line of what is no record, and why."""


class Packer:
    """Makes rows for one file, whose dictionaries go on with these numbers."""

    def __init__(self, next_site: int, next_origin: int) -> None:
        self._next_site = next_site
        self._next_origin = next_origin
        self._sites: dict[Values, int] = {}
        self._origins: dict[Values, int] = {}
        self._known_chars = 0
        self.new_sites: list[Values] = []
        """What the file has not in its tables yet, and rows refer to; whoever has written them clears the lists."""
        self.new_origins: list[Values] = []
        self._refused: list[tuple[int, bytes, str]] = []
        make = rows_core.Packer
        self._core = make(self._site, self._origin, self._row) if make is not None else None

    def stored(self) -> tuple[int, int]:
        """Return the numbers of the last site and origin that the file has, if nobody else writes to it."""
        return self._next_site - 1 - len(self.new_sites), self._next_origin - 1 - len(self.new_origins)

    def pack(self, lines: bytes, number: int) -> Packed:
        """Return lines, each ending in a newline, as rows; `number` is the first one's."""
        known = len(self._sites), len(self._origins)
        if max(known) > MOST_KNOWN or self._known_chars > MOST_KNOWN_CHARS:
            self._known_chars = 0
            self._sites.clear()
            self._origins.clear()
            if self._core is not None:
                self._core.clear()
        self._refused = []
        pack = self._core.pack if self._core is not None else self._pack_in_python
        rows, ordered, least, most = pack(lines, number)
        if not ordered:
            rows.sort(key=itemgetter(0))
        return Packed(rows, least if rows else 0.0, most, self._refused)

    def _pack_in_python(self, lines: bytes, number: int) -> tuple[list[Values], bool, float, float]:
        try:
            found = columns.decode_lines(lines)
            rows = [self._row_of(values, at) for at, values in enumerate(map(columns.values_of, found), number)]
            return _told(rows)
        except (ValueError, RecursionError):
            pass
        each = (self._row(line, at) for at, line in enumerate(split_lines(lines), number))
        return _told([row for row in each if row is not None])

    def _row(self, line: bytes, number: int) -> Values | None:
        """Return the row of any line; None, and the reason kept, if it is no record."""
        try:
            return self._row_of(columns.take_apart(line), number)
        except NotARecord as error:
            self._refused.append((number, line, str(error)))
            return None

    def _row_of(self, values: Values, number: int) -> Values:
        created = values[0]
        documents = [str(value, "utf-8") or None for value in values[columns.EXTRA :]]
        return (
            int(created * 1e6) << ID_BITS | number & _NUMBERS, created, values[columns.RECEIVED],
            self._site(values[columns.SITE]), self._origin(values[columns.ORIGIN]), values[columns.MESSAGE],
            values[columns.EXC_TEXT], values[columns.STACK_INFO], *documents,
        )  # fmt: skip

    def _is_small(self, values: Values) -> bool:
        """Tell whether values may be remembered, and count them."""
        chars = sum(len(value) for value in values if isinstance(value, (str, bytes)))
        if chars > MOST_KEY_CHARS:
            return False
        self._known_chars += chars
        return True

    def _site(self, values: Values) -> int:
        number = self._sites.get(values)
        if number is None:
            number = self._next_site
            self._next_site += 1
            if self._is_small(values):
                self._sites[values] = number
            self.new_sites.append((number, *values))
        return number

    def _origin(self, values: Values) -> int:
        number = self._origins.get(values)
        if number is None:
            number = self._next_origin
            self._next_origin += 1
            if self._is_small(values):
                self._origins[values] = number
            self.new_origins.append((number, *values))
        return number


def _told(rows: list[Values]) -> tuple[list[Values], bool, float, float]:
    """Return what the core does; the order is not looked into."""
    received = [row[2] or row[1] for row in rows]
    return rows, False, min(received, default=0.0), max(received, default=0.0)
