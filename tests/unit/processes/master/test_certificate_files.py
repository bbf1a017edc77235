"""Certificates are read again when their files change, and bad files change nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.net.loop import Loop
from prefork_logd.processes.master import certificate_files
from prefork_logd.processes.master.certificate_files import CertificateFiles, tls_problem
from tests.support.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.settings import Settings

pytestmark = pytest.mark.slow

TOML = """
[server]
bind = []
[[listener]]
address = "127.0.0.1:9443"
tls = "require"
tls_cert = "server.pem"
tls_key = "server.key"
tls_client_ca = "authority.pem"
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    Authority(tmp_path).issue("one", file="server")
    return tmp_path


@pytest.fixture
def settings(directory: Path) -> Settings:
    return loads(TOML, "", {"state_dir": str(directory)})


class Made:
    """The files of one collector, and how often new content was announced."""

    def __init__(self, settings: Settings) -> None:
        self.loop = Loop()
        self.announced = 0
        self.files = CertificateFiles(self.loop, settings, self._announce)

    def _announce(self) -> None:
        self.announced += 1


@pytest.fixture
def made(settings: Settings) -> Iterator[Made]:
    made = Made(settings)
    yield made
    made.loop.close()


def _touch(path: Path) -> None:
    """Make a change visible even where two writes fall into one tick of the file system's clock."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


def test_the_files_of_a_listener_are_read(made: Made, directory: Path) -> None:
    """Relative to the state directory."""
    (row,) = made.files.status()
    assert (row["listener"], row["path"]) == ("127.0.0.1:9443", str(directory / "server.pem"))
    assert row["names"] == ("one",)
    (listener,) = made.files.listeners
    assert listener.client_ca == (directory / "authority.pem").read_bytes()
    assert made.announced == 0


def test_a_changed_file_is_read_again(made: Made, directory: Path) -> None:
    """Once; a look without a change is a few calls of stat(2)."""
    serial = made.files.status()[0]["serial"]
    assert made.files.refresh() == []
    assert made.announced == 0
    Authority(directory).issue("two", file="server")
    assert made.files.refresh() == []
    assert made.announced == 1
    assert made.files.status()[0]["serial"] != serial
    assert made.files.refresh() == []
    assert made.announced == 1


def test_a_bad_pair_keeps_the_old_one(made: Made, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Half of a pair that is just being replaced, among others; the log names it once, a reload each time."""
    before = made.files.listeners
    key = (directory / "server.key").read_bytes()
    Authority(directory).issue("two", file="other")
    (directory / "server.key").write_bytes((directory / "other.key").read_bytes())
    _touch(directory / "server.key")
    (problem,) = made.files.refresh()
    assert "key values mismatch" in problem
    assert "the old certificate stays" in problem
    assert made.files.listeners == before
    assert made.announced == 0
    assert made.files.refresh() == [problem], "a reload after the look that found it has it, too"
    assert caplog.text.count("mismatch") == 1
    (directory / "server.key").write_bytes(key)
    _touch(directory / "server.key")
    assert made.files.refresh() == []


@pytest.mark.parametrize("name", ["server.pem", "server.key", "authority.pem"])
def test_a_missing_file_is_a_problem_at_the_start(settings: Settings, directory: Path, name: str) -> None:
    """With the listener, the file, and the reason."""
    assert tls_problem(settings) == ""
    (directory / name).unlink()
    problem = tls_problem(settings)
    assert problem.startswith("listener 127.0.0.1:9443: ")
    assert f"{directory}/{name}: cannot read it: No such file" in problem
    assert problem.endswith("; name another file; relative paths start at server.state_dir")


def test_files_that_appear_later_are_taken(settings: Settings, directory: Path) -> None:
    """A start of a new program finds none, and refuses clients until there are some."""
    kept = (directory / "server.key").read_bytes()
    (directory / "server.key").unlink()
    made = Made(settings)
    try:
        assert made.files.listeners == []
        assert "refused" in made.files.refresh()[0]
        (directory / "server.key").write_bytes(kept)
        assert made.files.refresh() == []
        assert made.announced == 1
    finally:
        made.loop.close()


def test_the_files_are_looked_at_from_time_to_time(
    settings: Settings, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a reload."""
    monkeypatch.setattr(certificate_files, "CHECK_S", 0.0)
    made = Made(settings)
    try:
        for times in (1, 2):
            Authority(directory).issue(f"number {times}", file="server")
            made.loop.turn(1)
            assert made.announced == times
    finally:
        made.loop.close()


def test_without_tls_nothing_is_looked_at() -> None:
    """No timer runs."""
    made = Made(loads("", "", {"state_dir": "/"}))
    assert made.files.listeners == made.files.status() == []
    assert made.loop._wait_s(-1) == -1
    made.loop.close()


def test_a_certificate_that_has_expired_is_named(
    settings: Settings, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log warns; the collector goes on, and its other listeners."""
    Authority(directory).issue("late", file="server", days=-1)
    made = Made(settings)
    made.loop.close()
    assert "has expired" in caplog.text
