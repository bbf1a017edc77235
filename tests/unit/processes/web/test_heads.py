"""Heads of requests have bounds."""

from __future__ import annotations

import h11
import pytest

from prefork_logd.processes.web.heads import MOST_HEAD_LINES, BoundedHeads

START = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("line", [b"a: b\r\n", b"a:\n", b"\tfolded\r\n"])
@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_a_head_of_too_many_lines_is_refused_before_it_is_parsed(line: bytes, end: bytes) -> None:
    """In any form of a line, and whether its end has come or not."""
    connection = BoundedHeads()
    connection.receive_data(START + b"x: y\r\n" + line * MOST_HEAD_LINES + end)
    with pytest.raises(h11.RemoteProtocolError, match="too many header lines"):
        connection.next_event()


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
