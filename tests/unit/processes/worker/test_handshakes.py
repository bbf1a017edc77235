"""A TLS listener lets TLS clients in after their handshakes, plain ones as it is set up, and nobody holds it up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc.scoreboard import Field
from prefork_logd.net import tls
from prefork_logd.net.certificates import ListenerTls, Pair
from prefork_logd.net.loop import Loop, Timer
from prefork_logd.processes.worker import handshakes, shares
from tests.support import wire
from tests.support.authority import Authority
from tests.support.inprocess import Pair as WorkerPair
from tests.support.inprocess import frame, read
from tests.support.tls import StepClient, client_context

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from prefork_logd.processes.worker.connection import Connection

pytestmark = pytest.mark.slow

BOTH, ONLY, NAMED = "both:1", "only:1", "named:1"
"""Listeners: plain clients too, TLS only, TLS with certificates of clients only."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def listeners(authority: Authority) -> list[ListenerTls]:
    certificate, key = (Path(path).read_bytes() for path in authority.issue("localhost", "DNS:localhost"))
    pairs = (Pair(certificate, key),)
    return [
        ListenerTls(BOTH, False, "1.2", pairs),
        ListenerTls(ONLY, True, "1.2", pairs),
        ListenerTls(NAMED, True, "1.2", pairs, Path(authority.path).read_bytes()),
    ]


@pytest.fixture
def pair(listeners: list[ListenerTls]) -> Iterator[WorkerPair]:
    pair = WorkerPair()
    pair.worker._handshakes.renew(listeners)
    yield pair
    pair.close()


class Clients:
    """TLS clients of one worker."""

    def __init__(self, pair: WorkerPair, authority: Authority) -> None:
        self.pair = pair
        self.authority = authority

    def connect(self, listener: str = ONLY, peer: str = "", certificate: tuple[str, str] | None = None) -> StepClient:
        sock = self.pair.connect(peer, tls_listener=listener)
        return StepClient(sock, client_context(self.authority, certificate))

    def shaken(self, listener: str = ONLY, peer: str = "", certificate: tuple[str, str] | None = None) -> StepClient:
        client = self.connect(listener, peer, certificate)
        self.shake(client)
        return client

    def shake(self, *clients: StepClient) -> None:
        for _ in range(3):
            for client in clients:
                client.step()
            self.pair.turn()


@pytest.fixture
def clients(pair: WorkerPair, authority: Authority) -> Clients:
    return Clients(pair, authority)


def failures(pair: WorkerPair) -> dict[str, int]:
    counters = pair.worker.counters
    fields = [field for field in Field if field.name.startswith("TLS_")]
    return {field.name.removeprefix("TLS_").lower(): counters[field] for field in fields if counters[field]}


@pytest.mark.parametrize("listener", [BOTH, ONLY])
def test_records_come_through_tls(pair: WorkerPair, clients: Clients, listener: str) -> None:
    """Frames and sessions, with acknowledgements; a place is taken with the handshake."""
    plain_protocol = clients.shaken(listener)
    assert (pair.worker.counters[Field.PLACED], pair.worker.counters[Field.HANDSHAKES]) == (1, 1)
    plain_protocol.send(frame("one") * 3)
    session = clients.shaken(listener)
    session.send(wire.hello())
    pair.turn(3)
    assert [kind for kind, _ in wire.messages(session.receive())] == [0x81]
    session.send(wire.batch(1, frame("two")[4:]))
    pair.turn(3)
    assert [kind for kind, _ in wire.messages(session.receive())] == [0x83]
    assert len(pair.writer.lines) == 4
    assert not failures(pair)


def test_a_plain_client_shares_the_port(pair: WorkerPair, clients: Clients) -> None:
    """The first byte decides, where both are accepted."""
    plain = pair.connect(tls_listener=BOTH)
    clients.shaken(BOTH).send(frame("by TLS"))
    plain.sendall(frame("plain"))
    pair.turn(3)
    assert len(pair.writer.lines) == 2
    assert {one.tls is None for one in pair.worker.connections.values()} == {True, False}
    assert {one.tls_listener for one in pair.worker.connections.values()} == {""}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (frame(), "sends plain frames, and only TLS is taken; let its program speak TLS"),
        (b'{"message": "x"}\n', "sends JSON lines, and only TLS is taken; let its program speak TLS"),
        (b"GET / HTTP/1.1\r\n", "sends something else than TLS, and only TLS is taken"),
        (wire.batch(1, frame()[4:]), "sends sessions, and only TLS is taken; give its SocketHandler tls=True"),
    ],
)
def test_a_plain_client_is_refused_where_tls_is_demanded(
    sent: bytes, said: str, pair: WorkerPair, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of it is stored, and the log has the remedy."""
    plain = pair.connect(tls_listener=ONLY)
    plain.sendall(sent)
    pair.turn(2)
    assert read(plain) is None
    assert failures(pair) == {"plain": 1}
    assert not pair.worker.connections
    assert not pair.writer.lines
    assert not pair.writer.rejected
    assert said in caplog.text
    assert 'or set tls = "accept"' in caplog.text


def test_a_session_without_tls_is_told_so_where_tls_is_demanded(
    pair: WorkerPair, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole or in parts; the answer is whole. Clients that come again do not fill the log."""
    for sent in (wire.hello(), wire.hello()[:1]):
        plain = pair.connect(tls_listener=ONLY)
        plain.sendall(sent)
        pair.turn(2)
        ((kind, body),) = wire.messages(read(plain) or b"")
        assert (kind, body[:2]) == (0x84, (8).to_bytes(2, "big"))
        assert body[4:] == b"only TLS is taken here; SocketHandler speaks it with tls=True"
        assert _is_closed(plain)
    for _ in range(50):
        pair.connect(tls_listener=ONLY).sendall(wire.hello())
    pair.turn(3)
    assert failures(pair) == {"plain": 52}
    assert caplog.text.count("only TLS is taken") == 5
    session = clients.shaken(ONLY)
    session.send(wire.hello())
    pair.turn(3)
    assert [kind for kind, _ in wire.messages(session.receive())] == [0x81]


@pytest.mark.parametrize("listener", [BOTH, ONLY])
def test_who_leaves_without_a_word_is_no_failure(pair: WorkerPair, listener: str) -> None:
    """As a check of the port does."""
    pair.connect(tls_listener=listener).close()
    pair.turn(2)
    assert not pair.worker.connections
    assert not failures(pair)


def test_a_client_has_a_name_by_its_certificate(pair: WorkerPair, clients: Clients) -> None:
    """One without a certificate, and one of an authority that is not ours, is refused, and so is an expired one."""
    authority = clients.authority
    stranger = Authority(authority.directory / "strangers").issue("web-7")
    named = clients.shaken(NAMED, certificate=authority.issue("web-7", "DNS:web-7.example"))
    assert pair.connection().peer_name == "web-7.example"
    for certificate in (None, stranger, authority.issue("late", days=-1)):
        refused = clients.connect(NAMED, certificate=certificate)
        clients.shake(refused)
    assert failures(pair) == {"certificate": 3}
    named.send(frame())
    pair.turn(3)
    assert len(pair.writer.lines) == 1


def test_a_listener_without_a_certificate_refuses(pair: WorkerPair, clients: Clients) -> None:
    """Nobody is let in plain by mistake."""
    lost = clients.connect("unknown:1")
    plain = pair.connect(tls_listener="unknown:1")
    lost.step()
    plain.sendall(frame())
    pair.turn(2)
    assert failures(pair) == {"protocol": 1, "plain": 1}
    assert not pair.worker.connections


def test_a_slow_handshake_ends_and_others_go_on(
    pair: WorkerPair, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that stops in the middle, and one that sends a part of its first message."""
    delays = []
    later = pair.worker.loop.later
    monkeypatch.setattr(pair.worker.loop, "later", lambda delay_s, call: delays.append(delay_s) or later(0.0, call))
    half, part = clients.connect(), clients.connect()
    half.step()
    part._sock.sendall(part.hello()[:50])
    pair.worker.loop.turn(0)
    assert pytest.approx(handshakes.HANDSHAKE_S, abs=0.1) in delays
    monkeypatch.setattr(pair.worker._handshakes, "_longest_s", 0.0)
    pair.turn(3)
    assert failures(pair) == {"timeout": 2}
    assert not pair.worker.connections
    monkeypatch.undo()
    clients.shaken().send(frame())
    pair.turn(3)
    assert len(pair.writer.lines) == 1


def test_the_time_is_not_longer_than_that_of_a_record(pair: WorkerPair) -> None:
    """limits.record_timeout may be shorter."""
    pair.worker._handshakes.configure(1.5)
    assert pair.worker._handshakes._longest_s == 1.5
    pair.worker._handshakes.configure(60.0)
    assert pair.worker._handshakes._longest_s == handshakes.HANDSHAKE_S


def _half_done(pair: WorkerPair) -> list[Connection]:
    return [one for one in pair.worker.connections.values() if one.tls is not None and one.tls_listener]


def test_one_peer_cannot_hold_all_handshakes(
    pair: WorkerPair, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its further connections wait, and begin when one of the others has ended; another peer is not held up."""
    monkeypatch.setattr(handshakes, "MOST_OF_PEER", 3)
    many = [clients.connect(peer=f"10.0.0.1:{number}") for number in range(10)]
    for client in many:
        client._sock.sendall(client.hello())
    pair.turn(3)
    assert len(_half_done(pair)) == 3
    clients.shaken(peer="10.0.0.2:1").send(frame())
    pair.turn(2)
    assert len(pair.writer.lines) == 1
    for _ in range(8):
        clients.shake(*many)
    assert not _half_done(pair)
    for client in many:
        client.send(frame())
    pair.turn(3)
    assert len(pair.writer.lines) == 11
    assert not pair.worker._handshakes._waiting
    assert not pair.worker._handshakes._of_peer
    assert not failures(pair)


def test_a_slow_handshake_gives_way_to_those_who_wait(
    pair: WorkerPair, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a second, and the oldest first; with nobody waiting it has its whole time."""
    monkeypatch.setattr(handshakes, "MOST_OF_PEER", 2)
    monkeypatch.setattr(handshakes, "TICK_S", 0.0)
    slow = [clients.connect(peer=f"10.0.0.1:{number}") for number in range(2)]
    for client in slow:
        client._sock.sendall(client.hello())
    pair.turn(2)
    began_s = pair.worker._handshakes._began_s
    for connection in began_s:
        began_s[connection] -= handshakes.PATIENCE_S
    pair.worker._handshakes._enforce()
    assert len(_half_done(pair)) == 2
    honest = clients.connect(peer="10.0.0.1:9")
    honest._sock.sendall(honest.hello())
    pair.turn(3)
    clients.shake(honest)
    honest.send(frame())
    pair.turn(3)
    assert len(pair.writer.lines) == 1
    assert failures(pair) == {"crowded": 1}
    assert _is_closed(slow[0]._sock)
    assert not _is_closed(slow[1]._sock)


def test_who_waits_and_leaves_is_forgotten(pair: WorkerPair, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one begins in its place."""
    monkeypatch.setattr(handshakes, "MOST_OF_PEER", 1)
    first, second, third = (clients.connect(peer=f"10.0.0.1:{number}") for number in range(3))
    for client in (first, second, third):
        client._sock.sendall(client.hello())
        pair.turn()
    second._sock.close()
    pair.turn(2)
    first._sock.close()
    pair.turn(2)
    clients.shake(third)
    third.send(frame())
    pair.turn(3)
    assert len(pair.writer.lines) == 1
    assert not pair.worker._handshakes._waiting


def test_a_newcomer_does_not_pass_those_who_wait(
    pair: WorkerPair, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it comes in the moment in which a place becomes free."""
    monkeypatch.setattr(handshakes, "MOST_OF_PEER", 1)
    first, second = (clients.connect(peer=f"10.0.0.1:{number}") for number in range(2))
    for client in (first, second):
        client._sock.sendall(client.hello())
        pair.turn(2)
    newcomer = clients.connect(peer="10.0.0.1:9")
    first._sock.close()
    pair.worker.loop.turn(0)
    newcomer._sock.sendall(newcomer.hello())
    pair.turn(3)
    (begun,) = _half_done(pair)
    assert begun.peer == "10.0.0.1:1"
    clients.shake(second, newcomer)
    clients.shake(newcomer)
    newcomer.send(frame())
    pair.turn(3)
    assert len(pair.writer.lines) == 1


def test_all_handshakes_together_are_one_of_those_who_wait(
    pair: WorkerPair, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a connection with records waits for a few handshakes, not for all; they go on all the same."""
    monkeypatch.setattr(Loop, "crowded", True)
    many = [clients.connect() for _ in range(20)]
    for client in many:
        client._sock.sendall(client.hello())
    monkeypatch.setattr(handshakes, "SLOT_S", 0.0)
    pair.worker.loop.turn(0)
    assert (pair.worker.loop.waiting, len(pair.worker._handshakes._turns)) == (1, 20)
    for left in (19, 18):
        pair.worker.loop.turn(0)
        assert (pair.worker.loop.waiting, len(pair.worker._handshakes._turns)) == (1, left)
    many.pop()._sock.close()
    pair.worker.loop.turn(0)
    assert len(pair.worker._handshakes._turns) == 16
    monkeypatch.setattr(handshakes, "SLOT_S", 1.0)
    pair.turn(2)
    clients.shake(*many)
    for client in many:
        client.send(frame())
    pair.turn(5)
    assert len(pair.writer.lines) == 19
    assert failures(pair) == {"closed": 1}


def test_a_record_for_each_byte_takes_many_turns(
    pair: WorkerPair, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decrypting takes long then, and others get their turns in between."""
    monkeypatch.setattr(shares, "SLICE_S", 0.0)
    monkeypatch.setattr(tls, "MOST_STEPS", 20)
    client = clients.shaken()
    data = frame("x" * 50)
    client._sock.sendall(b"".join(client.encrypt(data[index : index + 1]) for index in range(len(data))))
    turns = 0
    while not pair.writer.lines and turns < 1000:
        turns += 1
        pair.turn()
    assert len(data) // 20 <= turns <= len(data) // 20 + 3


def test_when_all_are_taken_the_greediest_peer_gives_one_up(
    pair: WorkerPair, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its oldest one, which is the slowest."""
    monkeypatch.setattr(handshakes, "MOST_HALF_DONE", 4)
    modest = clients.connect(peer="10.0.0.3:1")
    greedy = [clients.connect(peer=f"10.0.0.1:{number}") for number in range(3)]
    for client in (modest, *greedy):
        client._sock.sendall(client.hello())
    pair.turn(2)
    clients.shaken(peer="10.0.0.2:1").send(frame())
    pair.turn(3)
    assert failures(pair) == {"crowded": 1}
    assert [_is_closed(client._sock) for client in (modest, *greedy)] == [False, True, False, False]
    assert len(pair.writer.lines) == 1


def test_a_new_certificate_is_for_new_connections(
    pair: WorkerPair, clients: Clients, listeners: list[ListenerTls]
) -> None:
    """Those that are there go on with theirs; one that cannot be used changes nothing."""
    old = clients.shaken()
    certificate, key = (Path(path).read_bytes() for path in clients.authority.issue("new", "DNS:localhost"))
    pair.worker._handshakes.renew([ListenerTls(ONLY, True, "1.2", (Pair(certificate, key),))])
    new = clients.shaken()
    broken = ListenerTls(ONLY, True, "1.2", (Pair(certificate, listeners[0].pairs[0].key),))
    pair.worker._handshakes.renew([broken])
    third = clients.shaken()
    for client in (old, new, third):
        client.send(frame())
    pair.turn(3)
    assert len(pair.writer.lines) == 3
    serials = [client.tls.getpeercert()["serialNumber"] for client in (old, new, third)]  # type: ignore[index]
    assert serials[0] != serials[1] == serials[2]


def test_a_full_collector_answers_a_session_by_tls(
    pair: WorkerPair, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BUSY, as without TLS: the decision needs the first byte inside of it."""
    monkeypatch.setattr(pair.worker._admission, "_places", 0)
    client = clients.shaken()
    client.send(wire.hello())
    pair.turn(3)
    (kind, body), *_ = wire.messages(client.receive())
    assert kind == 0x84
    assert b"limits.max_connections" in body
    waiting = clients.shaken()
    waiting.send(frame())
    pair.turn(3)
    assert not pair.writer.lines
    monkeypatch.setattr(pair.worker._admission, "_places", 10)
    pair.worker._admission._place_waiting()
    pair.turn(3)
    assert len(pair.writer.lines) == 1


def test_answers_of_tls_itself_are_sent_and_bounded(pair: WorkerPair, clients: Clients) -> None:
    """To a KeyUpdate, for instance: a client that makes TLS answer and reads nothing is closed."""
    client = clients.shaken()
    connection = pair.connection()
    assert connection.tls is not None
    connection.tls._outgoing.write(b"an answer of TLS")
    connection.again()
    pair.turn(3)
    assert not connection.unsent
    assert client._sock.recv(100) == b"an answer of TLS"
    connection.unsent = b"x" * 70_000
    connection.tls._outgoing.write(b"an answer of TLS")
    connection.again()
    pair.turn(3)
    assert not pair.worker.connections


def test_a_timer_is_armed_for_the_oldest(pair: WorkerPair, clients: Clients) -> None:
    """One timer serves any number of handshakes."""
    for client in (clients.connect(), clients.connect()):
        client.step()
    pair.turn()
    timer = pair.worker._handshakes._timer
    assert isinstance(timer, Timer)
    assert timer.pending
    assert timer.when_s - pair.worker.loop.now_s <= handshakes.HANDSHAKE_S + 0.1


def _is_closed(sock: socket.socket) -> bool:
    try:
        while sock.recv(1 << 16):
            continue
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False
    return True
