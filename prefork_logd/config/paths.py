"""Names the files that the collector keeps in its state directory.

Owns the names. Opens nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from pathlib import Path


OWN_FILES = ("prefork-logd.pid", "prefork-logd.log", "control.sock", "rejected.jsonl", "writer.lock", "journal")
"""What the collector itself keeps in state_dir."""
PID_FILE, LOG_FILE, CONTROL_SOCKET, REJECTED_FILE, WRITER_LOCK, JOURNAL_DIRECTORY = OWN_FILES
DEAD_LETTERS = "dead-letters-{}.jsonl"
"""What a store refuses, by its name."""


def dead_letters_path(state_dir: Path, store: str) -> Path:
    """Return where the records are that a store has refused."""
    return state_dir / DEAD_LETTERS.format(store)


def default_state_dir() -> str:
    """Return where state is kept when nothing says otherwise: the system's place for root, else the user's own.

    Raises ValueError with a sentence for the user if there is no such place.
    """
    if os.geteuid() == 0:
        return "/var/lib/prefork-logd"
    try:
        found = platformdirs.user_state_dir("prefork-logd")
    except RuntimeError:
        found = ""
    if not found.startswith("/"):
        # Older releases of platformdirs leave a "~" as it is without HOME and an account, and take a relative HOME.
        raise ValueError(f"the home directory of user {os.geteuid()} is not known; set HOME, or give --state-dir")
    return found
