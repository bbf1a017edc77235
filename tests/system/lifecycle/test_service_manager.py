"""Under systemd the collector reports readiness, reloads, keep-alives and its stop, and the shipped units are sound."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.harness import frames, messages, wait_for
from tests.support.service_manager import FakeServiceManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

UNITS = Path(__file__).resolve().parents[3] / "packaging" / "systemd"
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
"""prctl(2): memory that is writable cannot become executable, as with MemoryDenyWriteExecute=."""
WATCHDOG_S = 1.0


def test_a_collector_reports_its_life(make_collector: Maker, tmp_path: Path) -> None:
    """Readiness, a reload with its time, keep-alives over an upgrade, and the stop, in this order."""
    with FakeServiceManager(tmp_path / "notify", WATCHDOG_S) as systemd:
        collector = make_collector("", "--workers", "1", env=systemd.environment).start()
        assert systemd.wait("READY") == {"READY": "1", "STATUS": "Collecting"}
        assert systemd.wait("WATCHDOG") == {"WATCHDOG": "1"}
        assert collector.status()["managed"]
        refused = collector.cli("restart")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "a service manager runs it" in refused.stderr
        collector.configure("[server]\nown_log = 'records'\n")
        reloaded = collector.cli("reload")
        assert (reloaded.returncode, reloaded.stderr) == (0, "")
        assert "it needs a restart (`systemctl restart` with its unit): " in reloaded.stdout
        assert set(systemd.wait("RELOADING")) == {"RELOADING", "MONOTONIC_USEC"}
        assert systemd.wait("READY") == {"READY": "1"}
        assert collector.cli("upgrade").returncode == 0
        systemd.take()
        assert systemd.wait("WATCHDOG") == {"WATCHDOG": "1"}
        assert collector.process is not None
        collector.process.send_signal(signal.SIGHUP)
        assert "RELOADING" in systemd.wait("RELOADING")
        assert systemd.wait("READY") == {"READY": "1"}
        assert collector.stop() == 0
        stop = systemd.wait("STOPPING")
        assert int(stop["EXTEND_TIMEOUT_USEC"]) > 10_000_000


def test_a_daemon_belongs_to_no_service_manager(make_collector: Maker, tmp_path: Path) -> None:
    """A service in which `start` is called gets none of its notifications, and does not start it again."""
    with FakeServiceManager(tmp_path / "notify", WATCHDOG_S) as systemd:
        collector = make_collector("", "--workers", "1", env=systemd.environment)
        assert collector.cli("start", "--bind", "127.0.0.1:0", "--workers", "1").returncode == 0
        assert not collector.status()["managed"]
        done = collector.cli("stop")
        assert (done.returncode, done.stderr) == (0, "")
        assert not systemd.take()


def test_a_writer_that_hangs_ends_the_keep_alives(make_collector: Maker, tmp_path: Path) -> None:
    """The watchdog is served by the progress of the writer, which nothing works without."""
    with FakeServiceManager(tmp_path / "notify", WATCHDOG_S) as systemd:
        collector = make_collector("", "--workers", "1", env=systemd.environment).start()
        systemd.wait("WATCHDOG")
        writer = collector.child("writer")
        os.kill(writer, signal.SIGSTOP)
        assert systemd.has_ended("WATCHDOG", WATCHDOG_S)
        os.kill(writer, signal.SIGCONT)
        assert systemd.wait("WATCHDOG") == {"WATCHDOG": "1"}
        assert collector.stop() == 0


def test_children_leave_sigterm_to_the_master(make_collector: Maker) -> None:
    """With KillMode=control-group systemd sends it to all of them; the master lets them end in order."""
    collector = make_collector('[web]\nbind = ["127.0.0.1:0"]\n', "--workers", "1", default_store=True).start()
    before = collector.status()["children"]
    assert {child["kind"] for child in before} >= {"writer", "worker", "shipper", "web"}
    for child in before:
        os.kill(child["pid"], signal.SIGTERM)
    with collector.connect() as sock:
        sock.sendall(frames(["after it"]))
        assert messages(collector.wait_for_records(1)) == ["after it"]
    after = collector.status()["children"]
    assert [(child["pid"], child["restarts"]) for child in after] == [(child["pid"], 0) for child in before]
    assert collector.stop() == 0


@pytest.mark.parametrize("unit", ["prefork-logd.service", "prefork-logd-dynamic.service"])
def test_the_units_are_sound_and_hardened(unit: str, tmp_path: Path) -> None:
    """`systemd-analyze verify` has no complaint, and `security` rates the exposure below 3.0."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # The service is called prefork-logd in both cases; its program has to exist.
    service = tmp_path / "prefork-logd.service"
    service.write_text((UNITS / unit).read_text().replace("=prefork-logd run", f"={sys.executable} run").replace(
        "=prefork-logd reload", f"={sys.executable} reload"))  # fmt: skip
    assert "\nKillMode=control-group\n" in service.read_text()  # "mixed" kills the children of a killed master at once
    shutil.copy(UNITS / "prefork-logd.socket", tmp_path)
    verified = subprocess.run(
        ["systemd-analyze", "verify", service, tmp_path / "prefork-logd.socket"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in verified.stderr.splitlines() if "prefork-logd" in line]
    assert (verified.returncode, ours) == (0, [])
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", service], capture_output=True, text=True, check=False
    )
    rating = re.search(r"Overall exposure level for \S+: ([0-9.]+)", rated.stdout)
    assert rating is not None, rated.stdout + rated.stderr
    assert float(rating[1]) < 3.0


def test_every_process_works_without_executable_writable_memory(make_collector: Maker) -> None:
    """MemoryDenyWriteExecute= of the units harms neither the compiled core nor DuckDB."""
    libc = ctypes.CDLL(None, use_errno=True)
    probe = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0))"
    if subprocess.run([sys.executable, "-c", probe], check=False).returncode:
        pytest.skip("this kernel does not know PR_SET_MDWE (Linux 6.3)")

    def deny() -> None:
        libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)

    collector = make_collector('[[store]]\ntype = "parquet"\nbatch_time = "100ms"\n', "--workers", "1")
    collector.start(preexec_fn=deny)
    with collector.connect() as sock:
        sock.sendall(frames(["without W+X"]))
    assert messages(collector.wait_for_records(1)) == ["without W+X"]
    wait_for(lambda: collector.status()["stores"][0]["lag_records"] == 0, "stored")
    assert "without W+X" in collector.cli("query", "--format", "json").stdout
    assert collector.stop() == 0
