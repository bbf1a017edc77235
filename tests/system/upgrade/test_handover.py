"""Connections pass from worker to worker under load: no client sees it, and no record is lost or doubled."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.support.disks import TO_THE_LAST_BYTE, mounted
from tests.support.harness import frame, frames, is_closed, messages, wait_for
from tests.support.load import Load
from tests.support.session_client import Client, Faithful, all_logging, messages_of, records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]


def workers(collector: Collector) -> list[int]:
    """Return the indexes of the workers that are at work."""
    children = collector.status()["children"]
    return [child["index"] for child in children if child["kind"] == "worker" and child["state"] == "running"]


def change(collector: Collector, number: int) -> None:
    """Ask for a worker more or fewer, and wait until all is as asked."""
    wanted = len(workers(collector)) + (1 if number == signal.SIGTTIN else -1)
    collector.send_signal(number)
    wait_for(
        lambda: len(workers(collector)) == wanted == len(collector.worker_pids()), f"{wanted} workers and no other"
    )


def test_worker_changes_under_load(make_collector: Maker) -> None:
    """Again and again a worker fewer and one more: each record is stored once, each connection lives."""
    collector = make_collector("", "--workers", "3").start()
    with Load(collector, 9) as load:
        wait_for(lambda: sum(collector.held()) == 9, "every connection accepted")
        for _ in range(3):
            change(collector, signal.SIGTTOU)
            load.wait_for_more(500)
            change(collector, signal.SIGTTIN)
            load.wait_for_more(500)
        wait_for(lambda: collector.held() == [3, 3, 3], "the new one has its share")
        load.check(collector.state_dir / "records.jsonl")
    assert collector.stop() == 0
    assert "ERROR" not in collector.log


def test_half_frames_and_idle_clients_move(make_collector: Maker) -> None:
    """What a client has sent of a record goes with its connection, at whichever byte it was; idle ones go, too."""
    collector = make_collector("", "--workers", "4").start()
    data = frame("in two parts", whatever="x" * 2000)
    socks = [collector.connect() for _ in range(40)]
    wait_for(lambda: sum(collector.held()) == len(socks), "every connection accepted")
    cuts = [index * len(data) // len(socks) for index in range(len(socks))]
    for sock, cut in zip(socks, cuts, strict=True):
        sock.sendall(data[:cut])
    for _ in range(3):
        change(collector, signal.SIGTTOU)
    assert collector.held() == [40]
    for sock, cut in zip(socks, cuts, strict=True):
        assert not is_closed(sock)
        sock.sendall(data[cut:])
    assert messages(collector.wait_for_records(40)) == ["in two parts"] * 40
    for sock in socks:
        sock.close()
    assert collector.stop() == 0
    assert collector.rejected() == []


def test_more_connections_than_one_message_holds(make_collector: Maker) -> None:
    """Hundreds of connections go in several groups, and are served at once by whoever has them."""
    collector = make_collector("", "--workers", "2").start()
    socks = [collector.connect() for _ in range(600)]
    wait_for(lambda: sum(collector.held()) == 600, "every connection accepted")
    change(collector, signal.SIGTTOU)
    wait_for(lambda: collector.held() == [600], "all with one")
    change(collector, signal.SIGTTIN)
    wait_for(lambda: collector.held() == [300, 300], "each has half of them")
    for number, sock in enumerate(socks):
        sock.sendall(frame(str(number)))
    found = messages(collector.wait_for_records(600))
    assert sorted(map(int, found)) == list(range(600))
    for sock in socks:
        sock.close()
    assert collector.stop() == 0


def test_a_client_that_reads_nothing_keeps_its_acknowledgements(make_collector: Maker) -> None:
    """Sessions move with what they were not told yet, open or about to be welcomed."""
    collector = make_collector("", "--workers", "2").start()
    clients = [Client(collector) for _ in range(6)]
    for number, client in enumerate(clients):
        assert client.welcome(b"%016d" % number) == 0
        client.send(records(1, [f"{number}-1", f"{number}-2"]))
    change(collector, signal.SIGTTOU)
    for number, client in enumerate(clients):
        assert client.acknowledged(2) == 2
        whole = records(3, [f"{number}-3"])
        client.send(whole[:20])
    change(collector, signal.SIGTTIN)
    for number, client in enumerate(clients):
        client.send(records(3, [f"{number}-3"])[20:])
        assert client.acknowledged(3) == 3
        client.close()
    found = messages(collector.records())
    assert sorted(found) == sorted(f"{client}-{number}" for client in range(6) for number in (1, 2, 3))
    assert collector.stop() == 0


def test_sessions_survive_kills_in_the_middle_of_moves(make_collector: Maker) -> None:
    """Givers, takers and the writer are killed while connections are on their way: nothing is lost or doubled."""
    collector = make_collector("", "--workers", "3").start()
    clients = [Faithful(collector, f"client{number}") for number in range(6)]
    with all_logging(clients):
        for turn in range(12):
            pids = list(collector.worker_pids().values())
            collector.send_signal(signal.SIGTTOU if turn % 2 else signal.SIGTTIN)
            victim = collector.child("writer") if turn % 4 == 3 else pids[turn % len(pids)]
            if victim:
                os.kill(victim, signal.SIGKILL)
            wait_for(lambda: len(workers(collector)) >= 2, "workers are at work again")
    assert sorted(messages(collector.records())) == messages_of(clients)
    assert collector.stop() in (0, 1)


def test_a_stopped_worker_takes_nothing_and_loses_nothing(make_collector: Maker) -> None:
    """If the only other worker does not answer, the one that is to go serves on, and goes when it can."""
    collector = make_collector("", "--workers", "2").start()
    taker = collector.child("worker", 1)
    with Load(collector, 4) as load:
        wait_for(lambda: sum(collector.held()) == 4, "every connection accepted")
        load.wait_for_more(200)
        os.kill(taker, signal.SIGSTOP)
        collector.send_signal(signal.SIGTTOU)
        wait_for(lambda: "no other worker answers" in collector.log, "the move is put off")
        before = len(collector.lines())
        collector.wait_for_records(before + 200)
        os.kill(taker, signal.SIGCONT)
        wait_for(lambda: len(collector.worker_pids()) == 1, "the worker has gone")
        load.check(collector.state_dir / "records.jsonl")
    assert collector.stop() == 0


def test_a_full_disk_delays_a_move_and_no_more(tmp_path: Path, make_collector: Maker) -> None:
    """While lines cannot be written connections stay where they are; later they move, with nothing lost."""
    with mounted(tmp_path / "disk", "size=200k") as disk:
        collector = make_collector(
            f'{TO_THE_LAST_BYTE}[[output]]\npath = "{disk.path}/out.jsonl"\n', "--workers", "2"
        ).start()
        # One worker takes at most three more than another: with six, each has some.
        socks = [collector.connect() for _ in range(6)]
        wait_for(lambda: sum(collector.held()) == 6, "every connection accepted")
        disk.fill(4096)
        names = [str(number) for number in range(40)]
        for sock in socks:
            sock.sendall(frames(names, extra="y" * 300))
        wait_for(lambda: "clients wait" in collector.log, "the disk is full")
        collector.send_signal(signal.SIGTTOU)
        wait_for(lambda: "connections for now" in collector.log, "the move is put off")
        disk.free()
        wait_for(lambda: len(collector.worker_pids()) == 1, "the worker has gone")
        for sock in socks:
            sock.sendall(frames(["last"]))
        found = messages(collector.wait_for_records(246, str(disk.path / "out.jsonl")))
        assert sorted(found) == sorted([*names, "last"] * 6)
        for sock in socks:
            sock.close()
        assert collector.stop() == 0
