"""Connections: who takes them, how many, how long they stay, and what happens when there are too many."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from prefork_logd.net.load_balance import PATIENCE_S
from tests.support import procfs
from tests.support.harness import frame, frames, messages, wait_for
from tests.support.session_client import ERROR, WELCOME, Client, hello

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

_WITH_64_DESCRIPTORS = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def _open(stack: contextlib.ExitStack, collector: Collector, count: int) -> list[socket.socket]:
    return [stack.enter_context(collector.connect()) for _ in range(count)]


def _wait_for_held(collector: Collector, count: int) -> None:
    wait_for(lambda: sum(collector.held()) == count, f"{count} connections held")


def _assert_balanced(held: list[int]) -> None:
    fair = sum(held) / len(held)
    assert all(abs(count - fair) <= 0.2 * fair for count in held), held


def test_burst_of_connections_is_shared_evenly(make_collector: Maker) -> None:
    """Of 100 connections made at once, four workers take 25 each, within 20%."""
    collector = make_collector("", "--workers", "4").start()
    with contextlib.ExitStack() as stack:
        _open(stack, collector, 100)
        _wait_for_held(collector, 100)
        _assert_balanced(collector.held())


def test_connections_made_one_by_one_are_shared_evenly(make_collector: Maker) -> None:
    """Of 100 connections, each made when the one before has been served, four workers take 25 each, within 20%."""
    collector = make_collector("", "--workers", "4").start()
    with contextlib.ExitStack() as stack:
        for number in range(100):
            stack.enter_context(collector.connect()).sendall(frame(f"message {number}"))
            collector.wait_for_records(number + 1)
        _assert_balanced(collector.held())


def test_connections_with_pauses_between_are_shared_evenly(make_collector: Maker) -> None:
    """It is still so when connections come farther apart than the workers' patience with one another."""
    collector = make_collector("", "--workers", "4").start()
    with contextlib.ExitStack() as stack:
        for number in range(40):
            stack.enter_context(collector.connect())
            _wait_for_held(collector, number + 1)
            time.sleep(PATIENCE_S + 0.02)  # nothing to wait for: that time passes is what is tried here
        _assert_balanced(collector.held())


def test_others_take_the_connections_of_a_stopped_worker(make_collector: Maker) -> None:
    """While one worker is stopped the others take every new connection and store what it sends."""
    collector = make_collector("", "--workers", "4").start()
    stopped = collector.child("worker", 2)
    os.kill(stopped, signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as stack:
            for number, sock in enumerate(_open(stack, collector, 60)):
                sock.sendall(frame(f"message {number}"))
            stored = collector.wait_for_records(60)
            held = collector.held()
            assert held[1] == 0
            assert all(15 <= count <= 25 for count in (held[0], held[2], held[3])), held
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert sorted(messages(stored)) == sorted(f"message {number}" for number in range(60))


def test_every_kind_of_address_is_served_at_once(make_collector: Maker, tmp_path: Path) -> None:
    """TCP over IPv4 and IPv6 and a Unix socket are listened on together; each record tells where it came from."""
    path = tmp_path / "deep" / "logd.sock"
    collector = make_collector(f'[server]\nbind = ["127.0.0.1:0", "[::1]:0", "unix:{path}"]\nworkers = 2\n').start()
    assert collector.bind[0].startswith("127.0.0.1:")
    assert collector.bind[1].startswith("[::1]:")
    assert collector.bind[2] == f"unix:{path}"
    with contextlib.ExitStack() as stack:
        v4, v6, unix = (stack.enter_context(collector.connect(index)) for index in range(3))
        expected = {
            "v4": f"127.0.0.1:{v4.getsockname()[1]}",
            "v6": f"[::1]:{v6.getsockname()[1]}",
            "unix": f"unix:pid={os.getpid()},uid={os.getuid()}",
        }
        for message, sock in (("v4", v4), ("v6", v6), ("unix", unix)):
            sock.sendall(frame(message))
        stored = collector.wait_for_records(3)
    assert {record["message"]: record["peer"] for record in stored} == expected
    assert collector.stop() == 0
    assert not path.exists()


def test_idle_connection_is_never_closed(make_collector: Maker) -> None:
    """A connection with nothing half received outlives the record deadline many times; a half-sent record does not."""
    collector = make_collector('[limits]\nrecord_timeout = "200ms"', "--workers", "1").start()
    with collector.connect() as idle, collector.connect() as fresh:
        idle.sendall(frame("first"))
        collector.wait_for_records(1)
        for _ in range(4):
            with collector.connect() as stuck:
                stuck.sendall(frame("never complete")[:-1])
                assert stuck.recv(1) == b""
        idle.sendall(frame("second"))
        fresh.sendall(frame("third"))
        stored = collector.wait_for_records(3)
    assert sorted(messages(stored)) == ["first", "second", "third"]


def test_new_record_deadline_holds_at_once(make_collector: Maker) -> None:
    """After a reload with a shorter deadline, records that had begun before it and after it are ended by it."""
    collector = make_collector('[limits]\nrecord_timeout = "1h"', "--workers", "1").start()
    with collector.connect() as before, collector.connect() as after:
        before.sendall(frame("whole") + frame("never complete")[:-1])
        collector.wait_for_records(1)
        collector.configure('[limits]\nrecord_timeout = "200ms"')
        assert collector.cli("reload").returncode == 0
        after.sendall(frame("never complete")[:-1])
        assert before.recv(1) == b""
        assert after.recv(1) == b""


def test_connections_above_the_limit_wait_and_lose_nothing(make_collector: Maker) -> None:
    """With max_connections held, further clients connect and send; they are served as places become free."""
    collector = make_collector("[limits]\nmax_connections = 6", "--workers", "2").start()
    with contextlib.ExitStack() as stack:
        socks = _open(stack, collector, 15)
        for number, sock in enumerate(socks):
            sock.sendall(frame(f"message {number}"))
        collector.wait_for_records(6)
        _wait_for_held(collector, 15)
        # Workers that look at the same moment may each let one in.
        stored = collector.wait_for_records(6)
        assert 6 <= len(stored) <= 7
        # A client has a place if its record is stored: which ones are first depends on the workers' turns.
        places = {f"message {number}": sock for number, sock in enumerate(socks)}
        for done in range(9):
            places.pop(next(text for text in messages(stored) if text in places)).close()
            stored = collector.wait_for_records(7 + done)
    assert sorted(messages(stored)) == sorted(f"message {number}" for number in range(15))


def test_a_full_collector_answers_and_idle_connections_fill_nothing(make_collector: Maker) -> None:
    """60 connections that send nothing keep no service out; with every place taken a service is answered BUSY."""
    collector = make_collector("[limits]\nmax_connections = 4", "--workers", "2").start()
    with contextlib.ExitStack() as stack:
        _open(stack, collector, 60)
        _wait_for_held(collector, 60)
        served = Client(collector)
        assert served.welcome(b"served".rjust(16)) == 0
        for number, sock in enumerate(_open(stack, collector, 3)):
            sock.sendall(frame(f"message {number}"))
        collector.wait_for_records(3)
        refused = Client(collector)
        refused.send(hello(b"refused".rjust(16)))
        kind, body = refused.message()
        assert (kind, body[:2]) == (ERROR, b"\0\7")
        refused.close()
        served.close()

        def let_in() -> bool:
            client = stack.enter_context(contextlib.closing(Client(collector)))
            client.send(hello(b"refused".rjust(16)))
            return client.message()[0] == WELCOME

        wait_for(let_in, "a place for the one that was refused")


def test_more_clients_than_descriptors(make_collector: Maker) -> None:
    """With 64 descriptors and 250 clients nothing spins, a rotation works, and who waited is served in the end."""
    collector = make_collector("", "--workers", "2").start(sys.executable, "-c", _WITH_64_DESCRIPTORS)
    pids = [*collector.worker_pids().values(), collector.child("writer")]
    with contextlib.ExitStack() as stack:
        socks = _open(stack, collector, 250)
        for number, sock in enumerate(socks):
            sock.sendall(frame(f"message {number}"))
        held = wait_for(lambda: (held := sum(collector.held())) > 40 and held, "some connections accepted")
        collector.wait_for_records(held)
        before_s = [procfs.cpu_s(pid) for pid in pids]
        time.sleep(1.5)  # nothing to wait for: the time to spin in is what is tried here
        spent_s = [procfs.cpu_s(pid) - cpu_s for pid, cpu_s in zip(pids, before_s, strict=True)]
        assert max(spent_s) < 0.2 * 1.5, spent_s

        output = collector.state_dir / "records.jsonl"
        output.rename(output.with_suffix(".1"))
        collector.send_signal(signal.SIGUSR1)
        wait_for(output.exists, "the output reopened")
        in_first = len(collector.lines("records.1"))
        for sock in socks:
            if len(collector.lines("records.1")) + len(collector.lines()) == 250:
                break
            sock.close()
        collector.wait_for_records(250 - in_first)
        stored = [*collector.records("records.1"), *collector.records()]
    assert sorted(messages(stored)) == sorted(f"message {number}" for number in range(250))
    assert [*collector.worker_pids().values()] == pids[:2]
    assert "Traceback" not in collector.log
    assert collector.stop() == 0


def test_connections_opened_and_closed_in_a_storm(make_collector: Maker) -> None:
    """1,000 connections at once, then many more one after another, leave no descriptor and no memory behind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    collector = make_collector("", "--workers", "2").start()
    pids = collector.worker_pids()

    def at_once(held: int) -> None:
        with contextlib.ExitStack() as stack:
            socks = _open(stack, collector, 1000)
            if held:
                _wait_for_held(collector, held)
            for sock in socks:
                sock.close()
        _wait_for_held(collector, 0)

    at_once(1000)
    before = {pid: (procfs.descriptors(pid), procfs.rss_bytes(pid)) for pid in pids.values()}
    at_once(0)
    for _ in range(3000):
        collector.connect().close()
    with collector.connect() as sock:
        sock.sendall(frame("after the storm"))
        collector.wait_for_records(1)
    _wait_for_held(collector, 0)
    assert collector.worker_pids() == pids
    for pid, (descriptors, rss_bytes) in before.items():
        assert procfs.descriptors(pid) <= descriptors
        assert procfs.rss_bytes(pid) - rss_bytes < 4 << 20
    assert "Traceback" not in collector.log


def test_vanished_peers_are_noticed_by_keepalive(collector: Collector) -> None:
    """An accepted connection that is idle has its keepalive timer running, with the first probe after a minute."""
    with collector.connect() as sock:
        sock.sendall(frame("then silence"))
        collector.wait_for_records(1)
        ports = collector.address()[1], sock.getsockname()[1]
        kind, left_s = wait_for(
            lambda: (timer := procfs.tcp_timer(*ports))[1] > 1 and timer, "the timer of the accepted connection"
        )
    assert kind == procfs.KEEPALIVE_TIMER
    assert 30 < left_s <= 60


def _send_some(sock: socket.socket, data: bytes, position: int) -> int:
    """Send what the kernel takes at once of `data`, over and over from a position on; return how much that was."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 4 << 20:
            sent += sock.send(data[(position + sent) % len(data) :])
    return sent


def test_client_that_floods_starves_nobody(make_collector: Maker) -> None:
    """While one connection sends as fast as it can, 50 others on the same worker are served in good time."""
    toml = (
        '[[output]]\npath = "flood.jsonl"\nloggers = ["flood"]\n[[output]]\npath = "others.jsonl"\nloggers = ["shop"]\n'
    )
    collector = make_collector(toml, "--workers", "1").start()
    flood = frames((f"flood {number}" for number in range(2000)), name="flood")
    sent = frame("ordinary", name="shop")
    with contextlib.ExitStack() as stack:
        fast = stack.enter_context(collector.connect())
        others = _open(stack, collector, 50)
        fast.setblocking(False)
        latencies_s = []
        flooded = 0
        for turn in range(20):
            # Ahead of the others, for a collector may have served them by the time it answers a question.
            flooded += _send_some(fast, flood, flooded)
            started_s = time.monotonic()
            for sock in others:
                sock.sendall(sent)
            while collector.status()["outputs"][1]["records"] < 50 * (turn + 1):
                flooded += _send_some(fast, flood, flooded)
                assert time.monotonic() - started_s < 10
            latencies_s.append(time.monotonic() - started_s)
    assert flooded > 10 * 20 * 50 * len(sent)
    assert max(latencies_s) < 1.0, latencies_s
