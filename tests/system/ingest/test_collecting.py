"""Records go in at a socket and come out as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.harness import frames, messages

if TYPE_CHECKING:
    from tests.support.harness import Collector


def test_records_of_one_connection_are_stored_in_order(collector: Collector) -> None:
    """What one client sends is stored completely, in its order, with where it came from."""
    sent = [f"message {number}" for number in range(500)]
    with collector.connect() as sock:
        sock.sendall(frames(sent, order=7))
        peer = "{}:{}".format(*sock.getsockname())
        stored = collector.wait_for_records(500)
    assert messages(stored) == sent
    assert {record["peer"] for record in stored} == {peer}
    assert stored[0]["extra"] == {"order": 7}
    assert collector.stop() == 0
