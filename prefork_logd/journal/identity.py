"""Names the journal to the stores, and notices a copy of its directory.

Owns the identity file, which has the journal's name and the boot in which the journal was last appended to, and its
seal. Does not know segments or records.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from prefork_logd.journal.record_block import JOURNAL_BYTES
from prefork_logd.system.disk import replace_file, sync_directory

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY_FILE = "identity"
SEAL_FILE = "identity.seal"
"""Name of the seal, which holds the inode of the identity file; a copy of the directory has another inode."""


def is_copied(directory: Path) -> bool:
    """Tell whether the identity file is not the sealed one, so that the directory is a copy.

    A copy has another inode or another time of change, which no program can copy. Raises OSError.
    """
    try:
        return (directory / SEAL_FILE).read_bytes() != _mark_of_identity(directory)
    except FileNotFoundError:
        return False


def _mark_of_identity(directory: Path) -> bytes:
    found = (directory / IDENTITY_FILE).stat()
    return f"{found.st_ino} {found.st_ctime_ns}\n".encode()


def read_identity(directory: Path, problems: list[str]) -> tuple[bytes, str]:
    """Return the journal's name, and the boot in which it was last appended to.

    A journal without a readable identity gets a new name, and no boot; an invalid file is added to `problems`.
    Raises OSError.
    """
    path = directory / IDENTITY_FILE
    damage = ""
    try:
        document = json.loads(path.read_bytes())
        journal, boot = bytes.fromhex(document["journal"]), str(document["boot"])
        if len(journal) == JOURNAL_BYTES:
            return journal, boot
        damage = "the name of the journal has the wrong length"
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError) as error:
        damage = str(error)
    if damage:
        what = "the journal gets another name, and stores begin with its oldest record"
        problems.append(f"{path}: is damaged ({damage}); {what}")
    return os.urandom(JOURNAL_BYTES), ""


def write_identity(directory: Path, journal: bytes, boot: str) -> None:
    """Rewrite the identity, and seal it. Raises OSError."""
    path = directory / IDENTITY_FILE
    replace_file(path, json.dumps({"journal": journal.hex(), "boot": boot}).encode())
    seal_identity(directory)
    sync_directory(directory)


def is_sealed(directory: Path) -> bool:
    """Tell whether there is a seal."""
    return (directory / SEAL_FILE).exists()


def seal_identity(directory: Path) -> None:
    """Seal the identity: record the inode of its file. Raises OSError."""
    fd = os.open(directory / SEAL_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, _mark_of_identity(directory))
        with contextlib.suppress(OSError):  # Without it, at worst a power loss makes the original look like a copy.
            os.fsync(fd)
    finally:
        os.close(fd)
