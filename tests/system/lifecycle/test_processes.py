"""Processes die, are stopped, and are told to be more or fewer; the collector goes on."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.harness import frames, messages, wait_for
from tests.support.load import Load
from tests.support.procfs import cpu_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

CGROUP = Path("/sys/fs/cgroup/memory")


def title(pid: int) -> str:
    """Return what the process list shows of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_process_list_names_every_process(collector: Collector) -> None:
    """Each process says in the process list what it is."""
    assert collector.process is not None
    assert title(collector.process.pid) == "prefork-logd: master"
    assert title(collector.child("writer")) == "prefork-logd: writer"
    assert title(collector.child("worker", 1)) == "prefork-logd: worker 1"
    assert title(collector.child("worker", 2)) == "prefork-logd: worker 2"


def test_killed_writer_costs_no_record_and_doubles_none(collector: Collector) -> None:
    """A writer killed again and again under full load loses no record of any client, doubles none and tears no line."""
    with Load(collector) as load:
        for _ in range(3):
            writer = collector.child("writer")
            load.wait_for_more(2000)
            os.kill(writer, signal.SIGKILL)
            wait_for(lambda old=writer: collector.child("writer") != old, "another writer")
            load.wait_for_more(1000)
        load.check(collector.state_dir / "records.jsonl")
    assert collector.stop() == 0
    assert collector.log.count("is at work again") == 3
    assert collector.log.count("was ended by SIGKILL") == 3


def test_killed_worker_costs_others_nothing(collector: Collector) -> None:
    """A worker that is killed is replaced within a second; clients of others notice nothing, no line is torn."""
    with Load(collector, 4) as load:
        killed = collector.child("worker", 1)
        load.wait_for_more(2000)
        held = collector.held()[0]
        assert 0 < held < 4
        os.kill(killed, signal.SIGKILL)
        began_s = time.monotonic()
        wait_for(lambda: collector.child("worker", 1) != killed, "another worker 1")
        assert time.monotonic() - began_s < 1
        wait_for(lambda: len(load.broken) == held, "the clients of the killed worker notice")
        load.wait_for_more(1000)
        load.check(collector.state_dir / "records.jsonl", lossy=load.broken)
    with collector.connect() as sock:
        sock.sendall(frames(["it is served again"]))
    wait_for(lambda: b"it is served again" in collector.lines()[-1], "a record after the restart")
    assert collector.stop() == 0


def test_nothing_outlives_a_killed_master(make_collector: Maker) -> None:
    """When the master is killed its children end within 2 s; another start succeeds at once and takes the same port."""
    collector = make_collector("", "--workers", "2").start()
    again = make_collector("", "--workers", "2", "--bind", collector.bind[0])
    children = [collector.child("writer"), collector.child("worker", 1), collector.child("worker", 2)]
    with Load(collector) as load:
        load.wait_for_more(2000)
        killed_s = time.monotonic()
        collector.send_signal(signal.SIGKILL)
        assert collector.process is not None
        collector.process.wait(5)
        again.start()
        assert time.monotonic() - killed_s < 3
        wait_for(lambda: all(map(is_gone, children)), "every child gone", 2)
        assert time.monotonic() - killed_s < 3
        wait_for(lambda: len(load.broken) == 4, "every client notices")
        # What its own kernel had taken over is lost to a client whose collector was killed; nothing else may be.
        load.check(collector.state_dir / "records.jsonl", lossy=load.broken)
    assert again.bind == collector.bind
    with again.connect() as sock:
        sock.sendall(frames(["after the restart"]))
    wait_for(lambda: b"after the restart" in again.lines()[-1], "a record after the restart")
    assert again.stop() == 0


def test_children_end_by_themselves_without_a_master(make_collector: Maker) -> None:
    """What clients have sent is written when the master is killed, and every child ends within 2 s."""
    collector = make_collector("", "--workers", "2").start()
    children = [collector.child("writer"), collector.child("worker", 1), collector.child("worker", 2)]
    with collector.connect() as sock:
        sock.sendall(frames(f"m{n}" for n in range(2000)))
        collector.send_signal(signal.SIGKILL)
        wait_for(lambda: all(map(is_gone, children)), "every child gone", 2)
    assert len(collector.records()) == 2000


def test_stopped_children_end_with_a_killed_master(make_collector: Maker) -> None:
    """A stopped worker, writer and shipper go on when the master is killed, write what clients have sent, and end.

    Another start on the same port and directory succeeds meanwhile.
    """
    store = '[[store]]\ntype = "parquet"\n'
    collector = make_collector(store, "--workers", "1", default_store=True).start()
    again = make_collector(store, "--workers", "1", "--bind", collector.bind[0], default_store=True)
    family = [collector.child("worker"), collector.child("writer"), collector.child("shipper", 0)]
    with collector.connect() as sock:
        wait_for(lambda: sum(collector.held()) == 1, "the connection held")
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        sock.sendall(frames(f"m{n}" for n in range(100)))
        collector.send_signal(signal.SIGKILL)
        assert collector.process is not None
        collector.process.wait(5)
        began_s = time.monotonic()
        again.start()
        assert time.monotonic() - began_s < 4
        wait_for(lambda: all(map(is_gone, family)), "every child gone", 2)
    assert messages(collector.records()) == [f"m{n}" for n in range(100)]
    assert again.stop() == 0


def test_everything_killed_at_once(make_collector: Maker) -> None:
    """When all processes are killed at once, another start succeeds within 1 s, and no line is torn or doubled."""
    began_s = time.monotonic()
    collector = make_collector("", "--workers", "2").start()
    first_s = time.monotonic() - began_s
    again = make_collector("", "--workers", "2", "--bind", collector.bind[0])
    with Load(collector) as load:
        load.wait_for_more(3000)
        assert collector.process is not None
        os.killpg(collector.process.pid, signal.SIGKILL)
        collector.process.wait(5)
        began_s = time.monotonic()
        again.start()
        # A slow machine takes longer for any start; the load is still closing its connections, so twice that.
        assert time.monotonic() - began_s < max(1, 2 * first_s)
        load.check(collector.state_dir / "records.jsonl", lossy=range(4))
    assert again.stop() == 0


def test_crash_looping_child_backs_off_and_others_serve(collector: Collector) -> None:
    """A worker that dies whenever it appears is forked at growing intervals, at no cost to the other one."""
    other = collector.child("worker", 2)
    assert collector.process is not None
    began_s, before_s = time.monotonic(), cpu_s(collector.process.pid)
    for death in range(1, 6):
        os.kill(collector.child("worker", 1), signal.SIGKILL)
        wait_for(lambda deaths=death: collector.log.count("worker 1 starts again in") == deaths, "a back-off")
        with collector.connect() as sock:
            sock.sendall(frames([f"during back-off {death}"]))
        wait_for(lambda text=f"during back-off {death}": text in messages(collector.records()), "it is served")
    lasted_s = time.monotonic() - began_s
    delays_s = [float(text) for text in re.findall(r"worker 1 starts again in ([\d.]+) s", collector.log)]
    assert [round(delay / 0.1) for delay in delays_s[:2]] == [1, 2]
    for earlier_s, later_s in itertools.pairwise(delays_s):
        assert later_s > 1.5 * earlier_s
    assert collector.child("worker", 2) == other
    assert cpu_s(collector.process.pid) - before_s < 0.05 * lasted_s + 0.1
    assert collector.stop() == 0


def test_a_master_without_descriptors_goes_on(make_collector: Maker) -> None:
    """It says that it cannot fork, and tries again. A worker killed by a signal without a name is replaced, too."""
    collector = make_collector("", "--workers", "2").start()
    assert collector.process is not None
    master, worker = collector.process.pid, collector.child("worker", 1)
    limits = resource.prlimit(master, resource.RLIMIT_NOFILE)
    resource.prlimit(master, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        os.kill(worker, 40)
        wait_for(lambda: "cannot fork worker 1: Too many open files" in collector.log, "no descriptor for a fork")
    finally:
        resource.prlimit(master, resource.RLIMIT_NOFILE, limits)
    assert collector.child("worker", 1) != worker
    assert "was ended by signal 40" in collector.log
    assert collector.stop() == 0
    assert "bug" not in collector.log


def test_records_for_a_stopped_worker_wait(collector: Collector) -> None:
    """Clients of a stopped worker wait and lose nothing; those of the other one are served meanwhile."""
    with Load(collector, 4) as load:
        stopped = collector.child("worker", 1)
        os.kill(stopped, signal.SIGSTOP)
        load.wait_for_more(3000)
        with collector.connect() as sock:
            sock.sendall(b"")
        os.kill(stopped, signal.SIGCONT)
        load.check(collector.state_dir / "records.jsonl")
    assert collector.stop() == 0


def test_fewer_and_more_workers_lose_nothing(make_collector: Maker) -> None:
    """TTOU ends a worker, though its clients stay; TTIN adds one; the last one stays; no client loses a record."""
    collector = make_collector("", "--workers", "3").start()
    with Load(collector, 9) as load:
        wait_for(lambda: sum(collector.held()) == 9, "every connection accepted")
        last = collector.child("worker", 3)
        collector.send_signal(signal.SIGTTOU)
        wait_for(lambda: is_gone(last), "the retiring worker hands its connections over and ends")
        load.wait_for_more(1000)
        wait_for(lambda: sum(collector.held()) == 9, "no connection lost on its way to another worker")
        with collector.connect(), collector.connect():
            wait_for(lambda: sum(collector.held()) == 11, "further connections")
        collector.send_signal(signal.SIGTTIN)
        wait_for(lambda: len(collector.worker_pids()) == 3, "one more worker")
        load.wait_for_more(1000)
        load.check(collector.state_dir / "records.jsonl")
    for _ in range(4):
        told = collector.log.count("INFO master: workers: ")
        collector.send_signal(signal.SIGTTOU)
        wait_for(lambda told=told: collector.log.count("INFO master: workers: ") > told, "the signal is taken")
    wait_for(lambda: len(collector.worker_pids()) == 1, "one worker is left, and stays", 2)
    with collector.connect() as sock:
        sock.sendall(frames(["by the last one"]))
    wait_for(lambda: b"by the last one" in collector.lines()[-1], "it serves")
    assert collector.stop() == 0


def test_a_number_of_workers_is_asked_for(collector: Collector) -> None:
    """`workers` sets it, up and down; a number that cannot be is refused."""
    for count in (5, 1):
        done = collector.cli("workers", str(count))
        assert done.returncode == 0
        assert f"workers: {count}" in done.stdout
        wait_for(lambda count=count: len(collector.worker_pids()) == count, f"{count} workers")
    done = collector.cli("workers", "1000")
    assert (done.returncode, "from 1 to" in done.stderr) == (1, True)


def test_status_shows_a_shipper_in_a_crash_loop(make_collector: Maker) -> None:
    """As trouble of its store, with how it ended and when it starts again."""
    collector = make_collector('[[store]]\ntype = "parquet"\n', "--workers", "1", default_store=True).start()

    def store() -> dict[str, Any]:
        return dict(collector.status()["stores"][0])

    for _ in range(2):
        os.kill(collector.child("shipper", 0), signal.SIGKILL)
        told = wait_for(lambda: (told := store())["problem"] and told, "the death shows")
        assert told["failing"]
        assert "shipper parquet was ended by SIGKILL" in told["problem"]
    assert told["shipper"]["last_exit"] == "was ended by SIGKILL"
    assert "shipper parquet was ended by SIGKILL" in collector.cli("status").stdout


def test_storm_of_signals_is_survived(collector: Collector) -> None:
    """1,000 SIGHUPs, SIGUSR1s and SIGCHLDs at full load cost no client its connection and no record."""
    with Load(collector) as load:
        load.wait_for_more(1000)
        children = [child["pid"] for child in collector.status()["children"]]
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            for _ in range(1000):
                collector.send_signal(number)
        wait_for(lambda: collector.log.count("reload: outputs were reopened") >= 1, "a reload")
        load.wait_for_more(1000)
        load.check(collector.state_dir / "records.jsonl")
    assert [child["pid"] for child in collector.status()["children"]] == children
    assert collector.stop() == 0
    assert "ERROR" not in collector.log


def test_signals_in_one_go_are_one_reload(collector: Collector) -> None:
    """However many SIGHUPs come while the master does not run, they lead to one reload."""
    assert collector.process is not None
    collector.send_signal(signal.SIGSTOP)
    for _ in range(1000):
        collector.send_signal(signal.SIGHUP)
    collector.send_signal(signal.SIGCONT)
    wait_for(lambda: "reload: outputs were reopened" in collector.log, "a reload")
    assert collector.stop() == 0
    assert collector.log.count("reload: outputs were reopened") <= 2


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """Return a memory cgroup for a test, or skip where none can be made."""
    group = CGROUP / f"prefork-logd-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield group

    def removed() -> bool:
        with contextlib.suppress(OSError):
            group.rmdir()
        return not group.exists()

    wait_for(removed, "the cgroup is empty and removed")


def test_worker_out_of_memory_is_replaced(memory_group: Path, make_collector: Maker) -> None:
    """The kernel's out-of-memory killer takes one worker; another serves in its place, and others notice nothing."""
    collector = make_collector("[limits]\nmax_record_bytes = 67_108_864\n", "--workers", "2").start()
    victim = collector.child("worker", 1)
    (memory_group / "cgroup.procs").write_text(str(victim))
    (memory_group / "memory.limit_in_bytes").write_text("20000000")
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(collector.connect()) for _ in range(4)]
        wait_for(lambda: sum(collector.held()) == 4 and min(collector.held()) > 0, "each holds some")
        announced = (60 << 20).to_bytes(4, "big") + b"\x80\x02"
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.sendall(announced + b"\x00" * (48 << 20))
        wait_for(lambda: collector.child("worker", 1) != victim, "another worker 1")
        assert f"worker 1 (pid {victim}) was ended by SIGKILL" in collector.log
        assert collector.child("worker", 2)
    with collector.connect() as sock:
        sock.sendall(frames(["still here"]))
        collector.wait_for_records(1)
    assert collector.log.count("was ended by SIGKILL") == 1
    assert collector.stop() == 0


def test_worker_at_its_address_space_limit_is_replaced(make_collector: Maker) -> None:
    """A worker whose allocation fails ends with a line in the log, and another serves in its place."""
    collector = make_collector("[limits]\nmax_record_bytes = 67_108_864\n", "--workers", "1").start()
    victim = collector.child("worker", 1)
    size = int(Path(f"/proc/{victim}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(victim, resource.RLIMIT_AS, (size + (16 << 20), size + (16 << 20)))
    with collector.connect() as sock, contextlib.suppress(OSError):
        sock.sendall((60 << 20).to_bytes(4, "big") + b"\x80\x02" + b"\x00" * (48 << 20))
        wait_for(lambda: collector.child("worker", 1) != victim, "another worker 1")
    assert "CRITICAL worker 1: out of memory" in collector.log
    with collector.connect() as sock:
        sock.sendall(frames(["still here"]))
        collector.wait_for_records(1)
    assert collector.stop() == 0
