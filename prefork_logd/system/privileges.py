"""Changes from root to server.user, for a while or for good.

Owns the change of user, and which directories root may work in. Does not know the collector's files.

Root must not open paths that a user can change: a link in them could lead to any file. So everything in that user's
directories is opened as that user. Root uses only paths in which no other user can put a link.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import resource
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.errors import ProcessError
from prefork_logd.system import libc

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE_DIR_MODE = 0o750
PARENT_MODE = 0o755
"""Mode of created parents of a directory that other users must reach."""


def find_account(user: str) -> pwd.struct_passwd:
    """Return a user's account. Raises ProcessError if the user does not exist."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise ProcessError(f"server.user = {user!r}: this user does not exist; create it, or name another") from None


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if it has no account."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of a group, or the number if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def is_to_be_dropped(user: str) -> bool:
    """Tell whether this process is root and must change to another user.

    Raises ProcessError if the user does not exist, or this process cannot change to it.
    """
    if not user:
        return False
    uid = find_account(user).pw_uid
    if os.geteuid() not in (0, uid):
        raise ProcessError(f"server.user = {user!r}: only root can become another user; start as root")
    return os.geteuid() != uid


@contextlib.contextmanager
def acting_as(user: str) -> Iterator[None]:
    """Have a user's rights, and none of root's, inside a `with`; without a user, or as that user, change nothing.

    Raises ProcessError as `is_to_be_dropped` does.
    """
    if not is_to_be_dropped(user):
        yield
        return
    account = find_account(user)
    groups, gid = os.getgroups(), os.getegid()
    try:
        _become_member(user, account.pw_gid)
        os.seteuid(account.pw_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def _become_member(user: str, gid: int) -> None:
    try:
        os.initgroups(user, gid)
        os.setegid(gid)
    except PermissionError as error:
        raise ProcessError(f"server.user = {user!r}: only root can become another user; start as root") from error


def drop_privileges(user: str) -> None:
    """Change to another user for good. Raises ProcessError if it does not exist, or this process is not root."""
    if not is_to_be_dropped(user):
        return
    account = find_account(user)
    try:
        os.initgroups(user, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    except PermissionError as error:
        raise ProcessError(f"server.user = {user!r}: only root can become another user; start as root") from error


def find_owner(*paths: Path) -> os.stat_result | None:
    """Return the status of the first of these paths that exists, links not followed; None if its owner is root."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = path.lstat()
            return status if status.st_uid else None
    return None


def become_owner(status: os.stat_result) -> None:
    """As root, change for good to the owner of a file, who needs no account: a container may have none."""
    try:
        account = pwd.getpwuid(status.st_uid)
    except KeyError:
        os.setgroups([])
        os.setgid(status.st_gid)
    else:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
    os.setuid(status.st_uid)


def keep_reachable(path: Path, owner: os.stat_result) -> None:
    """As root, let the owner of a directory reach it in this process, also where only root can enter one above it.

    systemd keeps the directory of a dynamic user in such a one, /var/lib/private; the service has a mount of its own.
    Where mounts are not allowed, nothing changes.
    """
    real = Path(os.path.realpath(path))
    closed = next((parent for parent in reversed(real.parents) if not _may_enter(parent, owner)), None)
    if closed is None:
        return
    with contextlib.suppress(OSError):
        libc.unshare_mounts()
        fd = os.open(real, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_uid == owner.st_uid:  # a link of this user may lead to a directory of another
                libc.mount_tmpfs(str(closed), f"mode={PARENT_MODE:o}")
                make_directories(real)
                libc.bind_mount(fd, str(real))
        finally:
            os.close(fd)


def _may_enter(directory: Path, user: os.stat_result) -> bool:
    status = directory.stat()
    if status.st_uid == user.st_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == user.st_gid else stat.S_IXOTH))


def require_trusted(path: Path) -> None:
    """Raise ProcessError if users other than this one and root can change where an existing path leads."""
    real = Path(os.path.realpath(path))
    for step in dict.fromkeys((path, *path.parents, real, *real.parents)):
        status = step.lstat()
        is_open = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX and not stat.S_ISLNK(status.st_mode)
        if status.st_uid not in (0, os.geteuid()) or is_open:
            owner = f"belongs to {user_name(status.st_uid)}" if not is_open else "can be written by others"
            raise ProcessError(
                f"{step}: {owner}, who could put a link there; create the missing directories in it by hand, "
                "or name another place"
            )


def make_directories(path: Path) -> None:
    """Create a directory and its missing parents; other users may enter them. Raises OSError."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(PARENT_MODE)
            directory.chmod(PARENT_MODE)


def make_state_dir(path: Path, user: str) -> None:
    """Create a state directory that is missing, for the user that will use it. Raises OSError and ProcessError."""
    if path.is_dir():
        return
    try:
        with acting_as(user):
            make_directories(path.parent)
            path.mkdir(STATE_DIR_MODE)
            path.chmod(STATE_DIR_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise
    except PermissionError:
        if not is_to_be_dropped(user):
            raise
        _make_for(path, find_account(user))


def _make_for(path: Path, account: pwd.struct_passwd) -> None:
    """Create a directory as root, where only root can, and give it to a user."""
    existing = next(parent for parent in path.parents if parent.is_dir())
    require_trusted(existing)
    make_directories(path.parent)
    path.mkdir(STATE_DIR_MODE)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(fd, STATE_DIR_MODE)
        os.fchown(fd, account.pw_uid, account.pw_gid)
    finally:
        os.close(fd)


def raise_descriptor_limit() -> None:
    """Raise the soft limit of descriptors to the hard one: each connection needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def prepare_state_dir(path: Path, user: str) -> None:
    """Create the state directory if it is missing, for the user that will use it. Raises ProcessError."""
    try:
        make_state_dir(path, user)
    except OSError as error:
        raise ProcessError(
            f"{path}: cannot be used as state directory: {error.strerror}; make it writable, or give another with "
            "--state-dir or server.state_dir"
        ) from error
