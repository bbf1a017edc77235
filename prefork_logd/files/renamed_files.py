"""Finds the files of an output that another program, such as logrotate, has renamed between two looks of a reader.

Such a file has no number (rotated_files.py), and a program may also leave copies and packed files beside it. So the
content decides: a file follows the one that was read last if its first record was received later, and if it is not a
copy of a file that is read anyway. Does not know filters.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from prefork_logd.errors import LogdError
from prefork_logd.files import rotated_files
from prefork_logd.files.opening import Identity
from prefork_logd.files.unpacking import Unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_FILES = 64
"""Files that are looked into and read at once; those written last."""
LATE_S = 10.0
"""The longest time by which the first record of a file may have been received before the last one of the file before:
workers commit their records one after the other."""
MOST_LINE_BYTES = 1 << 26
"""A longer line is skipped: the collector never writes one."""


class Passed(NamedTuple):
    """The file that was read last, at its end."""

    identity: Identity
    written_ns: int
    """When it was written last."""
    first_line: bytes
    received_s: float
    """When its last record that was read was received; in seconds since 1970."""


class _Record(msgspec.Struct):
    received: float = 0.0


def received_s(line: bytes) -> float:
    """Return when the record of a line was received, in seconds since 1970; 0.0 if the line is not a record."""
    try:
        return msgspec.json.decode(line, type=_Record).received
    except msgspec.MsgspecError:
        return 0.0


def first_line(path: Path) -> bytes:
    """Return the first line of a file, packed or not; empty if it has none, or cannot be read."""
    try:
        with path.open("rb") as file:
            return next(Unpacked(file, path, MOST_LINE_BYTES).lines(), b"") or b""
    except (OSError, LogdError):
        return b""


def find(path: str, passed: Passed, current: Identity) -> list[Path]:
    """Return the files that followed `passed` and came before the one that is at the path now, in their order.

    At most MOST_FILES. Raises OSError if the directory cannot be read.
    """
    known = {passed.first_line, first_line(Path(path)), b""}
    found = []
    for _, name in sorted(_siblings(path, passed, current), reverse=True)[:MOST_FILES]:
        line = first_line(name)
        began_s = received_s(line)
        if line not in known and began_s >= passed.received_s - LATE_S:
            known.add(line)
            found.append((began_s, name))
    return [name for _, name in sorted(found)]


def _siblings(path: str, passed: Passed, current: Identity) -> Iterator[tuple[int, Path]]:
    """Yield the files with a name that a renamed file of this output may have, with the time of their last write."""
    one = Path(path)
    # all.jsonl.1, all.jsonl-20261130, all.jsonl.1.gz; or all-20261130.jsonl, all.1.jsonl.gz. Not all-errors.jsonl,
    # which may be another output.
    numbered = rf"{re.escape(one.stem)}[.-][0-9][0-9_-]*{re.escape(one.suffix)}(?:\.gz|\.zst)?"
    names = re.compile(rf"{re.escape(one.name)}[.-].+|{numbered}", re.DOTALL)
    own = {sibling.path for sibling in rotated_files.find(path)[0]}
    with os.scandir(one.parent) as entries:
        for entry in entries:
            if names.fullmatch(entry.name) is None or entry.path in own:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            is_other = Identity(status.st_dev, status.st_ino) not in {passed.identity, current}
            # Packing keeps the time of the last write, so a packed file that was read before is left out by it. Some
            # programs keep whole seconds only.
            is_later = status.st_mtime_ns // 1_000_000_000 >= passed.written_ns // 1_000_000_000
            if stat.S_ISREG(status.st_mode) and status.st_size and is_other and is_later:
                yield status.st_mtime_ns, Path(entry.path)
