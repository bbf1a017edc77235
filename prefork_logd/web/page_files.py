"""Keeps the page's files in the state directory: secrets, sessions, tokens and saved searches.

Owns their directory, their mode and the way they are replaced. Does not know their content. The page's process and the
command line use them at the same time, so each file is replaced in one step.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import TYPE_CHECKING

from prefork_logd.config.paths import PAGE_DIRECTORY
from prefork_logd.system.disk import naming_file, replace_file
from prefork_logd.system.own_files import open_to_read

if TYPE_CHECKING:
    from pathlib import Path

SECRET_BYTES = 32
_DIRECTORY_MODE = 0o700
_MODE = 0o600
_MOST_BYTES = 16 << 20
"""A larger file is not one of ours."""


class PageFiles:
    """The files of the page of one collector."""

    def __init__(self, state_dir: Path) -> None:
        """Use the page's directory in `state_dir`; it is made when the first file is written."""
        self.directory = state_dir / PAGE_DIRECTORY

    def path(self, name: str) -> Path:
        """Return the path of a file."""
        return self.directory / name

    def read(self, name: str) -> bytes:
        """Return the content of a file, empty if it is missing. Raises OSError."""
        try:
            fd = open_to_read(self.path(name))
        except FileNotFoundError:
            return b""
        with os.fdopen(fd, "rb") as file:
            return file.read(_MOST_BYTES)

    def version(self, name: str) -> tuple[int, int, int]:
        """Return numbers that change with every replacement of a file; zeros if it is missing."""
        try:
            found = self.path(name).lstat()
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size

    def write(self, name: str, data: bytes) -> None:
        """Replace the content of a file in one step; only its owner can read it. Raises OSError."""
        self._make_directory()
        replace_file(self.path(name), data, _MODE)

    def secret(self, name: str) -> bytes:
        """Return the random bytes in a file, which is made if it is missing. Raises OSError."""
        found = self.read(name)
        if len(found) == SECRET_BYTES:
            return found
        if found:
            # Damaged: what was signed with it is lost.
            self.write(name, secrets.token_bytes(SECRET_BYTES))
        else:
            self.write_new(name, secrets.token_bytes(SECRET_BYTES))
        return self.read(name)

    def write_new(self, name: str, data: bytes) -> None:
        """Write a file, unless another process has just done so. Raises OSError."""
        self._make_directory()
        beside = self.path(f"{name}.{os.getpid()}.new")
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with naming_file(self.path(name)), os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        try:
            # A link does not replace an existing file, and shows it only when it is complete (link(2)).
            os.link(beside, self.path(name))
        except FileExistsError:
            pass
        finally:
            beside.unlink()

    def _make_directory(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(_DIRECTORY_MODE)
        # An output may have made it first, for a service of that name.
        if stat.S_IMODE(self.directory.stat().st_mode) != _DIRECTORY_MODE:
            self.directory.chmod(_DIRECTORY_MODE)
