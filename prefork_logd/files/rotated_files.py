"""Lists the rotated files of an output, reserves new names, and finds the surplus ones.

Owns the name pattern, and never touches a file that does not match it exactly. Does not know a clock except for the
stamp in a name: the order comes from the sequence number, never from the stamp.

    all.jsonl                                     the current file
    all.jsonl.20261123T080000Z.000001             rotated
    all.jsonl.20261123T080000Z.000001.gz          rotated, compressed
    all.jsonl.20261123T080000Z.000001.gz.tmp      being compressed
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.config.values import format_count
from prefork_logd.files.events import Event, trouble
from prefork_logd.files.opening import Identity
from prefork_logd.system.disk import cut_torn_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

SUFFIXES = {"gzip": ".gz", "zstd": ".zst"}
METHODS = {suffix: method for method, suffix in SUFFIXES.items()}
TEMPORARY = ".tmp"
_LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z: a later time, or one before 1970, would not fit the pattern."""


class Sibling(NamedTuple):
    """One rotated file."""

    sequence: int
    path: str
    suffix: str
    """Empty: not compressed."""
    nbytes: int
    identity: Identity


def find(path: str) -> tuple[list[Sibling], list[str]]:
    """Return the rotated files of `path`, the oldest first, and the paths of unfinished compressions.

    A missing directory counts as empty. Raises OSError if it cannot be read.
    """
    pattern = re.compile(
        rf"{re.escape(os.path.basename(path))}\.[0-9]{{8}}T[0-9]{{6}}Z\.([0-9]{{6,18}})((?:\.gz|\.zst)?)((?:\.tmp)?)"  # noqa: PTH119 - of a path whose bytes may be any
    )
    siblings, unfinished = [], []
    try:
        entries = os.scandir(Path(path).parent)
    except FileNotFoundError:
        return [], []
    with entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match is None:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            if not match[3]:
                identity = Identity(status.st_dev, status.st_ino)
                siblings.append(Sibling(int(match[1]), entry.path, match[2], status.st_size, identity))
            elif match[2]:
                unfinished.append(entry.path)
    return sorted(siblings), unfinished


def reserve(path: str, wall_s: float) -> str:
    """Create an empty file under the next rotated name, for a rename to replace; returns that name.

    So no file is ever overwritten, even if the clock is set back or the file system has no hard links; and the next
    current file can use this inode, even if no other is free. Raises OSError.
    """
    siblings, unfinished = find(path)
    taken = [sibling.sequence for sibling in siblings]
    taken += [int(name.rsplit(".", 3)[1]) for name in unfinished]
    return reserve_number(path, wall_s, max(taken, default=0) + 1)


def reserve_number(path: str, wall_s: float, sequence: int) -> str:
    """Do the same for a sequence number that is known to be free. Raises OSError."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(min(max(wall_s, 0), _LAST_SECOND)))
    name = f"{path}.{stamp}.{sequence:06d}"
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return name


def clean_up(path: str, current: Identity | None) -> list[Event]:
    """Repair the rotated files of `path` after a crash; return events for the log.

    Removes unused reserved names and unfinished compressions, and cuts torn lines. A compression that still runs, in a
    process that outlived its writer, holds a lock on its source and is left alone. Raises OSError.
    """
    events = []
    siblings, unfinished = find(path)
    for sibling in siblings:
        if sibling.identity == current or sibling.suffix:
            continue
        if not sibling.nbytes:
            Path(sibling.path).unlink(missing_ok=True)
            continue
        torn_bytes = _cut_torn_line(sibling.path)
        if torn_bytes:
            events.append(trouble(f"{sibling.path}: cut off a torn line of {format_count(torn_bytes, 'byte')}"))
    for name in unfinished:
        source = name.removesuffix(TEMPORARY).rpartition(".")[0]
        if not is_locked(source):
            Path(name).unlink(missing_ok=True)
    return events


def surplus(siblings: Sequence[Sibling], keep: int, keep_bytes: int, spared: Collection[int]) -> list[Sibling]:
    """Return the files to remove, the oldest first: all but the newest `keep` (0: any number), and those older
    than the newest `keep_bytes` bytes (0: any size).

    Sequence numbers in `spared` are counted but never returned. A rotation's file and its compressed form share a
    sequence number and count once.
    """  # noqa: D205 - the sentence needs two lines
    removed: list[Sibling] = []
    total_bytes = 0
    for rank, (sequence, files) in enumerate(_by_sequence(siblings)):
        total_bytes += sum(sibling.nbytes for sibling in files)
        is_surplus = (keep and rank >= keep) or (keep_bytes and total_bytes > keep_bytes)
        if is_surplus and sequence not in spared:
            removed += files
    return removed[::-1]


def _by_sequence(siblings: Iterable[Sibling]) -> list[tuple[int, list[Sibling]]]:
    """Group by sequence number, the newest first."""
    groups: dict[int, list[Sibling]] = {}
    for sibling in siblings:
        groups.setdefault(sibling.sequence, []).append(sibling)
    return sorted(groups.items(), reverse=True)


def _cut_torn_line(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        return cut_torn_line(fd)
    except OSError as error:
        if error.errno != errno.EILSEQ:
            raise
        return 0
    finally:
        os.close(fd)


def is_locked(path: str) -> bool:
    """Return whether another process has a lock on a file, as a compressor has on its source. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
