"""Peers that lie, stall, flood or vanish: each costs itself its connection, and nobody else anything."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING

from prefork_logd.ingest.rejections import MOST_FAILURES
from prefork_logd.processes.worker.deadlines import HELD_BYTES
from tests.support import procfs
from tests.support.harness import DEADLINE_S, frame, frames, messages, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

MAX_RECORD_BYTES = 1 << 20
GARBAGE = struct.pack(">I", 7) + b"garbage"
LIES = {
    "2 GiB": (struct.pack(">I", 1 << 31) + b"rest", "a frame of 2,147,483,648 bytes"),
    "4 GiB": (struct.pack(">I", (1 << 32) - 1) + b"rest", "a frame of 4,294,967,295 bytes"),
    "HTTP": (b"GET /metrics HTTP/1.1\r\nHost: logs\r\n\r\n", "an HTTP request"),
    "TLS": (bytes.fromhex("16030100c8010000c4030381"), "a TLS handshake"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH client"),
    "syslog": (b"<34>1 2026-01-01T00:00:00Z host app - - - text\n", "syslog lines"),
    "JSON": (b'{"message": "hello"}\n', "JSON lines"),
    "little-endian": (struct.pack("<I", 500) + b"x" * 500, "500 in little-endian"),
}


def _is_closed(sock: socket.socket) -> bool:
    """Wait until the collector has closed the connection; it never sends anything."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        # What it had not read yet makes a close a reset.
        return True


def _peer(sock: socket.socket) -> str:
    return "{}:{}".format(*sock.getsockname())


def _reset(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_bytes_that_are_no_frames_end_the_connection(collector: Collector) -> None:
    """An impossible length or another protocol is closed with one warning that names peer and cause, at no cost."""
    pids = collector.worker_pids()
    before_bytes = {pid: procfs.rss_bytes(pid) for pid in pids.values()}
    causes = {}
    for name, (data, cause) in LIES.items():
        with collector.connect() as sock:
            sock.sendall(frame(f"before {name}") + data)
            causes[_peer(sock)] = cause
            assert _is_closed(sock)
    stored = collector.wait_for_records(len(LIES))
    rejected = collector.wait_for_records(len(LIES), "rejected.jsonl")
    assert sorted(messages(stored)) == sorted(f"before {name}" for name in LIES)
    assert {entry["peer"]: entry["reason"] for entry in rejected} == dict.fromkeys(causes, "no-frame")
    for peer, cause in causes.items():
        (line,) = [line for line in collector.log.splitlines() if f" {peer}: " in line]
        assert "WARNING" in line
        assert cause in line
    assert collector.worker_pids() == pids
    for pid, rss_bytes in before_bytes.items():
        assert procfs.rss_bytes(pid) - rss_bytes < 2 << 20
    assert collector.status()["rejected"] == len(LIES)
    assert "Traceback" not in collector.log


def test_empty_frame_is_rejected_and_the_connection_lives(collector: Collector) -> None:
    """A frame of no bytes holds no record; what follows on the connection is stored."""
    with collector.connect() as sock:
        sock.sendall(struct.pack(">I", 0) + frame("after nothing"))
        assert messages(collector.wait_for_records(1)) == ["after nothing"]
        (entry,) = collector.wait_for_records(1, "rejected.jsonl")
        assert (entry["size"], entry["peer"]) == (0, _peer(sock))


def test_any_split_of_the_bytes_gives_the_same_records(collector: Collector) -> None:
    """Frames sent byte by byte, in odd pieces, or many at once are stored alike and in order."""
    data = frames(f"message {number}" for number in range(40))
    sent = [f"message {number}" for number in range(40)]
    total = 0
    for size in (1, 3, 5, 1021, len(data)):
        with collector.connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(data), size):
                sock.sendall(data[start : start + size])
            total += len(sent)
            stored = collector.wait_for_records(total)
            assert [record["message"] for record in stored if record["peer"] == _peer(sock)] == sent


def test_oversize_frame_is_skipped_without_being_held(make_collector: Maker) -> None:
    """Its beginning and its end are held: a record is cut, other bytes get an entry; its connection is warned about."""
    collector = make_collector("[limits]\nmax_record_bytes = 65536", "--workers", "1").start()
    (pid,) = collector.worker_pids().values()
    size = 48 << 20
    piece = b"x" * (1 << 16)
    with collector.connect() as sock:
        sock.sendall(frame("one"))
        collector.wait_for_records(1)
        before_bytes = procfs.rss_bytes(pid)
        sock.sendall(struct.pack(">I", size))
        for _ in range(size // len(piece)):
            sock.sendall(piece)
        sock.sendall(frame("two") + frame("z" * 65536) + frame("three"))
        stored = collector.wait_for_records(4)
        assert procfs.rss_bytes(pid) - before_bytes < 4 << 20
        (rejected,) = collector.wait_for_records(1, "rejected.jsonl")
        peer = _peer(sock)
    assert [message[:5] for message in messages(stored)] == ["one", "two", "zzzzz", "three"]
    assert [record.get("truncated") for record in stored] == [None, None, ["message"], None]
    assert rejected["size"] == size
    assert rejected["first_bytes"].startswith("xxxx")
    assert 1 <= collector.log.count(peer) <= 2
    assert collector.status()["rejected"] == 1


def test_oversize_frame_is_noted_though_garbage_follows(collector: Collector) -> None:
    """What came before the bytes that end a connection has its own entry, in order."""
    with collector.connect() as sock:
        oversize = struct.pack(">I", MAX_RECORD_BYTES + 1) + bytes(MAX_RECORD_BYTES + 1)
        sock.sendall(oversize + frame("good") + GARBAGE + b"GET / HTTP/1.1\r\n\r\n")
        assert _is_closed(sock)
    rejected = collector.wait_for_records(3, "rejected.jsonl")
    assert sorted(entry["reason"] for entry in rejected) == ["no-frame", "too-large", "truncated"]
    assert messages(collector.wait_for_records(1)) == ["good"]


def test_client_that_sends_only_garbage_is_closed(collector: Collector) -> None:
    """A long row of frames without a record ends a connection; a good one now and then saves it. No other notices."""
    with collector.connect() as good, collector.connect() as bad, collector.connect() as mixed:
        good.sendall(frame("good 1"))
        mixed.sendall(GARBAGE * (MOST_FAILURES - 1) + frame("mixed 1") + GARBAGE * (MOST_FAILURES - 1))
        mixed.sendall(frame("mixed 2"))
        bad.sendall(bytes(4) * 3 * MOST_FAILURES + frame("never read"))
        assert _is_closed(bad)
        good.sendall(frame("good 2"))
        stored = collector.wait_for_records(4)
        rejected = collector.wait_for_records(3 * MOST_FAILURES - 2, "rejected.jsonl")
        assert sum(entry["peer"] == _peer(mixed) for entry in rejected) == 2 * MOST_FAILURES - 2
        assert len(rejected) == collector.status()["rejected"] == 3 * MOST_FAILURES - 2
    assert sorted(messages(stored)) == ["good 1", "good 2", "mixed 1", "mixed 2"]
    assert collector.log.count("frames in a row without a record") == 1


def test_announced_bytes_are_not_allocated(make_collector: Maker) -> None:
    """1,000 connections announcing the largest frame and sending a byte of it cost little, and end at the deadline."""
    collector = make_collector('[limits]\nrecord_timeout = "1s"', "--workers", "2").start()
    pids = collector.worker_pids()
    before_bytes = sum(map(procfs.rss_bytes, pids.values()))
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(collector.connect()).sendall(struct.pack(">I", MAX_RECORD_BYTES) + b"x")
        wait_for(lambda: sum(collector.held()) > 900, "the connections accepted")
        assert sum(map(procfs.rss_bytes, pids.values())) - before_bytes < 8 << 20
        wait_for(lambda: sum(collector.held()) == 0, "every connection closed at the deadline", 5)
    assert collector.worker_pids() == pids
    assert collector.status()["dropped"] == 1000
    # Each worker warns of some and counts the rest.
    assert collector.log.count("a record was not complete after 1 s") < 100
    with collector.connect() as sock:
        sock.sendall(frame("afterwards"))
        collector.wait_for_records(1)


def test_half_received_records_are_bounded_together(make_collector: Maker) -> None:
    """When many large records are half received, the oldest is given up: memory has its bound. Others are served."""
    size = 60 << 20
    collector = make_collector(f"[limits]\nmax_record_bytes = {size}", "--workers", "1").start()
    (pid,) = collector.worker_pids().values()
    piece = b"x" * (1 << 20)
    before_bytes = procfs.rss_bytes(pid)
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(HELD_BYTES // size + 1):
            sock = stack.enter_context(collector.connect())
            socks.append(sock)
            sock.sendall(struct.pack(">I", size))
            for _ in range(size // len(piece) - 1):
                sock.sendall(piece)
        assert _is_closed(socks[0])
        # A bytearray that grows has an eighth more than it needs, and for a moment its predecessor beside it.
        assert procfs.rss_bytes(pid) - before_bytes < HELD_BYTES * 9 // 8 + 2 * size
        assert sum(collector.held()) == len(socks) - 1
        good = stack.enter_context(collector.connect())
        good.sendall(frame("served"))
        collector.wait_for_records(1)
    assert collector.log.count("no room for more half-received records") == 1


def test_slow_senders_are_ended_and_disturb_nobody(make_collector: Maker) -> None:
    """300 connections trickling a byte at a time end at the deadline of their record; an idle one stays."""
    collector = make_collector('[limits]\nrecord_timeout = "1s"', "--workers", "2").start()
    endless = struct.pack(">I", 100_000) + b"x" * 100_000
    with contextlib.ExitStack() as stack:
        good, idle = (stack.enter_context(collector.connect()) for _ in range(2))
        idle.sendall(frame("idle 1"))
        slow = [stack.enter_context(collector.connect()) for _ in range(300)]
        started_s = time.monotonic()
        latencies_s = []
        rounds = 0
        while slow:
            for sock in list(slow):
                try:
                    sock.send(endless[rounds : rounds + 1])
                except (BrokenPipeError, ConnectionResetError):
                    slow.remove(sock)
            rounds += 1
            sent_s = time.monotonic()
            good.sendall(frame(f"good {rounds}"))
            collector.wait_for_records(rounds + 1)
            latencies_s.append(time.monotonic() - sent_s)
            assert time.monotonic() - started_s < DEADLINE_S
        assert time.monotonic() - started_s > 0.9
        assert sorted(latencies_s)[len(latencies_s) // 2] < 0.1, latencies_s
        assert max(latencies_s) < 1.0
        assert sum(collector.held()) == 2
        idle.sendall(frame("idle 2"))
        collector.wait_for_records(rounds + 2)


def test_reset_in_the_middle_of_a_record(collector: Collector) -> None:
    """A RST at any offset loses the record that it cuts, and none before it."""
    whole = frame("cut short", detail="x" * 100)
    offsets = [*range(8), *range(8, len(whole) - 4, 7), *range(len(whole) - 4, len(whole))]
    for offset in offsets:
        sock = collector.connect()
        sock.sendall(frames([f"first {offset}", f"second {offset}"]) + whole[:offset])
        _reset(sock)
    stored = collector.wait_for_records(2 * len(offsets))
    wait_for(lambda: sum(collector.held()) == 0, "every connection gone")
    assert sorted(messages(stored)) == sorted(
        f"{which} {offset}" for which in ("first", "second") for offset in offsets
    )
    assert collector.status()["dropped"] == len(offsets) - 1, (
        "each record cut short is counted; at offset 0 there is none"
    )
    assert collector.rejected() == []
    assert "Traceback" not in collector.log
    assert collector.stop() == 0
