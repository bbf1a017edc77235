"""Lists the files of an output whose path has fields, and finds those to rotate, to compress and to remove.

Owns which names belong to the pattern, and the rules for the whole set. Does not change a file, as pattern_tidying.py
does.

A file is open (by the writer), or closed. A closed file is finished if its date has passed or if it has been rotated;
the writer may open another closed file again, for a service that sends again.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.files import failed_files
from prefork_logd.files.rotated_files import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prefork_logd.config.output_paths import PathPattern

_ROTATED = re.compile(r"(.+)\.[0-9]{8}T[0-9]{6}Z\.([0-9]{6,18})((?:\.gz|\.zst)?)((?:\.tmp)?)", re.DOTALL)


class PatternFile(NamedTuple):
    """One file of the set."""

    path: str
    current: str
    """The path from which it was rotated; its own path if it is not rotated."""
    sequence: int
    """The number of its rotation; 0: not rotated."""
    suffix: str
    """".gz" or ".zst"; empty: not compressed."""
    date: str
    """The date in its path; empty without one."""
    nbytes: int
    written_s: float
    """When it was written last, in seconds since 1970."""
    could_not_sync: bool = False
    """Whether it was put aside (failed_files.py): it is never rotated, and only removed by size and age."""


def entries(base: str, pattern: PathPattern) -> Iterator[os.DirEntry[str]]:
    """Yield everything in the directories of the pattern whose name begins like that of a file of the pattern.

    Symbolic links are not followed. Raises OSError if a directory cannot be read; a missing one counts as empty.
    """
    yield from _entries(base, pattern, 0)


def _entries(directory: str, pattern: PathPattern, depth: int) -> Iterator[os.DirEntry[str]]:
    is_last = depth == len(pattern.components) - 1
    try:
        found = os.scandir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    with found:
        for entry in found:
            if is_last:
                if pattern.begins(entry.name):
                    yield entry
            elif pattern.is_directory(depth, entry.name) and entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, pattern, depth + 1)


def read(base: str, pattern: PathPattern) -> Iterator[PatternFile | str]:
    """Yield each file of the set, and the path of each unfinished compression. Raises OSError as `entries`."""
    for entry in entries(base, pattern):
        match = _ROTATED.fullmatch(entry.name)
        failed = failed_files.NAME.fullmatch(entry.name)
        name = match[1] if match else failed[1] if failed else entry.name
        if not pattern.is_file(name):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        if match and match[4]:
            if match[3]:
                yield entry.path
            continue
        current = entry.path[: len(entry.path) - len(entry.name)] + name
        date = pattern.date_of(current[len(base) :].lstrip("/"))
        numbers = (int(match[2]), match[3]) if match else (0, "")
        yield PatternFile(
            entry.path, current, *numbers, date, status.st_size, status.st_mtime, could_not_sync=failed is not None
        )


def is_finished(file: PatternFile, today: str) -> bool:
    """Return whether nothing more is written to a closed file."""
    return bool(file.sequence) or ("" < file.date < today and not file.could_not_sync)


def surplus(
    files: Iterable[PatternFile],
    is_spared: Callable[[PatternFile], bool],
    *,
    keep: int,
    keep_bytes: int,
    oldest_s: float,
) -> list[PatternFile]:
    """Return the files to remove, those written first at the beginning.

    These are: of the rotated files of one path all but the newest `keep` (0: any number); files written last before
    `oldest_s`; and those beyond `keep_bytes` bytes of the whole set (0: any size), counted from the newest one. Files
    in `is_spared` are counted but never returned.
    """
    by_age = sorted(files, key=lambda file: (file.written_s, file.sequence), reverse=True)
    ranks: dict[str, dict[int, int]] = {}
    for file in sorted(by_age, key=lambda file: -file.sequence):
        if file.sequence:
            numbers = ranks.setdefault(file.current, {})
            # A file and its compressed form share a number, and count once.
            numbers.setdefault(file.sequence, len(numbers))
    removed, total_bytes = [], 0
    for file in by_age:
        total_bytes += file.nbytes
        is_counted_out = bool(keep and file.sequence and ranks[file.current][file.sequence] >= keep)
        is_old = file.written_s < oldest_s
        is_beyond = bool(keep_bytes and total_bytes > keep_bytes)
        if (is_counted_out or is_old or is_beyond) and not is_spared(file):
            removed.append(file)
    return removed[::-1]


def temporary_source(path: str) -> str:
    """Return the path of the file that an unfinished compression was made of."""
    return path.removesuffix(TEMPORARY).rpartition(".")[0]
