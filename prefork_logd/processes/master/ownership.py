"""Finds files of the collector that its user cannot write, before the first client is served.

Owns the search and the error text. Does not open or change a file.

A collector that once ran as root leaves files that server.user cannot write. Without this check the writer or a shipper
would fail on them one by one, while clients are served already.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.output_paths import PathPattern
from prefork_logd.config.paths import (
    CONTROL_SOCKET,
    DEAD_LETTERS,
    JOURNAL_DIRECTORY,
    LOG_FILE,
    OWN_FILES,
    PID_FILE,
    WRITER_LOCK,
)
from prefork_logd.errors import ProcessError
from prefork_logd.system.privileges import user_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prefork_logd.config.settings import Settings

_MOST_NAMED = 5
NEVER_LINKS = frozenset({PID_FILE, LOG_FILE, WRITER_LOCK})
"""Names of files that are not opened through a link, whoever owns its target (own_files.py)."""


def require_own_files(settings: Settings) -> None:
    """Raise ProcessError naming the files that this user cannot write, their owners and the remedy.

    Call it with the rights that the collector will have. Root can write all.
    """
    if os.geteuid() == 0:
        return
    user = user_name(os.geteuid())
    state_dir = Path(settings.server.state_dir)
    _require_way(state_dir, user)
    if (owner := _foreign_owner(state_dir)) is not None:
        # Whoever starts it by hand as another user wants the other account, not the other's files.
        chown = f"chown -R {user}: {shlex.quote(str(state_dir))}"
        other = f"use that account, or give another --state-dir; to give it to {user}, stop its collector, then"
        remedy = f"do: {chown}" if settings.server.user else f"{other} do as root: {chown}"
        raise ProcessError(f"{state_dir}: belongs to {owner}, and user {user!r} cannot write there; {remedy}")
    foreign = {path: owner for path in _files(settings) if (owner := _foreign_owner(path)) is not None}
    if not foreign:
        return
    _require_no_links(foreign, user)
    names = [str(path) for path in list(foreign)[:_MOST_NAMED]]
    more = f" and {len(foreign) - _MOST_NAMED} more" if len(foreign) > _MOST_NAMED else ""
    owners = ", ".join(sorted(set(foreign.values())))
    outside = [shlex.quote(str(path)) for path in foreign if not path.is_relative_to(state_dir)]
    inside = [shlex.quote(str(state_dir))] if len(outside) < len(foreign) else []
    raise ProcessError(
        f"these belong to {owners}, and user {user!r} cannot write them: {', '.join(names)}{more}; "
        f"do: chown -R {user}: {' '.join([*inside, *outside])}"
    )


def _require_no_links(foreign: Mapping[Path, str], user: str) -> None:
    """Raise ProcessError naming the links among these files: `chown -R` changes a link, and not the file behind it.

    The remedy leaves the target to people: the user who may put links there may not give root's files away.
    """
    links = [path for path in foreign if path.is_symlink()]
    if not links:
        return
    named = ", ".join(f"{path} leads to {os.path.realpath(path)} of {foreign[path]}" for path in links[:_MOST_NAMED])
    more = f" and {len(links) - _MOST_NAMED} more" if len(links) > _MOST_NAMED else ""
    remedy = f"rm {' '.join(shlex.quote(str(path)) for path in links)}"
    targets = [shlex.quote(os.path.realpath(path)) for path in links if path.name not in NEVER_LINKS]
    kept = f"; or, for a link that you have made, chown -R {user}: {' '.join(targets)}" if targets else ""
    raise ProcessError(f"user {user!r} cannot write what these links lead to: {named}{more}; do: {remedy}{kept}")


def _require_way(path: Path, user: str) -> None:
    """Raise ProcessError for the first directory on the way to a path that this user cannot enter."""
    for directory in reversed(path.parents):
        if directory.is_dir() and not os.access(directory, os.X_OK, effective_ids=True):
            raise ProcessError(
                f"{directory}: user {user!r} cannot enter it, on the way to {path}; do: chmod o+x "
                f"{shlex.quote(str(directory))}, or name another state directory"
            )


def _files(settings: Settings) -> Iterator[Path]:
    """Yield every place where a file of the collector may lie, each once."""
    state_dir = Path(settings.server.state_dir)
    # A control socket that was left behind is replaced, also one of another user.
    found = [state_dir / name for name in OWN_FILES if name != CONTROL_SOCKET]
    found += sorted((state_dir / JOURNAL_DIRECTORY).glob("*"))
    found += sorted(state_dir.glob(DEAD_LETTERS.format("*")))
    found += [
        Path(PathPattern(output.path).base if output.has_fields else output.file_path) for output in settings.output
    ]
    for store in settings.shipped:
        found += store.files()
    yield from dict.fromkeys(found)


def _foreign_owner(path: Path) -> str | None:
    """Return the owner of a file or directory that this user cannot write; None if it can, or if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    is_directory = stat.S_ISDIR(status.st_mode)
    if status.st_uid == os.geteuid() or not (is_directory or stat.S_ISREG(status.st_mode)):
        return None
    wanted = os.R_OK | os.W_OK | (os.X_OK if is_directory else 0)
    return None if os.access(path, wanted, effective_ids=True) else user_name(status.st_uid)
