"""Sending an ended session's spool: against the server's half, with its files harmed and the collector ill-behaved."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import Spool
from prefork_logd.handlers._adoption import Adopter, Delivery
from prefork_logd.handlers._notices import Notices
from prefork_logd.handlers._options import Options
from prefork_logd.inputs.base import Bye, Gap, Records
from prefork_logd.inputs.session.messages import ErrorCode, Hello
from prefork_logd.inputs.session.server import ServerSession

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSION = bytes(range(16))


class Server:
    """Answers one connection in a thread of the test, and keeps what it got."""

    def __init__(self, *, committed: int = 0, error: int | None = None, garbage: bool = False) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.records: dict[int, bytes] = {}
        self.gaps: list[tuple[int, int, str]] = []
        self.has_bye = False
        self._committed, self._error, self._garbage = committed, error, garbage
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        session = ServerSession(1000, 2000)
        with self.theirs:
            while data := self.theirs.recv(1 << 16):
                events = list(session.receive(data))
                for event in events:
                    self._answer(session, event)
                if any(isinstance(event, Records | Gap) for event in events) and not self.has_bye:
                    self.theirs.sendall(session.ack(session.expected - 1))

    def _answer(self, session: ServerSession, event: Any) -> None:
        if isinstance(event, Hello):
            if self._garbage:
                self.theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n")
            elif self._error is not None:
                self.theirs.sendall(session.error(ErrorCode(self._error), "no"))
            else:
                self.theirs.sendall(session.welcome(max(self._committed, event.first - 1)))
        elif isinstance(event, Records):
            self.records |= {number: bytes(body) for number, body in enumerate(event.bodies, event.first)}
        elif isinstance(event, Gap):
            self.gaps.append((event.first, event.last, event.reason))
        elif isinstance(event, Bye):
            self.has_bye = True

    def close(self) -> None:
        self.ours.close()
        self._thread.join(10)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(str(tmp_path), SESSION, 1 << 20)
    yield made
    made.close()


def deliver(paths: list[str], server: Server, **options: Any) -> tuple[Delivery, bool]:
    made = Delivery(Options("h", 1, **options), SESSION, paths, threading.Event(), lambda _: server.ours)
    try:
        return made, made.run()
    finally:
        server.close()


def written(spool: Spool, numbers: list[int], size: int = 10) -> list[str]:
    places = [spool.append(number, float(number), b"%0*d" % (size, number)) for number in numbers]
    spool.close()
    return [places[0][0]]


def test_records_and_the_gaps_between_them_arrive(spool: Spool) -> None:
    server = Server()
    delivery, is_delivered = deliver(written(spool, [3, 4, 7]), server)
    assert is_delivered
    assert list(server.records) == [3, 4, 7]
    assert server.gaps == [(5, 6, "not in the spool")]
    assert (delivery.sent, delivery.lost, delivery.damaged) == (3, 2, [])
    assert server.has_bye


def test_records_that_the_collector_has_are_not_sent_again(spool: Spool) -> None:
    server = Server(committed=3)
    delivery, is_delivered = deliver(written(spool, [1, 2, 3, 4]), server)
    assert is_delivered
    assert list(server.records) == [4]
    assert delivery.sent == 1


def test_a_record_that_no_batch_takes_is_a_gap(spool: Spool) -> None:
    server = Server()
    delivery, is_delivered = deliver(written(spool, [1], size=3000), server)
    assert is_delivered
    assert server.gaps == [(1, 1, "too large")]
    assert (delivery.sent, delivery.lost) == (0, 1)


def test_a_damaged_segment_is_named(spool: Spool) -> None:
    (path,) = written(spool, [1, 2, 3])
    with Path(path).open("r+b") as file:
        file.seek(8 + 24 + 10 + 30)
        file.write(b"\xff")
    server = Server()
    delivery, is_delivered = deliver([path], server)
    assert is_delivered
    assert delivery.damaged == [path]
    assert list(server.records) == [1, 3]


def test_files_with_nothing_readable_are_done_without_a_connection(tmp_path: Path) -> None:
    path = tmp_path / f"{SESSION.hex()}.{1:020d}.spool"
    path.write_bytes(b"nothing")
    delivery = Delivery(Options("h", 1), SESSION, [str(path)], threading.Event(), lambda _: pytest.fail("connects"))
    assert delivery.run()
    assert delivery.damaged == [str(path)]


@pytest.mark.parametrize(("error", "least", "most"), [(2, 5.0, 5.0), (7, 0.5, 1.5), (5, 0.5, 1.5)])
def test_a_refusal_says_how_long_to_wait(error: int, least: float, most: float, spool: Spool) -> None:
    delivery, is_delivered = deliver(written(spool, [1]), Server(error=error))
    assert not is_delivered
    assert least <= delivery.pause <= most


def test_garbage_is_waited_out(spool: Spool) -> None:
    delivery, is_delivered = deliver(written(spool, [1]), Server(garbage=True))
    assert not is_delivered
    assert delivery.pause == 5.0


def test_an_adopter_sends_counts_and_removes_what_others_have_left(spool: Spool, tmp_path: Path) -> None:
    written(spool, [1, 2, 5])
    server, counts = Server(), dict[str, int]()
    options = Options("h", 1, overflow="spool", spool_dir=str(tmp_path))
    adopter = Adopter(options, Notices("h:1"), counts, lambda _: server.ours)
    adopter.start(b"another session.", lambda function, *args: function(*args))
    thread = adopter._thread
    if thread is not None:
        thread.join(20)
    server.close()
    assert (counts["adopted"], counts["adopted_lost"]) == (3, 2)
    assert list(tmp_path.iterdir()) == []
    assert not adopter.is_due()
    adopter.ask_to_stop()
    assert not adopter.was_at_work


def test_an_adopter_leaves_its_own_session_alone(spool: Spool, tmp_path: Path) -> None:
    spool.append(1, 1.0, b"one")
    options = Options("h", 1, overflow="spool", spool_dir=str(tmp_path))
    adopter = Adopter(options, Notices("h:1"), {})
    adopter.start(SESSION, lambda function, *args: function(*args))
    assert adopter.ask_to_stop() is None
