"""Names places between the records of a journal, where a tail goes on after a break.

Does not know how records are read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from prefork_logd.query.search import RecordId

_POSITION = re.compile(r"([0-9a-f]{32})-(\d{1,18})@(\d{1,12})", re.ASCII)


class Position(NamedTuple):
    """A place before a record, which need not exist yet."""

    journal: str
    """The id of the journal: 32 hexadecimal digits."""
    number: int
    """Number of the record behind the place."""
    reached_s: int | None = None
    """A time, in seconds since 1970, when every record before the place was committed, and none behind it.

    None: the record before the place has to tell.
    """

    def __str__(self) -> str:
        if self.reached_s is None:
            return str(self.before)
        return f"{self.journal}-{self.number}@{self.reached_s}"

    @property
    def before(self) -> RecordId:
        """The id of the record before the place; its number is -1 at the beginning of the journal."""
        return RecordId(self.journal, self.number - 1)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position of a text: its own form, or the id of the record before it.

        Raises ValueError with a sentence for the user.
        """
        match = _POSITION.fullmatch(text)
        if match is not None:
            return cls(match[1], int(match[2]), int(match[3]))
        seen = RecordId.parse(text)
        return cls(seen.journal, seen.number + 1)
