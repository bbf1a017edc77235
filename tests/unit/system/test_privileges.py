"""Root's rights lead nowhere that another user has put a link."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.config.paths import LOG_FILE, PID_FILE, WRITER_LOCK
from prefork_logd.errors import ProcessError
from prefork_logd.net.listener import bind_all, close_all
from prefork_logd.processes.master.ownership import require_own_files
from prefork_logd.system import daemonize, pid_lock, privileges
from tests.support.accounts import NEEDS_ROOT, USER, give, given_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

DAEMON = "daemon"
"""Another user."""


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a directory of nobody's, which nobody can reach."""
    with given_directory() as path:
        yield path


def test_an_unknown_user_is_named() -> None:
    """server.user has to exist."""
    for use in (privileges.drop_privileges, privileges.is_to_be_dropped):
        with pytest.raises(ProcessError, match="does not exist"):
            use("nobody-of-this-name")


@NEEDS_ROOT
def test_rights_are_given_up_for_a_while() -> None:
    """User, group and groups come back, also after an error."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    account = pwd.getpwnam(USER)

    def fail() -> None:
        with privileges.acting_as(USER):
            assert (os.geteuid(), os.getegid()) == (account.pw_uid, account.pw_gid)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


@NEEDS_ROOT
@pytest.mark.parametrize("name", [PID_FILE, WRITER_LOCK, LOG_FILE])
@pytest.mark.parametrize("kind", ["link", "hard link", "linked directory"])
def test_what_the_user_has_linked_is_not_written_by_root(home: Path, name: str, kind: str) -> None:
    """Neither is it truncated, nor created, nor does it get another mode or owner."""
    precious = home.parent / "root" / name
    precious.parent.mkdir()
    precious.write_text("precious")
    precious.chmod(0o600)
    state_dir = home / "state"
    if kind == "linked directory":
        state_dir.symlink_to(precious.parent)
    else:
        state_dir.mkdir()
        give(state_dir)
        (os.link if kind == "hard link" else os.symlink)(precious, state_dir / name)
    before = precious.stat()

    def start() -> None:
        privileges.prepare_state_dir(state_dir, USER)
        with privileges.acting_as(USER):
            require_own_files(loads("", "", {"state_dir": str(state_dir)}))
        with pid_lock.PidLock(state_dir / PID_FILE, USER):
            daemonize.detach(lambda _: 0, state_dir / name, USER)

    with pytest.raises(ProcessError):
        start()
    after = precious.stat()
    assert precious.read_text() == "precious"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert sorted(precious.parent.iterdir()) == [precious]


@NEEDS_ROOT
def test_a_state_directory_is_made_for_the_user_where_only_root_can(home: Path) -> None:
    """Below a directory of root's: the way can be entered, and the directory belongs to the user."""
    path = home.parent / "a" / "b"
    privileges.prepare_state_dir(path, USER)
    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (pwd.getpwnam(USER).pw_uid, 0o750)
    assert (path.parent.stat().st_uid, stat.S_IMODE(path.parent.stat().st_mode)) == (0, 0o755)


@NEEDS_ROOT
def test_root_makes_no_directory_where_another_user_could_lead_it_elsewhere(home: Path) -> None:
    """Neither in that user's directory nor through a link of that user's; a sticky /tmp alone is no danger."""
    give(home, DAEMON)
    (home.parent / "target").mkdir()
    (home / "link").symlink_to(home.parent / "target")
    give(home / "link", DAEMON)
    for path in (home / "state", home / "link" / "state"):
        with pytest.raises(ProcessError, match="belongs to daemon, who could put a link there"):
            privileges.prepare_state_dir(path, USER)
    assert not list((home.parent / "target").iterdir())
    privileges.require_trusted(home.parent)


@NEEDS_ROOT
def test_a_unix_socket_is_made_as_the_user_where_that_is_possible(home: Path) -> None:
    """With its mode from the start, whatever the umask is; in a directory of root's, root makes it."""
    before = os.umask(0o077)
    try:
        sockets = bind_all([f"unix:{home}/run/a.sock", f"unix:{home.parent}/b.sock"], USER)
    finally:
        os.umask(before)
    try:
        made = [(home / "run" / "a.sock").stat(), (home.parent / "b.sock").stat()]
        assert [status.st_uid for status in made] == [pwd.getpwnam(USER).pw_uid, 0]
        assert {stat.S_IMODE(status.st_mode) for status in made} == {0o666}
        assert stat.S_IMODE((home / "run").stat().st_mode) == 0o755
    finally:
        close_all(sockets)


@NEEDS_ROOT
def test_a_unix_socket_of_root_is_not_made_where_another_user_could_lead_it_elsewhere(home: Path) -> None:
    """The directory belongs neither to root nor to server.user."""
    give(home, DAEMON)
    with pytest.raises(ProcessError, match="belongs to daemon"):
        bind_all([f"unix:{home}/a.sock"], USER)
    assert not list(home.iterdir())


def test_a_state_directory_is_made_with_sane_permissions(tmp_path: Path) -> None:
    """Others may not look into it."""
    privileges.prepare_state_dir(tmp_path / "a" / "b", "")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o750


def test_a_state_directory_that_cannot_be_is_explained(tmp_path: Path) -> None:
    """The path and the remedy are named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ProcessError, match="give another with"):
        privileges.prepare_state_dir(tmp_path / "file" / "b", "")


BECOME_OWNER = """
import os, sys
from pathlib import Path
from prefork_logd.system import privileges
path, owner = Path(sys.argv[1]), os.stat(sys.argv[2])
privileges.keep_reachable(path, owner)
privileges.become_owner(owner)
try:
    (path / "file").write_text("written")
except OSError as error:
    sys.exit(type(error).__name__)
"""


@NEEDS_ROOT
@pytest.mark.slow
def test_the_owner_reaches_a_directory_below_one_of_root(home: Path) -> None:
    """As a dynamic user's of systemd; a directory of another user stays closed, whatever link leads there."""
    private = home.parent / "private"
    for name in ("state", "other"):
        (private / name).mkdir(parents=True)
        (home.parent / name).symlink_to(private / name)
    private.chmod(0o700)
    (private / "other").chmod(0o777)
    give(private / "state")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounts are not allowed here")

    def write_to(name: str) -> str:
        command = [sys.executable, "-c", BECOME_OWNER, str(home.parent / name), str(private / "state")]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    assert write_to("state") == ""
    assert (private / "state" / "file").read_text() == "written"
    assert (private / "state" / "file").owner() == USER
    assert write_to("other") == "PermissionError\n"
    assert sorted(path.name for path in private.iterdir()) == ["other", "state"]
