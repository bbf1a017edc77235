"""Starting: one collector a state directory, on whatever it is to listen, as whom, in whatever surroundings."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import ProcessError
from tests.support.clocks import build_shim
from tests.support.harness import frames, messages, wait_for
from tests.support.load import Load, count_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

WITHOUT_TMP = (
    "mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp"
    if Path(sys.prefix).is_relative_to("/tmp") or Path(__file__).is_relative_to("/tmp")
    else "mount -t tmpfs -o size=4k,ro none /tmp && mount -t tmpfs -o size=4k,ro none /dev/shm"
)
"""Shell commands after which nothing can be made in /tmp; where this suite lives there, it stays readable."""
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")


def test_second_start_is_refused(collector: Collector) -> None:
    """A second collector ends within 1 s, names the first one's pid, and does not disturb it."""
    assert collector.process is not None
    with Load(collector) as load:
        load.wait_for_more(500)
        took_s, import_s = [], []
        for verb in ("run", "start") * 2:
            began_s = time.monotonic()
            subprocess.run([sys.executable, "-c", "import prefork_logd.processes.master.master"], check=True)
            import_s.append(time.monotonic() - began_s)
            began_s = time.monotonic()
            done = collector.cli(verb, "--bind", "127.0.0.1:0")
            took_s.append(time.monotonic() - began_s)
            assert done.returncode == 1
            assert f"already running with pid {collector.process.pid}" in done.stderr
            assert len(done.stderr.splitlines()) == 1
        # Beside a full load and whatever else the machine has to do: importing the code alone may take a second.
        assert min(took_s) < max(1, 3 * min(import_s))
        load.wait_for_more(500)
        load.check(collector.state_dir / "records.jsonl")
    assert collector.stop() == 0
    assert "WARNING" not in collector.log


def test_second_collector_on_the_same_address(make_collector: Maker) -> None:
    """Another collector cannot share the address of the first one by accident: it says so and ends."""
    first = make_collector("", "--workers", "1").start()
    second = make_collector("", "--workers", "1", name="second")
    done = second.cli("run", "--bind", first.bind[0])
    assert done.returncode == 1
    assert f"cannot listen on {first.bind[0]}: Address already in use" in done.stderr
    assert not (second.state_dir / "prefork-logd.pid").exists()
    assert first.stop() == 0


def test_stale_pid_file_of_a_living_stranger(make_collector: Maker) -> None:
    """A pid file that a dead collector left behind is no obstacle, though its pid belongs to someone else by now."""
    collector = make_collector("", "--workers", "1")
    collector.state_dir.mkdir()
    (collector.state_dir / "prefork-logd.pid").write_text("1\n")
    assert collector.cli("status").returncode == 3
    collector.start()
    assert collector.process is not None
    assert (collector.state_dir / "prefork-logd.pid").read_text() == f"{collector.process.pid}\n"
    assert collector.stop() == 0
    assert not (collector.state_dir / "prefork-logd.pid").exists()


@NEEDS_ROOT
def test_a_stop_across_pid_namespaces_ends_the_collector_or_nothing(make_collector: Maker) -> None:
    """The number in the pid file is another process's outside: the kernel is asked, which knows the right one."""
    outside = ("unshare", "-p", "-f", "--mount-proc")
    if subprocess.run([*outside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace can be made here")
    collector = make_collector("", "--workers", "1").start(*outside)
    number = int((collector.state_dir / "prefork-logd.pid").read_text())
    refused = collector.cli("run", "--bind", "127.0.0.1:0")
    assert f"already running with pid {number} of another pid namespace" in refused.stderr
    done = collector.cli("stop")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("stopped (pid ")
    assert done.stdout != f"stopped (pid {number})\n"
    assert collector.process is not None
    assert collector.process.wait(10) == 0
    collector.start()
    for verb in ("stop", "restart"):
        command = [*outside, *collector.command(verb)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == 1
        assert "the collector runs in another pid namespace" in done.stderr
    assert collector.cli("reload").returncode == 0
    assert collector.stop() == 0


def test_sockets_of_systemd(make_collector: Maker, tmp_path: Path) -> None:
    """Sockets passed by systemd's protocol are served in place of `bind`, and a Unix socket's file stays systemd's."""
    path = tmp_path / "activated.sock"
    script = (
        "import os, sys\n"
        "for place, fd in enumerate(map(int, sys.argv[1].split(',')), 3): os.dup2(fd, place)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '2'}\n"
        "os.execv(sys.argv[2], sys.argv[2:])\n"
    )
    collector = make_collector('[server]\nbind = ["127.0.0.1:1"]\n', "--workers", "1")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        # High enough that making them 3 and 4 does not close one of them.
        fds = [os.dup(tcp.fileno()), os.dup(unix.fileno())]
        collector.start(sys.executable, "-c", script, ",".join(map(str, fds)), pass_fds=fds)
        for fd in fds:
            os.close(fd)
        assert collector.bind == [f"127.0.0.1:{tcp.getsockname()[1]}", f"unix:{path}"]
        for index in range(2):
            with collector.connect(index) as sock:
                sock.sendall(frames([f"by socket {index}"]))
        assert sorted(messages(collector.wait_for_records(2))) == ["by socket 0", "by socket 1"]
        assert collector.stop() == 0
        assert path.is_socket()


def test_several_kinds_of_addresses(make_collector: Maker, tmp_path: Path) -> None:
    """IPv4, IPv6 and Unix sockets are served at once."""
    toml = f'[server]\nbind = ["127.0.0.1:0", "[::1]:0", "unix:{tmp_path}/c.sock"]\n'
    collector = make_collector(toml, "--workers", "2").start()
    assert len(collector.bind) == 3
    for index in range(3):
        with collector.connect(index) as sock:
            sock.sendall(frames([f"by {collector.bind[index]}"]))
    assert sorted(messages(collector.wait_for_records(3))) == sorted(f"by {bind}" for bind in collector.bind)
    assert collector.stop() == 0


@NEEDS_ROOT
def test_privileges_are_dropped(make_collector: Maker) -> None:
    """With `user` every process runs as that user, and can still reopen, be stopped and clean up."""
    account = pwd.getpwnam("nobody")
    toml = '[server]\nuser = "nobody"\nbind = ["127.0.0.1:0"]\n'
    collector = make_collector(toml, "--workers", "1", default_store=True)
    for directory in collector.state_dir.parents:
        if directory.stat().st_mode & 0o005 != 0o005:
            directory.chmod(directory.stat().st_mode | 0o055)
    collector.start()
    assert collector.process is not None
    for pid in (collector.process.pid, *(child["pid"] for child in collector.status()["children"])):
        status = Path(f"/proc/{pid}/status").read_text()
        for name, number in (("Uid", account.pw_uid), ("Gid", account.pw_gid)):
            assert f"{name}:\t" + "\t".join([str(number)] * 4) in status
    with collector.connect() as sock:
        sock.sendall(frames(["as nobody"]))
        collector.wait_for_records(1)
    path = collector.state_dir / "records.jsonl"
    assert path.stat().st_uid == account.pw_uid
    path.rename(path.with_suffix(".1"))
    collector.send_signal(signal.SIGHUP)
    wait_for(path.exists, "it is reopened")
    assert collector.stop() == 0
    assert "ERROR" not in collector.log
    assert not (collector.state_dir / "prefork-logd.pid").exists()


@NEEDS_ROOT
def test_no_directory_for_temporary_files(make_collector: Maker) -> None:
    """The collector needs no /tmp: it starts, serves, reloads, restarts children and stops where that is unusable."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as home:
        collector = make_collector("", "--workers", "1", default_store=True)
        collector.state_dir = Path(home) / "state"
        collector.config = Path(home) / "c.toml"
        collector.configure("")
        collector.start("unshare", "-m", "sh", "-c", f'{WITHOUT_TMP} && exec "$@"', "sh")
        with collector.connect() as sock:
            sock.sendall(frames(["without /tmp"]))
            collector.wait_for_records(1)
            os.kill(collector.child("writer"), signal.SIGKILL)
            sock.sendall(frames(["and again"]))
            collector.wait_for_records(2)
        assert collector.cli("reload").returncode == 0
        assert collector.stop() == 0


def test_wall_clock_that_jumps(make_collector: Maker, tmp_path: Path) -> None:
    """A wall clock that jumps by years and back closes no client, fires no timer, and overwrites no rotated file."""
    control = tmp_path / "clock"
    env = {"LD_PRELOAD": str(build_shim(tmp_path)), "CLOCK_FILE": str(control)}
    toml = '[limits]\nrecord_timeout = "30s"\n[[output]]\npath = "a.jsonl"\nrotate_bytes = 500_000\nkeep = 0\n'
    collector = make_collector(toml, "--workers", "2", env=env).start()
    year_s = 365 * 86_400
    half = frames(["half received when the clock jumped"])
    with collector.connect() as slow, Load(collector) as load:
        slow.sendall(half[:20])
        for jump_s in (year_s, -year_s, *range(-5, 5), 0):
            control.with_suffix(".new").write_text(str(jump_s))
            control.with_suffix(".new").replace(control)
            load.wait_for_more(2000)
        load.stop()
        load.check_rotating(lambda: files(collector))
        slow.sendall(half[20:])
        wait_for(lambda: count_lines(files(collector)) == load.total() + 1, "the half-received record was waited for")
    years = {
        time.gmtime(record["received"]).tm_year for path in files(collector) for record in collector.records(str(path))
    }
    assert len(years) >= 3, "the clock has jumped for the collector"
    assert collector.status()["uptime_s"] < 60
    assert collector.stop() == 0


def files(collector: Collector) -> list[Path]:
    """Return an output's file and all it was rotated to."""
    return sorted(collector.state_dir.glob("a*jsonl*"))


def test_closed_standard_descriptors(make_collector: Maker) -> None:
    """With descriptors 0 to 2 closed, /dev/null takes their place in every process, and no file or memory does."""
    collector = make_collector("", "--workers", "1", default_store=True)
    collector.launch("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    assert collector.process is not None

    def answers() -> bool:
        try:
            return bool(collector.child("worker"))
        except ProcessError:
            return False

    wait_for(answers, "it answers")
    document = collector.status()
    for pid in (document["pid"], *(child["pid"] for child in document["children"])):
        assert {str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in range(3)} == {os.devnull}
    collector.bind = document["bind"]
    with collector.connect() as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    wait_for(collector.rejected, "a warning was logged")
    assert (collector.state_dir / "prefork-logd.pid").read_text() == f"{document['pid']}\n"
    assert collector.stop() == 0
