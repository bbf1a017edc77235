"""The client's half of a session, against the server's half, in any pieces."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.handlers import ClientProtocol, ProtocolError
from prefork_logd.inputs.base import Bye, Gap, Records
from prefork_logd.inputs.session.messages import Capability, ErrorCode, Hello
from prefork_logd.inputs.session.server import ServerSession

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


@pytest.mark.slow
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


def test_rejected_records_are_heard_of() -> None:
    """With their number; not of records that were not sent."""
    client, server = opened()
    client.batch(1, [b"a", b"b", b"c"])
    assert client.feed(server.rejected(3, 2)) == [("rejected", 3, 2)]
    with pytest.raises(ProtocolError, match="REJECTED of 4"):
        client.feed(server.rejected(4, 1))


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
