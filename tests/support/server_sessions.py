"""Makes the collector's side of sessions, and gives it bytes in pieces."""

from __future__ import annotations

from collections.abc import Iterable

from prefork_logd.inputs.base import Records
from prefork_logd.inputs.session.messages import Event
from prefork_logd.inputs.session.server import ServerSession, ViolationError
from tests.support import wire

MAX_RECORD = 300
MAX_BATCH = 2000
NONCE = b"N" * 32

Outcome = tuple[list[Event], str, bytes]
"""Events, records joined, and the reason and reply of the violation that ended the session."""


def opened_session(
    committed: int = 0, first: int = 1, max_record: int = MAX_RECORD, max_batch: int = MAX_BATCH
) -> ServerSession:
    """Return a session whose client has said HELLO and was welcomed."""
    server = ServerSession(max_record, max_batch)
    server.receive(wire.hello(first))
    server.welcome(committed)
    return server


def outcome(server: ServerSession, pieces: Iterable[bytes]) -> Outcome:
    """Return the outcome of a session whose client sends these pieces."""
    events: list[Event] = []
    for piece in pieces:
        try:
            new, reason, reply = server.receive(piece), "", b""
        except ViolationError as error:
            new, reason, reply = error.events, error.reason, error.reply
        for event in new:
            if isinstance(event, Records) and events and isinstance(last := events[-1], Records):
                assert event.first == last.first + len(last.bodies)
                last.runs.extend(event.runs)
            else:
                events.append(event)
        if reason:
            assert server.receive(b"more") == []
            return events, reason, reply
    return events, "", b""
