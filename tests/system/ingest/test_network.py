"""Networks fail, and clients misbehave: what is acknowledged is stored once, and others do not notice."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from prefork_logd.inputs.session.auth import client_mac
from tests.support import wire
from tests.support.harness import messages, wait_for
from tests.support.load import Load
from tests.support.procfs import rss_bytes
from tests.support.proxy import Proxy
from tests.support.session_client import CHALLENGE, ERROR, WELCOME, Client, Faithful, hello, records
from tests.torture.processes import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]


def test_a_session_reset_at_every_byte(collector: Collector) -> None:
    """A RST after each byte of a BATCH, and the rest on another connection: each record is stored once."""
    for cut in range(len(_batch(b"0000", 1)) + 1):
        tag = b"%04d" % cut
        session = tag.rjust(16, b"r")
        client = Client(collector)
        assert client.welcome(session) == 0
        client.send(_batch(tag, 1)[:cut])
        client.close(reset=True)
        again = Client(collector)
        committed = again.welcome(session)
        assert committed <= 3
        if committed < 3:
            again.send(_batch(tag, committed + 1))
            again.acknowledged(3)
        again.close()
    expected = sorted(f"{tag:04d}-{number}" for tag in range(cut + 1) for number in (1, 2, 3))
    assert sorted(messages(collector.records())) == expected
    assert "Traceback" not in collector.log
    assert collector.stop() == 0


def _batch(tag: bytes, first: int) -> bytes:
    bodies = (pickle.dumps({"msg": f"{tag.decode()}-{number}"}, 2) for number in range(first, 4))
    return wire.batch(first, *bodies)


def test_acknowledgements_are_lost(collector: Collector) -> None:
    """The network drops what the collector says, then the connection: what is sent again is stored once."""
    with Proxy(collector.address()) as proxy:
        host, port = proxy.address
        service = Service(sys.executable, f"{host}:{port}", "s0", 0.002)
        try:
            for _ in range(5):
                # So many that the client must have been welcomed: what was on its way at the reset is less.
                before = len(collector.lines())
                wait_for(lambda n=before: len(collector.lines()) > n + 50, "some records")
                proxy.drops_answers = True
                before = len(collector.lines())
                wait_for(lambda n=before: len(collector.lines()) > n, "records whose acknowledgements are lost")
                proxy.drops_answers = False
                proxy.reset()
            count = service.finish()
        finally:
            service.close()
    assert collector.stop() == 0
    assert messages(collector.records()) == [f"s0-{number:07d}" for number in range(count)]


def test_what_is_repeated_though_it_is_committed_is_passed_over(collector: Collector) -> None:
    """A client that knows nothing of what was committed sends all again: it is acknowledged, and stored once."""
    for _ in range(3):
        client = Client(collector)
        client.welcome(b"r" * 16)
        client.send(records(1, ["one", "two", "three"]) + records(3, ["three", "four"]))
        if _ == 0:
            client.acknowledged(4)
        client.close()
    assert collector.stop() == 0
    assert messages(collector.records()) == ["one", "two", "three", "four"]


def test_a_connection_that_is_half_open(collector: Collector) -> None:
    """A client whose packets are lost comes again elsewhere; what the network delivers late is not stored twice."""
    session = b"h" * 16
    with Proxy(collector.address()) as proxy:
        old = Client(collector)
        old.sock.close()
        old.sock = socket.create_connection(proxy.address, timeout=20)
        old.welcome(session)
        old.send(records(1, ["1", "2"]))
        old.acknowledged(2)
        proxy.freeze()
        old.send(records(3, ["3", "4", "5"]))
        new = Client(collector)
        assert new.welcome(session, 3) == 2
        new.send(records(3, ["3", "4"]))
        new.acknowledged(4)
        proxy.thaw()
        new.send(records(5, ["5", "6"]))
        new.acknowledged(6)
        wait_for(lambda: sum(collector.held()) == 1, "the old connection is closed")
        new.close()
        old.close()
    assert collector.stop() == 0
    assert messages(collector.records()) == ["1", "2", "3", "4", "5", "6"]


def test_a_late_batch_of_the_old_worker_is_fenced(collector: Collector) -> None:
    """A client leaves a worker that is stopped for another one; what the old one reads later doubles nothing."""
    session = b"f" * 16
    workers = collector.worker_pids()
    old = Client(collector)
    old.welcome(session)
    old.send(records(1, ["1", "2"]))
    old.acknowledged(2)
    held = collector.held()
    home = workers[held.index(1) + 1]
    os.kill(home, signal.SIGSTOP)
    try:
        # Differently cut, and one more: it would be taken, were it for the numbers alone.
        old.send(records(3, ["3", "4", "5", "late"]))
        new = Client(collector)
        assert new.welcome(session, 3) == 2
        new.send(records(3, ["3", "4"]))
        assert new.acknowledged(4) == 4
    finally:
        os.kill(home, signal.SIGCONT)
    wait_for(lambda: sum(collector.held()) == 1, "the old worker has let its connection go")
    assert _answers(old) <= {ERROR}, "the late batch was acknowledged"
    new.send(records(5, ["5", "6"]))
    assert new.acknowledged(6) == 6
    new.close()
    assert collector.stop() == 0
    assert messages(collector.records()) == ["1", "2", "3", "4", "5", "6"]


def _answers(client: Client) -> set[int]:
    """Return the kinds of everything that the collector says until it closes."""
    kinds = set()
    try:
        while True:
            kinds.add(client.message()[0])
    except OSError:
        client.close()
    return kinds


def test_a_client_that_never_reads_its_acknowledgements(collector: Collector) -> None:
    """They take no memory, hold nobody up, and the last of them is there in the end."""
    deaf = Client(collector)
    deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    deaf.welcome(b"d" * 16)
    pids = [*collector.worker_pids().values()]
    before = sum(map(rss_bytes, pids))
    other = Faithful(collector, "other")
    count = 6000
    for number in range(1, count + 1, 3):
        deaf.send(b"".join(records(n, ["quiet"]) for n in range(number, number + 3)))
    other.log(50, batch=1)
    other.close()
    collector.wait_for_records(count + 50)
    assert sum(map(rss_bytes, pids)) - before < 16 << 20
    assert deaf.acknowledged(count) == count
    deaf.close()
    assert collector.stop() == 0
    assert Counter(messages(collector.records()))["quiet"] == count


def test_one_client_ten_times_faster_than_fifty_others(make_collector: Maker) -> None:
    """While one floods, each of fifty others is acknowledged within half a second, ninety-nine times of a hundred."""
    collector = make_collector("", "--workers", "2").start()
    clients = [Client(collector) for _ in range(50)]
    for index, client in enumerate(clients):
        client.welcome(b"%016d" % index)
    waits_s = []
    with Load(collector, clients=1) as load:
        for number in range(1, 13):
            began_s = time.monotonic()
            for client in clients:
                client.send(records(number, ["slow"]))
            for client in clients:
                client.acknowledged(number)
                waits_s.append(time.monotonic() - began_s)
        assert load.total() > 10 * 12 * 2
    assert sorted(waits_s)[len(waits_s) * 99 // 100] < 0.5
    for client in clients:
        client.close()
    assert collector.stop() == 0
    assert messages(collector.records()).count("slow") == 600


# Strangers

_KEY = b"of-sixteen-bytes"
_GUARDED = """
[server]
keys_file = "{keys}"
[limits]
record_timeout = "2s"
[[listener]]
address = "127.0.0.1:0"
accept = "authenticated"
"""


def _guarded(make_collector: Maker, tmp_path: Path) -> Collector:
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text(f"k1 {_KEY.decode()}\n")
    return make_collector(_GUARDED.format(keys=keys), "--bind", f"unix:{tmp_path}/s").start()


def _challenged(collector: Collector) -> tuple[Client, bytes]:
    client = Client(collector, 1)
    client.send(hello(b"k" * 16))
    kind, nonce = client.message()
    assert kind == CHALLENGE
    return client, nonce


def _answer(nonce: bytes, key: bytes = _KEY, key_id: bytes = b"k1") -> bytes:
    mine = b"n" * 32
    return wire.auth(key_id, mine, client_mac(key, nonce, mine, b"k" * 16, key_id))


def test_strangers_are_refused_alike_and_nothing_of_theirs_is_decoded(make_collector: Maker, tmp_path: Path) -> None:
    """A wrong secret, an unknown key, a replayed answer, records or a kilobyte before the answer: none gets in."""
    collector = _guarded(make_collector, tmp_path)
    client, nonce = _challenged(collector)
    right = _answer(nonce)
    client.send(right)
    assert client.message()[0] == WELCOME
    client.send(records(1, ["mine"]))
    client.acknowledged(1)
    client.close()
    refusals = set()
    for make in (
        lambda nonce: _answer(nonce, b"x" * 16),
        lambda nonce: _answer(nonce, key_id=b"k2"),
        lambda _: right,
    ):
        client, nonce = _challenged(collector)
        client.send(make(nonce))
        refusals.add(client.message())
        assert _answers(client) == set()
    assert len(refusals) == 1, "who is refused learns why"
    for early in (records(1, ["forged"]), wire.message(2, bytes(1025)), struct.pack(">I", 2000) + bytes(2000)):
        client, _ = _challenged(collector)
        client.send(early)
        assert _answers(client) == {ERROR}
    assert collector.stop() == 0
    assert messages(collector.records()) == ["mine"]


def test_stalled_handshakes_keep_nobody_out(make_collector: Maker, tmp_path: Path) -> None:
    """Two hundred clients that never answer are ended in time; meanwhile others are let in at once."""
    collector = _guarded(make_collector, tmp_path)
    stalled = [_challenged(collector)[0] for _ in range(200)]
    client, nonce = _challenged(collector)
    client.send(_answer(nonce))
    assert client.message()[0] == WELCOME
    client.send(records(1, ["mine"]))
    client.acknowledged(1)
    wait_for(lambda: sum(collector.held()) == 1, "the stalled ones are gone")
    client.send(records(2, ["still mine"]))
    client.acknowledged(2)
    for sock in (*stalled, client):
        sock.close()
    assert collector.stop() == 0
    assert messages(collector.records()) == ["mine", "still mine"]


def test_clients_that_leave_while_challenged_leave_nothing_behind(make_collector: Maker, tmp_path: Path) -> None:
    """Closed, reset, or gone with half an answer: no connection and no error stays of them."""
    collector = _guarded(make_collector, tmp_path)
    for turn in range(30):
        client, nonce = _challenged(collector)
        if turn % 2:
            client.send(_answer(nonce)[: 5 + turn])
        client.close(reset=turn % 3 == 0)
    wait_for(lambda: sum(collector.held()) == 0, "all are gone")
    client, nonce = _challenged(collector)
    client.send(_answer(nonce))
    assert client.message()[0] == WELCOME
    client.send(records(1, ["mine"]))
    client.acknowledged(1)
    client.close()
    assert collector.stop() == 0
    assert messages(collector.records()) == ["mine"]
    assert "ERROR" not in collector.log
