"""Every obstacle to a start is found while the old collector runs, and nothing is left of the search."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.errors import ProcessError
from prefork_logd.journal.journal import GROWTH_BYTES
from prefork_logd.processes.master.rehearsal import MARGIN_BYTES, require_start
from tests.support.accounts import NEEDS_ROOT, USER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.config.settings import Settings


def settings_for(state_dir: Path, bind: str = "127.0.0.1:0", toml: str = "") -> Settings:
    return loads(f'[server]\nbind = ["{bind}"]\n{toml}', "", {"state_dir": str(state_dir)})


@pytest.fixture
def taken() -> Iterator[str]:
    """Return an address at which a program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_start_that_can_succeed_leaves_nothing_behind(tmp_path: Path) -> None:
    """No file, no socket."""
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    require_start(settings_for(state_dir, f"unix:{tmp_path}/in.sock"), [])
    assert not list(state_dir.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As much is tried as a start may need: a large journal needs more."""
    asked = []

    def fail(_fd: int, _offset: int, nbytes: int) -> None:
        asked.append(nbytes)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(ProcessError, match=rf"{tmp_path}: a start needs a new file there, and 3.1 MB: .*; make room"):
        require_start(settings_for(tmp_path), [])
    (tmp_path / JOURNAL_DIRECTORY).mkdir()
    (tmp_path / JOURNAL_DIRECTORY / "commits-0000000000000007.journal").write_bytes(bytes(5 << 20))
    with pytest.raises(ProcessError, match="make room"):
        require_start(settings_for(tmp_path), [])
    assert asked == [MARGIN_BYTES + GROWTH_BYTES, MARGIN_BYTES + (5 << 20)]
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL_DIRECTORY]


def test_an_address_of_the_running_collector_will_be_free(tmp_path: Path, taken: str) -> None:
    """One of another program will not; nor does it matter for which hosts the collector holds the port."""
    port = taken.rpartition(":")[2]
    for bind in (taken, f"0.0.0.0:{port}"):
        require_start(settings_for(tmp_path, bind), [taken])
        require_start(settings_for(tmp_path, bind), None)
        with pytest.raises(ProcessError, match=f"cannot listen on {bind}: Address already in use; stop the program"):
            require_start(settings_for(tmp_path, bind), ["127.0.0.1:1"])


@pytest.mark.parametrize("table", ["web", "metrics"])
def test_addresses_of_the_page_count(tmp_path: Path, taken: str, table: str) -> None:
    """They prevent a start, too."""
    settings = settings_for(tmp_path, toml=f'[{table}]\nbind = ["{taken}"]\n')
    require_start(settings, [taken])
    with pytest.raises(ProcessError, match="Address already in use"):
        require_start(settings, [])


def test_an_address_of_another_host(tmp_path: Path) -> None:
    """It is refused although the running collector has the port."""
    with pytest.raises(ProcessError, match="give an address of this host"):
        require_start(settings_for(tmp_path, "192.0.2.1:9020"), ["127.0.0.1:9020"])


def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    """The page's, which a start demands."""
    web = f'[web]\nbind = ["127.0.0.1:0"]\ncertificate = "{tmp_path}/no.pem"\nkey = "{tmp_path}/no.key"\n'
    with pytest.raises(ProcessError, match=r"web\.certificate, web\.key: "):
        require_start(settings_for(tmp_path, toml=web), [])


@NEEDS_ROOT
def test_files_of_another_user(tmp_path: Path) -> None:
    """They are named with the remedy of a start."""
    state_dir = tmp_path / "state"
    state_dir.mkdir(0o700)
    settings = loads(f'[server]\nuser = "{USER}"\n', "", {"state_dir": str(state_dir)})
    with pytest.raises(ProcessError, match=r"chown|chmod"):
        require_start(settings, [])
