"""What arrived: counts loss and doubles by record number in an output file, and reads samples back.

Owns the reading of output files after a run. Knows no server and no clock.
"""

from __future__ import annotations

import json
import mmap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from _records import NUMBER, WARM_UP_NUMBER, templates

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _records import Mix

_SAMPLE_EVERY = 997
"""A prime, so that the samples wander through the templates."""


@dataclass(frozen=True)
class Count:
    """The records found in a file, against the numbers 0 to sent - 1."""

    sent: int
    stored: int
    lost: int
    doubled: int
    unknown: int
    bad_samples: int

    @property
    def whole(self) -> bool:
        """Everything sent is there, once, and reads back."""
        return not (self.lost or self.doubled or self.unknown or self.bad_samples)

    def as_dict(self) -> dict[str, int]:
        """Return it for a results file."""
        return asdict(self)


def marks(path: Path) -> int:
    """Return how many numbered records a file holds, warm-up included: the quick look at whether a run is over."""
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return sum(1 for _ in NUMBER.finditer(view))


def count_bytes(path: Path, sent: int, size: int, warm_up_size: int) -> Count:
    """Count by size alone, for an output in which connections meet inside records."""
    stored = min(sent, round(sent * (path.stat().st_size - warm_up_size) / size))
    return Count(sent, stored, sent - stored, 0, 0, 0)


def count(path: Path, sent: int, check_line: Callable[[bytes, int], bool] | None = None) -> Count:
    """Count every number in the file; `check_line` judges a sample of the lines that hold one."""
    seen, doubled, unknown, bad = bytearray(sent), 0, 0, 0
    if not path.exists() or not path.stat().st_size:
        return Count(sent, 0, sent, 0, 0, 0)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for match in NUMBER.finditer(view):
            number = int(match[1])
            if number >= WARM_UP_NUMBER:
                continue
            if number >= sent:
                unknown += 1
            elif seen[number]:
                doubled += 1
            else:
                seen[number] = 1
            if check_line is not None and number % _SAMPLE_EVERY == 0 and number < sent:
                start, stop = view.rfind(b"\n", 0, match.start()) + 1, view.find(b"\n", match.end())
                bad += not check_line(view[start : stop if stop >= 0 else len(view)], number)
    stored = seen.count(1)
    return Count(sent, stored, sent - stored, doubled, unknown, bad)


def is_stored_record(line: bytes, number: int, mix: Mix = "uniform") -> bool:
    """Tell whether a line is the whole record of this number of a mix, in the collector's documented JSON form."""
    try:
        stored: dict[str, Any] = json.loads(line)
    except ValueError:
        return False
    wanted = templates(mix)[number % len(templates(mix))].fields
    message = wanted["message"].rpartition("`")[0] + f"`{number:09d}"
    same = ("name", "levelno", "levelname", "pathname", "lineno", "funcName", "process", "exc_text")
    return (
        stored.get("message") == message
        and stored.get("extra", {}) == wanted["extra"]
        and all(stored.get(key) == wanted.get(key) for key in same)
    )
