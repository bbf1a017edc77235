"""One client that sends as fast as it is read, beside 50 honest ones: a limit keeps their acknowledgements soon."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.support.harness import frames, wait_for
from tests.support.session_client import Client, records

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

SESSIONS, ROUNDS = 50, 3
SLACK_S = 0.05
"""For a machine that is busy with other tests."""


NOISY = """
import socket, sys
piece = sys.stdin.buffer.read()
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    while True:
        sock.sendall(piece)
"""


def _p99_s(clients: list[Client], first: int) -> float:
    """Return the 99th percentile of the time to an acknowledgement, one record after the other."""
    taken = []
    for number in range(first, first + ROUNDS):
        for client in clients:
            begin_s = time.perf_counter()
            client.send(records(number, ["honest"]))
            client.acknowledged(number)
            taken.append(time.perf_counter() - begin_s)
    return sorted(taken)[int(len(taken) * 0.99)]


def test_a_noisy_client_beside_honest_ones(make_collector: Callable[..., Collector]) -> None:
    """Their p99 at most doubles; the noisy one gets its rate."""
    limit = '[[limit]]\nname = "rate"\nper = "connection"\nrecords_per_second = 2000\nburst = "1s"\n'
    collector = make_collector(limit, "--workers", "2").start()
    clients = [Client(collector) for _ in range(SESSIONS)]
    for number, client in enumerate(clients):
        client.welcome(b"%016d" % number)
    _p99_s(clients, 1)
    quiet_s = _p99_s(clients, 1 + ROUNDS)
    noisy = subprocess.Popen(
        [sys.executable, "-c", NOISY, *map(str, collector.address())], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert noisy.stdin is not None
        noisy.stdin.write(frames("x" * 100 for _ in range(500)))
        noisy.stdin.close()
        wait_for(lambda: "sends more than 2000 records a second; it waits" in collector.log, "limited")
        beside_s = _p99_s(clients, 1 + 2 * ROUNDS)
    finally:
        noisy.kill()
        noisy.wait()
    for client in clients:
        client.close()
    assert beside_s <= 2 * quiet_s + SLACK_S, (beside_s, quiet_s)
    assert collector.stop() == 0
