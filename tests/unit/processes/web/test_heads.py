"""Heads of requests have bounds."""

from __future__ import annotations

import h11
import pytest

from prefork_logd.processes.web.heads import MOST_CHUNKS, MOST_HEAD_BYTES, MOST_HEAD_LINES, BoundedHeads

START = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("line", [b"a: b\r\n", b"a:\n", b"\tfolded\r\n"])
@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_a_head_of_too_many_lines_is_refused_before_it_is_parsed(line: bytes, end: bytes) -> None:
    """In any form of a line, and whether its end has come or not."""
    connection = BoundedHeads()
    connection.receive_data(START + b"x: y\r\n" + line * MOST_HEAD_LINES + end)
    with pytest.raises(h11.RemoteProtocolError, match="too many header lines"):
        connection.next_event()


@pytest.mark.parametrize("more", [b"", b"a: b\r\n" * MOST_HEAD_LINES])
def test_a_head_that_is_too_long_is_refused_although_its_end_has_come(more: bytes) -> None:
    connection = BoundedHeads()
    connection.receive_data(START + b"x: " + b"y" * MOST_HEAD_BYTES + b"\r\n" + more + b"\r\n")
    with pytest.raises(h11.RemoteProtocolError, match="too long"):
        connection.next_event()


@pytest.mark.parametrize("body", [b"", b"2\r\nab\r\n"])
@pytest.mark.parametrize("last", [b"0\r\n", b"000;a=b\r\n"])
@pytest.mark.parametrize("is_split", [False, True])
def test_trailers_have_the_bounds_of_a_head(body: bytes, last: bytes, is_split: bool) -> None:
    """Whether they come with the body or later; those at the bound are read, and requests behind them do not count."""

    def end(trailers: bytes) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        connection = BoundedHeads()
        connection.receive_data(START + b"Transfer-Encoding: chunked\r\n\r\n" + body + last)
        if not is_split:
            connection.receive_data(trailers)
        while isinstance(event := connection.next_event(), h11.Request | h11.Data):
            pass
        if is_split:
            assert event is h11.NEED_DATA
            connection.receive_data(trailers)
            event = connection.next_event()
        return event

    for lines in (0, MOST_HEAD_LINES - 1):
        assert isinstance(end(b"a: b\r\n" * lines + b"\r\n" + START * 100), h11.EndOfMessage)
    for trailers in (b"a: b\r\n" * (MOST_HEAD_LINES + 1), b"a: " + b"b" * MOST_HEAD_BYTES + b"\r\n"):
        for blank in (b"", b"\r\n"):
            with pytest.raises(h11.RemoteProtocolError, match=r"too many header lines|too long"):
                end(trailers + blank)


def test_the_body_of_a_request_without_chunks_has_no_trailers() -> None:
    connection = BoundedHeads()
    body = b"0\r\n" * 1000
    connection.receive_data(START + b"Content-Length: 3000\r\n\r\n" + body)
    assert isinstance(connection.next_event(), h11.Request)
    data = connection.next_event()
    assert isinstance(data, h11.Data)
    assert bytes(data.data) == body


def test_a_head_at_the_bound_is_read() -> None:
    """The lines of a body, and of further requests, do not count."""
    connection = BoundedHeads()
    body = b"\n" * 1000
    head = START + b"a: b\r\n" * (MOST_HEAD_LINES - 4) + b"Content-Length: 1000\r\n\r\n"
    connection.receive_data(head + body + START * 40)
    assert isinstance(connection.next_event(), h11.Request)
    data = connection.next_event()
    assert isinstance(data, h11.Data)
    assert bytes(data.data) == body


def chunked(connection: BoundedHeads, chunks: int) -> bytes:
    """Let a connection read a body of chunks of one byte; return the body."""
    connection.receive_data(START + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * chunks + b"0\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Request)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    return body


def test_a_body_of_too_many_chunks_is_refused() -> None:
    """Each costs as much as a request, however small it is."""
    with pytest.raises(h11.RemoteProtocolError, match="too many chunks"):
        chunked(BoundedHeads(), MOST_CHUNKS + 1)


def test_the_chunks_of_each_body_count_by_themselves() -> None:
    connection = BoundedHeads()
    for _ in range(2):
        assert chunked(connection, MOST_CHUNKS) == b"a" * MOST_CHUNKS
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        connection.start_next_cycle()
