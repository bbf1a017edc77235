"""Files that the collector's user cannot write are named before it serves anybody."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.errors import ProcessError
from prefork_logd.processes.master.ownership import require_own_files
from prefork_logd.system import privileges
from tests.support.accounts import NEEDS_ROOT, USER, give, given_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.settings import Settings

pytestmark = NEEDS_ROOT


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a directory of nobody's, which nobody can reach."""
    with given_directory() as path:
        yield path


def settings_in(home: Path, toml: str = "") -> Settings:
    return loads(toml, "", {"state_dir": str(home)})


def problem(settings: Settings) -> str:
    """Return the sentence about files that nobody cannot write; empty if there are none."""
    try:
        with privileges.acting_as(USER):
            require_own_files(settings)
    except ProcessError as error:
        return str(error)
    return ""


def test_files_of_another_user_are_named_before_anything_is_served(home: Path) -> None:
    """Which, whose, and what to do; files that are no collector's do not matter."""
    settings = loads("", "", {"state_dir": str(home)})
    for name in ("backup.tar", "control.sock"):
        (home / name).touch(0o600)
    with privileges.acting_as(USER):
        require_own_files(settings)
    outside = home.parent / "out.jsonl"
    outside.touch(0o600)
    for name in ("journal", "records"):
        (home / name).mkdir(0o700)
    for name in ("records.jsonl", "dead-letters-a.jsonl"):
        (home / name).touch(0o600)
    settings = loads(
        f'[[output]]\n[[output]]\npath = "{outside}"\n[[store]]\ntype = "parquet"', "", {"state_dir": str(home)}
    )
    require_own_files(settings)  # root can write all
    with privileges.acting_as(USER), pytest.raises(ProcessError) as caught:
        require_own_files(settings)
    said = str(caught.value)
    assert said.startswith("these belong to root, and user 'nobody' cannot write them: ")
    for name in ("journal", "records.jsonl", "records", "dead-letters-a.jsonl"):
        assert str(home / name) in said
    assert said.endswith(f"; do: chown -R nobody: {home} {outside}")
    give(home, "root")
    home.chmod(0o700)
    with privileges.acting_as(USER), pytest.raises(ProcessError, match=f"{home}: belongs to root, and user 'nobody'"):
        require_own_files(settings)
    home.parent.chmod(0o700)
    with privileges.acting_as(USER), pytest.raises(ProcessError, match=f"{home.parent}: user 'nobody' cannot enter"):
        require_own_files(settings)


def test_a_directory_that_is_not_there_yet_is_no_problem(home: Path) -> None:
    """It will be made; nor is an output's file that does not exist."""
    assert problem(settings_in(home / "none", '[[output]]\npath = "new/all.jsonl"')) == ""


def test_what_everybody_may_write_is_no_problem(home: Path) -> None:
    """Its owner does not matter then; a directory has to be entered, too."""
    (home / "records.jsonl").touch()
    (home / "records.jsonl").chmod(0o666)
    (home / "journal").mkdir()
    (home / "journal").chmod(0o777)
    assert problem(settings_in(home)) == ""
    for path, mode in ((home / "journal", 0o766), (home / "records.jsonl", 0o662)):
        path.chmod(mode)
        assert str(path) in problem(settings_in(home))
        path.chmod(0o777)


def test_what_is_no_file_is_no_problem(home: Path) -> None:
    """A socket, a FIFO: who writes to them is not asked here; nor is a file of nobody's own that is read-only."""
    os.mkfifo(home / "pipe", 0o600)
    (home / "own.jsonl").touch()
    give(home / "own.jsonl")
    (home / "own.jsonl").chmod(0o400)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(home / "sock"))
        toml = "".join(
            f'[[output]]\nname = "{name}"\npath = "{path}"\n'
            for name, path in (("a", "pipe"), ("b", "sock"), ("c", "own.jsonl"), ("d", "/dev/null"))
        )
        assert problem(settings_in(home, toml)) == ""


def test_a_link_is_not_mended_by_chown(home: Path) -> None:
    """It would change the link. The target is named, unless the file is never opened through a link."""
    target, directory = home.parent / "target", home.parent / "room"
    target.touch(0o600)
    directory.mkdir(0o700)
    (home / "prefork-logd.log").symlink_to(target)
    assert problem(settings_in(home)) == (
        f"user 'nobody' cannot write what these links lead to: {home}/prefork-logd.log leads to {target} of root; "
        f"do: rm {home}/prefork-logd.log"
    )
    (home / "prefork-logd.log").unlink()
    (home / "journal").symlink_to(directory)
    said = problem(settings_in(home))
    assert said.endswith(f"; do: rm {home}/journal; or, for a link that you have made, chown -R nobody: {directory}")
    give(directory)
    assert problem(settings_in(home)) == ""


def test_many_files_are_counted_and_the_remedy_is_short(home: Path) -> None:
    """Five are named; one command mends all of them, also where a name has blanks."""
    (home / "journal").mkdir()
    give(home / "journal")
    for number in range(9):
        (home / "journal" / f"a {number}").touch(0o600)
    said = problem(settings_in(home))
    assert said.count("/journal/a ") == 5
    assert " and 4 more; " in said
    assert said.endswith(f"do: chown -R nobody: {home}")


def test_a_remedy_can_be_pasted(home: Path) -> None:
    """Names are quoted for a shell; what is outside of the state directory is named by itself."""
    outside = home.parent / "it's here.jsonl"
    outside.touch(0o600)
    said = problem(settings_in(home, f'[[output]]\npath = "{outside}"'))
    assert said.endswith("""do: chown -R nobody: '""" + str(home.parent) + """/it'"'"'s here.jsonl'""")
    assert said.startswith("these belong to root, and user 'nobody' cannot write them: ")
