"""The texts of errors: one cause has one text, whichever server was tried."""

from __future__ import annotations

import errno

from prefork_logd.stores.nats.connection import describe


def test_a_server_that_is_away_has_one_text() -> None:
    """A text with the address that was tried last would be logged again with each try of several servers."""
    call = "Connect call failed ('{}', 4222)"
    both = f"Multiple exceptions: [Errno 111] {call.format('::1')}, [Errno 111] {call.format('127.0.0.1')}"
    errors = [OSError(errno.ECONNREFUSED, call.format(address)) for address in ("10.0.0.1", "10.0.0.2")]
    assert {describe(error) for error in [*errors, OSError(both)]} == {"Connection refused"}
    assert describe(OSError("Connect call failed")) == "Connect call failed"
    assert describe(OSError(errno.EPERM, "no")) == "no"
