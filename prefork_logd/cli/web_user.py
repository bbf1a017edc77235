"""Adds users of the page to a configuration file, and changes their passwords there; comments stay.

Does not know how a password is hashed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from prefork_logd.config.load import load, loads
from prefork_logd.config.paths import PID_FILE
from prefork_logd.errors import ConfigError, ProcessError
from prefork_logd.system.disk import replace_file
from prefork_logd.system.privileges import find_account, find_owner, group_name

if TYPE_CHECKING:
    from prefork_logd.config.settings import Settings
    from prefork_logd.config.web import WebSettings, WebUserSettings


def user_table(name: str, hashed: str, role: str) -> str:
    """Return the table of a user, as TOML."""
    return f"[[web.user]]\n{tomli_w.dumps({'name': name, 'password': hashed, 'role': role})}"


def closing_commands(path: Path, settings: Settings) -> str:
    """Return the commands after which only the owner of a file and the collector's user can read it."""
    state_dir = Path(settings.server.state_dir)
    owner = find_owner(state_dir / PID_FILE, state_dir)
    if user := settings.server.user:
        account = find_account(user)
        uid, gid = account.pw_uid, account.pw_gid
    elif owner is not None:
        uid, gid = owner.st_uid, owner.st_gid
    else:
        uid, gid = 0, 0
    status = path.stat()
    if uid in (0, status.st_uid):
        return f"chmod o-r {path}"
    # Without these the collector could not read its configuration again, nor start.
    return f"chgrp {group_name(gid)} {path} && chmod g+r,o-r {path}"


def change_file(path: Path, name: str, hashed: str, role: str | None) -> str:
    """Write a user into a configuration file; return the change in words.

    A user that exists keeps the role, unless another one is given: then nothing is changed. Raises ConfigError for a
    file that is not valid, ProcessError, OSError.
    """
    real = Path(os.path.realpath(path))
    before = real.read_text()
    known = {user.name: user for user in _web(before, path).user}
    if name in known and role not in (None, known[name].role):
        raise ProcessError(f"{path}: user {name!r} has the role {known[name].role!r}; change it in the file, by hand")
    if name in known and before.count(known[name].password) == 1:
        after, done = before.replace(known[name].password, hashed), f"user {name!r} has a new password"
    elif name in known:
        after, done = before, ""
    else:
        gap = "" if not before or before.endswith("\n\n") else "\n" if before.endswith("\n") else "\n\n"
        role = role or "viewer"
        after, done = f"{before}{gap}{user_table(name, hashed, role)}", f"user {name!r} was added as {role}"
    if {user.name: user.password for user in _users_or_none(after, path)}.get(name) != hashed:
        raise ProcessError(
            f"{path}: the user cannot be written there, as [web] is an inline table, or the same password is written "
            f"twice; write this by hand:\n{user_table(name, hashed, role or 'viewer')}"
        )
    _replace(real, after)
    return done


def _web(text: str, path: Path) -> WebSettings:
    # The whole file first: its relative paths and the files that it names are right as it lies.
    load(path)
    return loads(text, str(path), directory=str(path.parent)).web


def _users_or_none(text: str, path: Path) -> tuple[WebUserSettings, ...]:
    try:
        return loads(text, str(path), directory=str(path.parent)).web.user
    except ConfigError:
        return ()


def _replace(path: Path, text: str) -> None:
    """Replace a file's content in one step; it keeps its owner and its mode."""
    status = path.stat()
    replace_file(path, text.encode(), status.st_mode & 0o777)
    path.chmod(status.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(path, status.st_uid, status.st_gid)
