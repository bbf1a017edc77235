"""No password is left in what is shown, and everything else is, where that is certain."""

from __future__ import annotations

import pytest

from prefork_logd.config.redacting import HIDDEN, is_clear, redacted_dsn, redacted_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://h:4222", "nats://h:4222"),
        ("nats://user@h:4222", "nats://user@h:4222"),
        ("nats://user:secret@h:4222", "nats://user:***@h:4222"),
        ("nats://user:se@cret@h", "nats://user:***@h"),
        ("tls://h?password=secret&x=1", "tls://h?password=***&x=1"),
        ("tls://h?x=1&sslpassword=secret", "tls://h?x=1&sslpassword=***"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    """Also a password with an @ in it, and one among the parameters."""
    assert redacted_url(url) == shown


@pytest.mark.parametrize("dsn", ["host=h password=secret", "postgresql://u:secret@h/db"])
def test_a_connection_string(dsn: str) -> None:
    """As key = value pairs, with the host in clear."""
    shown = redacted_dsn(dsn)
    assert is_clear(dsn)
    assert "secret" not in shown
    assert "host=h" in shown
    assert f"password={HIDDEN}" in shown


@pytest.mark.parametrize("dsn", ["hots=h passwrod=secret", "postgresql://u:se%ret@h", "host=h:secret@x"])
def test_a_connection_string_that_is_odd_is_hidden(dsn: str) -> None:
    """Any part of it may be the password."""
    assert redacted_dsn(dsn) == HIDDEN
    assert not is_clear(dsn)
