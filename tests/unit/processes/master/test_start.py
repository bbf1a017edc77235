"""A start takes the lock, the sockets and the rights, in this order, or leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.load import ConfigSource, loads
from prefork_logd.config.paths import PID_FILE
from prefork_logd.errors import ExitStatus, ProcessError
from prefork_logd.processes.master import start
from prefork_logd.processes.master.page_sockets import PageSockets
from prefork_logd.processes.master.start import ORPHANS_S, prepare, serve
from prefork_logd.system import log
from prefork_logd.system.daemonize import Readiness
from prefork_logd.system.pid_lock import PidLock
from tests.support.harness import NO_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefork_logd.config.settings import Settings
    from prefork_logd.net.listener import ListeningSocket


class FakeMaster:
    """Stands for the master: says that it works or why it cannot, and ends."""

    problem = ""
    obstacle = ""
    status = 0
    sockets: tuple[ListeningSocket, ...] = ()
    page_sockets: PageSockets
    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def __init__(
        self,
        settings: Settings,
        source: ConfigSource,
        sockets: list[ListeningSocket],
        page_sockets: PageSockets,
        lock: PidLock,
        at_work: Callable[[list[str], str], None],
        cannot_work: Callable[[str], None],
    ) -> None:
        FakeMaster.sockets = tuple(sockets)
        FakeMaster.page_sockets = page_sockets
        self._report = (
            (lambda: cannot_work(self.problem)) if self.problem else (lambda: at_work(["here"], self.obstacle))
        )

    def run(self) -> int:
        self._report()
        type(self).meanwhile()
        return self.status


@pytest.fixture(autouse=True)
def _no_master(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave this process's log and limits as they are, and close what a master would have."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(start, "Master", FakeMaster)
    monkeypatch.setattr(log, "set_up", lambda name: None)
    for name, value in (
        ("problem", ""),
        ("obstacle", ""),
        ("status", 0),
        ("sockets", ()),
        ("meanwhile", staticmethod(lambda: None)),
    ):
        monkeypatch.setattr(FakeMaster, name, value)
    yield
    for listening in FakeMaster.sockets:
        listening.sock.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def run(state_dir: Path, bind: str = '"127.0.0.1:0"', toml: str = "", ready: Readiness | None = None) -> int:
    """Start in a state directory, and return the status."""
    overrides: dict[str, Any] = {"state_dir": str(state_dir)}
    page = "" if "[web]" in toml else NO_PAGE
    settings = loads(f"[server]\nbind = [{bind}]\n{toml}{page}", "", overrides)
    return serve(settings, ConfigSource(None, overrides), ready)


def reported(act: Callable[[Readiness], object]) -> dict[str, Any]:
    """Return what is told to the process that waits for a daemon."""
    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd, "rb") as file:
        act(Readiness(write_fd))
        found: dict[str, Any] = json.loads(file.read())
        return found


def test_a_collector_has_its_lock_and_its_sockets_while_it_runs(tmp_path: Path) -> None:
    """The state directory is made; afterwards another one can start there."""

    def look() -> None:
        assert (tmp_path / "state" / PID_FILE).read_text() == f"{os.getpid()}\n"
        for sock, accept, _ in FakeMaster.sockets:
            assert accept == "any"
            socket.create_connection(sock.getsockname(), timeout=5).close()
        assert len(FakeMaster.sockets) == 1

    FakeMaster.meanwhile = staticmethod(look)
    FakeMaster.status = 5
    assert run(tmp_path / "state") == 5
    with PidLock(tmp_path / "state" / PID_FILE) as lock:
        assert not lock.was_stale


def test_sockets_of_systemd_have_the_settings_of_their_listener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the address: a listener that demands TLS does so, whoever has bound it."""
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        lines = f'[[listener]]\naddress = "{address}"\naccept = "session"\ntls = "require"\n'
        settings = loads(f'{lines}tls_cert = "c"\ntls_key = "k"\n', "", {"state_dir": str(tmp_path)})
        monkeypatch.setattr(start, "inherited", lambda: [plain, listener])
        found = [(one.accept, one.tls_listener) for one in start._inherited(settings)]
    assert found == [("any", ""), ("session", address)]


def test_a_second_collector_is_refused(tmp_path: Path) -> None:
    """Before it binds anything."""
    refused: list[str] = []

    def again() -> None:
        with pytest.raises(ProcessError, match="already running") as caught:
            run(tmp_path, f'"unix:{tmp_path}/second.sock"')
        refused.append(str(caught.value))

    FakeMaster.meanwhile = staticmethod(again)
    assert run(tmp_path) == 0
    assert refused
    assert not (tmp_path / "second.sock").exists()


def test_an_address_that_is_taken_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither the lock nor the addresses before it; the error names the address."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ProcessError, match=str(port)):
            run(tmp_path, f'"unix:{tmp_path}/first.sock", "127.0.0.1:{port}"')
    assert not (tmp_path / "first.sock").exists()
    assert run(tmp_path, f'"unix:{tmp_path}/first.sock"') == 0


class Waits:
    """A clock that only pauses move."""

    def __init__(self, at_s: float, act: Callable[[], None]) -> None:
        self.now_s = 0.0
        self._at_s, self._act = at_s, act

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s
        if self.now_s >= self._at_s:
            self._act()


@pytest.mark.parametrize(
    ("stale", "free_after_s", "works"), [(True, 1.0, True), (True, 1e9, False), (False, 0.0, False)]
)
def test_addresses_of_a_killed_collector_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: bool, free_after_s: float, works: bool
) -> None:
    """Its children may still have them, for a bounded time. Nobody waits for a stranger."""
    if stale:
        (tmp_path / PID_FILE).write_text("4711\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        clock = Waits(free_after_s, other.close)
        monkeypatch.setattr(start, "time", clock)
        if works:
            assert run(tmp_path, f'"127.0.0.1:{port}"') == 0
        else:
            with pytest.raises(ProcessError, match=r"choose another port \(--bind, server\.bind") as caught:
                run(tmp_path, f'"127.0.0.1:{port}"')
            assert isinstance(caught.value.__cause__, OSError)
            assert caught.value.__cause__.errno == errno.EADDRINUSE
            assert clock.now_s == pytest.approx(ORPHANS_S if stale else 0.0, abs=0.05)


def test_a_daemon_reports_that_it_works(tmp_path: Path) -> None:
    """Once, with its pid and its addresses."""
    FakeMaster.obstacle = "the disk is full"
    assert reported(lambda ready: run(tmp_path, ready=ready)) == {
        "pid": os.getpid(),
        "bind": ["here"],
        "page": {"bind": [], "scheme": "http", "problem": ""},
        "obstacle": "the disk is full",
    }


def test_a_daemon_reports_why_it_cannot_work(tmp_path: Path) -> None:
    """The first reason, and the status of the command."""
    FakeMaster.problem, FakeMaster.status = "no writer", 1
    FakeMaster.obstacle = "the disk is full"
    assert reported(lambda ready: run(tmp_path, ready=ready)) == {"error": "no writer", "status": ExitStatus.FAILURE}


def test_a_page_for_other_hosts_without_tls_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At each start; a taken address, or a certificate that cannot be used, prevents it and leaves nothing behind."""
    caplog.set_level("INFO")
    proxy = 'proxy_header = "X-User"\ntrusted_proxies = ["10.0.0.1"]\n'
    assert run(tmp_path, toml=f'[web]\nbind = ["0.0.0.0:0"]\n{proxy}') == 0
    assert "without TLS" in caplog.text
    assert "page at http://127.0.0.1:" in caplog.text
    FakeMaster.page_sockets.close()
    first = f'"unix:{tmp_path}/first.sock"'
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ProcessError, match=f"web.bind: cannot listen on {taken}"):
            run(tmp_path, first, f'[web]\nbind = ["unix:{tmp_path}/page.sock", "{taken}"]\n')
    with pytest.raises(ProcessError, match=r"web\.certificate"):
        run(tmp_path, first, f'[web]\nbind = ["127.0.0.1:0"]\ncertificate = "{tmp_path}/no"\nkey = "{tmp_path}/no"\n')
    assert not list(tmp_path.glob("*.sock"))


def test_a_state_directory_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    """With its path."""
    (tmp_path / "file").touch()
    with pytest.raises(ProcessError, match=f"{tmp_path}/file"):
        prepare(loads("", "", {"state_dir": str(tmp_path / "file")}))
    prepare(loads("", "", {"state_dir": str(tmp_path / "new" / "state")}))
    assert (tmp_path / "new" / "state").stat().st_mode & 0o777 == 0o750
