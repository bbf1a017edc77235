"""Cuts off, copies aside or keeps the bytes beyond the committed length of the last writer's files.

Owns the list of such files, renamed ones included, and their log lines. journal/intent.py decides which of the three is
done. Does not know lines or pipes.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.errors import OutputError
from prefork_logd.journal import aside
from prefork_logd.journal.intent import Evidence, Fate
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from prefork_logd.files.output_file import OutputFile
    from prefork_logd.journal.commit_entry import Committed
    from prefork_logd.journal.intent import Identity

RETRY_S = 1.0


class Tails:
    """The files of the last commit that may be longer than their committed length."""

    def __init__(self) -> None:
        self.lengths: dict[Identity, int] = {}
        """Committed lengths of files that are not cut yet."""
        self._evidence = Evidence()
        self._due_s = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to try files that could not be cut again."""
        return bool(self.lengths) and time.monotonic() >= self._due_s

    def begin(self, committed: Committed, evidence: Evidence, others: Collection[Identity] = ()) -> None:
        """Take the files of a commit, except `others`, which the record log cuts."""
        self._evidence = evidence
        self.lengths = {
            identity: evidence.length(identity, length)
            for identity, length in committed.files.items()
            if identity not in others
        }

    def leave_new(self, outputs: Iterable[OutputFile]) -> None:
        """Forget files whose inode numbers belong to newly made outputs: those files have been removed."""
        for output in outputs:
            if output.is_new and output.identity is not None:
                self.lengths.pop(output.identity, None)

    def announced(self) -> dict[Identity, tuple[int, int] | None]:
        """Return the announcements for files that are not cut yet; None for a file that must not be announced."""
        return {identity: self._evidence.pending(identity, length) for identity, length in self.lengths.items()}

    def cut(self, outputs: Iterable[OutputFile], sets: Sequence[Callable[[], Iterator[os.DirEntry[str]]]] = ()) -> None:
        """Cut the files that can be cut now. One that cannot is closed, so that nothing is appended to it before.

        Each of `sets` yields the files of an output whose path has fields; most of them are not open.
        """
        outputs = list(outputs)
        self.leave_new(outputs)
        for output in outputs:
            identity = output.identity
            if identity is not None and identity in self.lengths:
                try:
                    self._cut_open(output, identity)
                except OutputError:
                    output.close()
                    continue
                del self.lengths[identity]
        if not self.lengths:
            return
        self._due_s = time.monotonic() + RETRY_S
        is_refused = False
        for output in outputs:
            try:
                for entry in _renamed(Path(output.path), self.lengths):
                    self._cut_renamed(entry, output.path)
            except OSError:
                is_refused = True
        inodes = {inode for _, inode in self.lengths}
        for entries in sets if inodes else ():
            try:
                for entry in entries():
                    # There may be very many files: only those with a wanted inode are looked at.
                    if entry.inode() in inodes and _is_one_of(entry, self.lengths):
                        self._cut_renamed(entry, entry.path)
            except OSError:
                is_refused = True
        if not is_refused and all(output.is_open or _is_stream(output.path) for output in outputs):
            # The remaining files have been removed, or moved to an unknown place.
            self.lengths = {}

    def _cut_open(self, output: OutputFile, identity: Identity) -> None:
        length, size = self.lengths[identity], output.size()
        if size <= length:
            return
        fate = self._evidence.fate(identity, length, size)
        if fate is Fate.KEEP:
            _log_kept(output.path, size - length)
            return
        kept = ""

        def keep(fd: int) -> None:
            nonlocal kept
            kept = aside.copy_end(fd, length, size, output.path)

        output.cut_back(length, identity, keep if fate is Fate.SET_ASIDE else None)
        _log_cut(output.path, size - length, kept)

    def _cut_renamed(self, entry: os.DirEntry[str], path: str) -> None:
        """Cut a file that was renamed while the last writer had it open. Raises OSError."""
        found = entry.stat(follow_symlinks=False)
        identity = (found.st_dev, found.st_ino)
        length = self.lengths[identity]
        if found.st_size > length:
            fate = self._evidence.fate(identity, length, found.st_size)
            if fate is Fate.KEEP:
                _log_kept(entry.path, found.st_size - length)
            else:
                with os.fdopen(os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as file:
                    fd = file.fileno()
                    kept = aside.copy_end(fd, length, found.st_size, path) if fate is Fate.SET_ASIDE else ""
                    os.ftruncate(fd, length)
                    os.fdatasync(fd)
                _log_cut(entry.path, found.st_size - length, kept)
        del self.lengths[identity]


def _renamed(path: Path, lengths: Mapping[Identity, int]) -> Iterator[os.DirEntry[str]]:
    """Yield the files of `lengths` beside an output: renamed (logrotate) while the last writer had them open.

    The name must begin like the output's, too: inode numbers are reused, and a foreign file must not be cut.
    Raises OSError if the directory cannot be read.
    """
    try:
        entries = [entry for entry in os.scandir(path.parent) if entry.name.startswith(path.stem)]
    except FileNotFoundError:
        return
    for entry in entries:
        if _is_one_of(entry, lengths):
            yield entry


def _is_one_of(entry: os.DirEntry[str], lengths: Mapping[Identity, int]) -> bool:
    """Return whether this file is in `lengths`."""
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) in lengths


def _is_stream(path: str) -> bool:
    """Return whether a path leads to a FIFO or a character device, which has no bytes to cut."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _log_cut(path: str, nbytes: int, kept: str) -> None:
    if not kept:
        LOGGER.warning(
            "%s: cut back by %s without a commit; clients send them again", path, format_count(nbytes, "byte")
        )
        return
    LOGGER.warning(
        "%s: cut back by %s, which may not be committed and are kept in %s; clients send again what was not "
        "acknowledged, and `prefork-logd import` brings the rest into a store",
        path, format_count(nbytes, "byte"), kept,
    )  # fmt: skip


def _log_kept(path: str, nbytes: int) -> None:
    LOGGER.error(
        "%s: has %s more than the journal knows of, which are kept: the state directory is older than this file "
        "(restored from a backup?) or damaged, or another program writes to the file; put the newest state directory "
        "back if there is one, else some of its last lines may come twice",
        path, format_count(nbytes, "byte"),
    )  # fmt: skip
