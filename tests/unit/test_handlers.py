"""The handler's parts, each for itself: its half of a session, records as pickles, the spool, and overflow."""

from __future__ import annotations

import itertools
import logging
import pickle
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd import handlers
from prefork_logd.handlers import ClientProtocol, ProtocolError, SocketHandler, Spool, make_pickle
from prefork_logd.protocol.base import Bye, Gap, Records
from prefork_logd.protocol.messages import Capability, ErrorCode, Hello
from prefork_logd.protocol.session import ServerSession

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSION = bytes(range(16))
LIMITS = (1 << 16, (1 << 16) + 64)


def opened(committed: int = 0, first: int = 1) -> tuple[ClientProtocol, ServerSession]:
    """Both sides of a session that has been welcomed."""
    client, server = ClientProtocol(SESSION), ServerSession(*LIMITS)
    (hello,) = server.receive(client.hello(first))
    assert isinstance(hello, Hello)
    assert client.feed(server.welcome(committed)) == [("welcome", committed)]
    return client, server


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


# The client's half of a session


@given(st.lists(st.one_of(st.integers(1, 5), st.lists(st.binary(max_size=40), min_size=1, max_size=5)), max_size=12),
       st.lists(st.integers(0, 4000), max_size=20))  # fmt: skip
def test_the_server_reads_what_the_client_says_in_any_pieces(items: list[Any], cuts: list[int]) -> None:
    """Records come out as they went in, and gaps where numbers were dropped."""
    client, server = opened()
    number, data, expected = 1, b"", {}
    for item in items:
        if isinstance(item, int):
            data += client.gap(number, item, 1.0, 2.0, "no room")
            number += item
        else:
            data += client.one(number, item[0]) if len(item) == 1 else client.batch(number, item)
            expected |= dict(enumerate(item, number))
            number += len(item)
    assert client.sent == number - 1
    data += client.bye()
    events = [event for piece in split(data, cuts) for event in server.receive(piece)]
    got = {}
    for event in events:
        if isinstance(event, Records):
            got |= dict(enumerate(event.bodies, event.first))
        assert isinstance(event, Records | Gap | Bye)
    assert got == expected
    assert server.expected == number
    assert isinstance(events[-1], Bye)


@given(st.lists(st.integers(1, 100), max_size=12, unique=True).map(sorted), st.lists(st.integers(0, 2000), max_size=20))
def test_the_client_reads_what_the_server_says_in_any_pieces(numbers: list[int], cuts: list[int]) -> None:
    """Acknowledgements come once and in order."""
    client, server = opened()
    server.receive(client.batch(1, [b"x"] * 100))
    data = b"".join(map(server.ack, numbers))
    assert [event for piece in split(data, cuts) for event in client.feed(piece)] == [("ack", n) for n in numbers]


@given(st.integers(1, 30), st.data())
def test_a_reset_at_any_byte_loses_and_doubles_nothing(count: int, data: st.DataObject) -> None:
    """After each reset the rest is sent again, from what WELCOME says on; duplicates are passed over."""
    bodies = [b"record %d" % number for number in range(1, count + 1)]
    stored: list[bytes] = []
    acknowledged = 0
    while len(stored) < count:
        client, server = opened(len(stored), acknowledged + 1)
        # From the first that is not acknowledged on, though more may be committed: those are duplicates.
        again = data.draw(st.sampled_from([acknowledged, len(stored)]))
        said = client.batch(again + 1, bodies[again:])
        cut = data.draw(st.one_of(st.just(len(said)), st.integers(0, len(said))))
        for event in server.receive(said[:cut]):
            assert isinstance(event, Records)
            assert event.first == len(stored) + 1
            stored += event.bodies
        if data.draw(st.booleans()):
            for kind, number in client.feed(server.ack(len(stored)) if server.expected > 1 else b""):
                assert kind == "ack"
                acknowledged = number
    assert stored == bodies


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_ends_it(data: bytes) -> None:
    """Whatever comes, it is an event or a ProtocolError, and nothing is taken after that."""
    client, _ = opened()
    try:
        client.feed(data)
    except ProtocolError:
        assert client.feed(b"anything") == []
        assert client.state == "closed"


@given(st.integers(0, 5), st.lists(st.integers(0, 200), max_size=20))
def test_waiting_is_heard_in_any_pieces_and_changes_nothing(times: int, cuts: list[int]) -> None:
    """However often it is said; after the welcome it is out of place."""
    client, server = ClientProtocol(SESSION), ServerSession(*LIMITS)
    (hello,) = server.receive(client.hello(1))
    assert isinstance(hello, Hello)
    assert hello.capabilities & Capability.WAIT
    said = b"".join(server.wait() for _ in range(times))
    for piece in split(said, cuts):
        assert set(client.feed(piece)) <= {("wait",)}
    assert client.heard == (times > 0)
    assert client.state == "greeting"
    assert client.feed(server.welcome(3)) == [("welcome", 3)]
    with pytest.raises(ProtocolError, match="0x85 while ready"):
        client.feed(b"\xf7\x50\x85\0\0\0\0\0")


def test_an_acknowledgement_of_what_was_not_sent_is_refused() -> None:
    """Also after a record was sent again, which must not lower what counts as sent."""
    client, _ = opened()
    client.batch(1, [b"a", b"b", b"c"])
    client.one(1, b"a")
    assert client.sent == 3
    ack = b"\xf7\x50\x83\x00" + (8).to_bytes(4, "big")
    assert client.feed(ack + (3).to_bytes(8, "big")) == [("ack", 3)]
    with pytest.raises(ProtocolError, match="ACK of 4"):
        client.feed(ack + (4).to_bytes(8, "big"))


@pytest.mark.parametrize("state", ["greeting", "ready"])
def test_messages_that_change_nothing_end_a_session_that_has_no_others(state: str) -> None:
    """A server may repeat itself, but not for ever: each message costs the service time."""
    client, _ = opened()
    if state == "greeting":
        client = ClientProtocol(SESSION)
        client.hello(1)
    said = b"\xf7\x50\x85\0\0\0\0\0" if state == "greeting" else b"\xf7\x50\x83\0\0\0\0\x08" + bytes(8)
    assert len(client.feed(said * 1000)) == 1000
    with pytest.raises(ProtocolError, match="more than 1000"):
        client.feed(said)


def test_acknowledgements_that_come_between_idle_ones_keep_the_session() -> None:
    """The limit is for those in a row."""
    client, server = opened()
    server.receive(client.batch(1, [b"x"] * 5))
    for number in range(1, 6):
        ack = server.ack(number)
        assert len(client.feed(ack + ack * 900)) == 901


def test_an_error_of_the_server_ends_the_session() -> None:
    """Its code and text are told."""
    client, server = opened()
    assert client.feed(server.error(ErrorCode.REFUSED, "no")) == [("error", int(ErrorCode.REFUSED), "no")]
    assert client.state == "closed"


# Records as pickles


def record(message: str = "hello %s", *args: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("shop").makeRecord(
        "shop", logging.INFO, "x.py", 1, message, args, None, "f", extra or None
    )


@given(st.text(max_size=5000), st.integers(600, 4000))
def test_a_pickle_is_never_larger_than_it_may_be(text: str, max_bytes: int) -> None:
    """Texts are cut, and the record says so."""
    data = make_pickle(record("message", text=text, more=[text] * 3), None, max_bytes)
    assert len(data) <= max_bytes
    assert pickle.loads(data)["name"] == "shop"


def test_chained_exceptions_are_told_as_a_whole() -> None:
    """The cause is in exc_text beside the exception itself."""
    made = record("failed")
    try:
        try:
            {}["first"]
        except KeyError as error:
            raise RuntimeError("second") from error
    except RuntimeError:
        made.exc_info = sys.exc_info()
    told = pickle.loads(make_pickle(made))
    assert told["exc_info"] is None
    assert "KeyError: 'first'" in told["exc_text"]
    assert "direct cause" in told["exc_text"]
    assert "RuntimeError: second" in told["exc_text"]


# The spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(str(tmp_path), SESSION, 1 << 20)
    yield made
    made.close()


def adopted(directory: Path) -> list[tuple[bytes, list[tuple[int, float, bytes]]]]:
    """Return what an adopter finds, without removing it."""
    return [
        (session, [entry for path in paths for entry in handlers.read_segment(path)[0]])
        for session, paths, _ in handlers.adopt(str(directory))
    ]


@given(bodies=st.lists(st.binary(max_size=100), min_size=1, max_size=10), data=st.data())
def test_a_torn_tail_costs_only_itself(bodies: list[bytes], data: st.DataObject, tmp_path_factory: Any) -> None:
    """Cut or damaged anywhere in its last entry, a segment still gives every entry before it."""
    spool = Spool(str(tmp_path_factory.mktemp("spool")), SESSION, 1 << 20)
    places = [spool.append(number, 1.5, body) for number, body in enumerate(bodies, 1)]
    path, last = places[-1]
    spool.close()
    whole = data.draw(st.integers(last, Path(path).stat().st_size - 1))
    with Path(path).open("r+b") as file:
        if data.draw(st.booleans()):
            file.truncate(whole)
        else:
            file.seek(whole)
            (octet,) = file.read(1)
            file.seek(whole)
            file.write(bytes([octet ^ 0x40]))
    entries, _, damaged = handlers.read_segment(path)
    assert entries == [(number, 1.5, body) for number, body in enumerate(bodies[:-1], 1)]
    assert (not damaged) == (Path(path).stat().st_size == last)


def test_only_what_a_dead_process_left_is_adopted_and_by_one(spool: Spool, tmp_path: Path) -> None:
    """A live spool is locked, and so is one that somebody is sending."""
    spool.append(1, 1.0, b"one")
    spool.append(2, 2.0, b"two")
    assert adopted(tmp_path) == []
    spool.close()
    first = handlers.adopt(str(tmp_path))
    session, paths, done = next(first)
    assert session == SESSION
    assert adopted(tmp_path) == []
    done()
    assert not Path(paths[0]).exists()
    first.close()
    assert list(tmp_path.iterdir()) == []


def test_an_adopter_that_gives_up_leaves_it_to_the_next(spool: Spool, tmp_path: Path) -> None:
    """Nothing is removed before everything is acknowledged."""
    spool.append(1, 1.0, b"one")
    spool.close()
    assert adopted(tmp_path) == adopted(tmp_path) == [(SESSION, [(1, 1.0, b"one")])]


def test_a_full_spool_says_so_and_takes_more_once_it_is_emptied(spool: Spool) -> None:
    """The limit counts bytes on disk."""
    spool.max_bytes = 200
    places = [spool.append(number, 1.0, b"x" * 50) for number in range(1, 5)]
    assert [place is None for place in places] == [False, False, True, True]
    spool.remove()
    assert spool.append(5, 1.0, b"x" * 50) is not None


# Overflow: nobody listens at the address


@pytest.fixture
def nowhere() -> Iterator[int]:
    """Give a port that is bound and refuses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize("overflow", ["drop_old", "drop_new", "block"])
def test_memory_stays_within_its_limit(overflow: str, nowhere: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the policy, and what is dropped is counted."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = SocketHandler("127.0.0.1", nowhere, overflow=overflow, limit_bytes=20_000, block_timeout=0.01)
    for number in range(200):
        handler.handle(record("number %d", number))
        assert handler.counters()["held_bytes"] <= 20_000 + 2 * 160
    counters = handler.counters()
    assert counters["dropped"] > 0
    assert counters["held"] + counters["dropped"] == counters["emitted"] == 200
    kept = [pickle.loads(item[1])["msg"] for item in handler._unsent if isinstance(item[1], bytes)]
    numbers = range(200 - len(kept), 200) if overflow == "drop_old" else range(len(kept))
    assert kept == [f"number {number}" for number in numbers]
    handler.close_timeout = 0.0
    handler.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"overflow": "forget"},
        {"overflow": "spool"},
        {"key": "short", "key_id": "a"},
        {"key": "x" * 16},
        {"key_id": "a"},
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    """The constructor alone raises."""
    with pytest.raises(ValueError, match=r"overflow|key"):
        SocketHandler("127.0.0.1", 1, **wrong)
