"""Names the files that the collector keeps in its state directory, and the process that writes each.

Owns the names. Opens no file. Outputs and the files of stores have their paths from their own settings.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from pathlib import Path


OWN_FILES = (
    "prefork-logd.pid",
    "prefork-logd.log",
    "control.sock",
    "rejected.jsonl",
    "writer.lock",
    "journal",
    "page",
    "alerts.db",
    "alerts.db-wal",
    "alerts.db-shm",
    "alerts.lock",
)
"""The collector's own files in state_dir.

The master writes the pid file and makes the socket; every process of a daemon writes the log; the writer writes the
others. In the directory `journal` each shipper has the lock of its store. The page's process writes the
directory `page`, and so do the verbs `web`, `run` and `start`. The process of the alerts, the page's process and the
verb `alert` write the database alerts.db, beside which SQLite puts two files; alerts.lock is the first one's.
"""
(
    PID_FILE,
    LOG_FILE,
    CONTROL_SOCKET,
    REJECTED_FILE,
    WRITER_LOCK,
    JOURNAL_DIRECTORY,
    PAGE_DIRECTORY,
    ALERTS_FILE,
    _,
    _,
    ALERTS_LOCK,
) = OWN_FILES
DEAD_LETTERS = "dead-letters-{}.jsonl"
"""The file of a store's dead letters, by the name of the store. Its shipper writes it, and `replay`."""


def dead_letters_path(state_dir: Path, store: str) -> Path:
    """Return the path of a store's dead letters."""
    return state_dir / DEAD_LETTERS.format(store)


SYSTEM_STATE_DIR = "/var/lib/prefork-logd"
"""The state directory of root, and of the units for systemd."""


def default_state_dir() -> str:
    """Return the default state directory: the system's for root, else the user's own.

    Raises ValueError with a sentence for the user if their home directory is not known.
    """
    if os.geteuid() == 0:
        return SYSTEM_STATE_DIR
    try:
        found = platformdirs.user_state_dir("prefork-logd")
    except RuntimeError:
        found = ""
    if not found.startswith("/"):
        # Older releases of platformdirs leave a "~" as it is without HOME and an account, and take a relative HOME.
        raise ValueError(f"the home directory of user {os.geteuid()} is not known; set HOME, or give --state-dir")
    return found
