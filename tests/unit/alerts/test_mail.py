"""Notices by mail: a real SMTP server, with and without TLS and log-in, that refuses, and that is slow."""

from __future__ import annotations

import contextlib
import email
import email.policy
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.alerts import notices
from prefork_logd.alerts.receivers import mail
from prefork_logd.alerts.receivers.failures import SendError
from prefork_logd.config.alerts import AlertSettings
from prefork_logd.config.receivers import SmtpSettings
from tests.support.certificates import make_certificate

controllers = pytest.importorskip("aiosmtpd.controller", reason="NO SMTP SERVER: aiosmtpd is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"


class Mailbox:
    """Takes mails; `answers` has what is said to the next DATA or RCPT instead."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.answers: dict[str, str] = {}
        self.logins: list[tuple[bytes, bytes]] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if "DATA" in self.answers:
            return self.answers["DATA"]
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        """Take one name and password."""
        from aiosmtpd.smtp import AuthResult

        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"s3cret", handled=False)


@contextlib.contextmanager
def serving(box: Mailbox, **options: Any) -> Iterator[int]:
    """Give the port of a server."""
    controller = controllers.Controller(box, hostname=HOST, port=0, ready_timeout=10, **options)
    # aiosmtpd looks whether it serves by connecting to the port that was asked for.
    controller._trigger_server = lambda: socket.create_connection(_address(controller)).close()
    controller.start()
    try:
        yield _address(controller)[1]
    finally:
        controller.stop()


def _address(controller: Any) -> tuple[str, int]:
    host, port = controller.server.sockets[0].getsockname()
    return host, port


def settings(port: int, **given: Any) -> SmtpSettings:
    base = {"name": "mail", "host": HOST, "port": port, "security": "none", "from_": "logs@example.org",
            "to": ("ops@example.org",), "timeout": "2s"}  # fmt: skip
    return SmtpSettings(**{**base, **given})


def notice(kind: str = "firing", title: str = "3 records in 5m (more than 2)") -> notices.Notice:
    rule = AlertSettings(name="shop errors")
    return notices.make(rule, "0123456789abcdef", kind, title=title, value=3, query="level>=error", started=1e9)


def test_a_mail() -> None:
    """Its parts; hostile text in the title changes no header."""
    box = Mailbox()
    with serving(box) as port:
        assert mail.send(settings(port), notice(title="naïve\r\nBcc: evil@example.org \u202e" + "x" * 500)) == "sent"
        assert (
            mail.send(settings(port, to=("a@example.org", "b@example.org")), notice("resolved"))
            == "sent to 2 addresses"
        )
    first, second = box.mails
    assert first["Subject"].startswith("[Firing] shop errors: naïve")
    assert len(first["Subject"]) <= 200
    assert (first["From"], first["To"], first["Bcc"]) == ("logs@example.org", "ops@example.org", None)
    assert first["Message-ID"] == "<0123456789abcdef-firing@example.org>"
    assert first["References"] == second["References"]
    assert second["Subject"] == "[Resolved] shop errors: 3 records in 5m (more than 2)"
    assert "query level>=error" in second.get_content()


@pytest.mark.slow
def test_tls_and_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password goes over TLS, from a file or a variable; a certificate has to be trusted."""
    path, key = make_certificate(tmp_path, "mail")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    box = Mailbox()
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    options = {
        "tls_context": context,
        "authenticator": box.authenticate,
        "auth_required": True,
        "require_starttls": True,
    }
    with serving(box, **options) as port:
        login = {"security": "starttls", "user": "me", "password_file": str(secret)}
        with pytest.raises(SendError, match="its certificate is not trusted"):
            mail.send(settings(port, **login), notice())
        monkeypatch.setenv("SSL_CERT_FILE", path)
        assert mail.send(settings(port, **login), notice()) == "sent"
        monkeypatch.setenv("MAIL_PASSWORD", "wrong")
        with pytest.raises(SendError, match="535") as caught:
            mail.send(settings(port, **{**login, "password_file": "", "password_env": "MAIL_PASSWORD"}), notice())
        assert "wrong" not in str(caught.value)
        with pytest.raises(SendError, match="530"):
            mail.send(settings(port, user=""), notice())
        with pytest.raises(SendError, match="no secret in one line as NO_SUCH"):
            mail.send(settings(port, **{**login, "password_file": "", "password_env": "NO_SUCH"}), notice())
    assert box.logins[0] == (b"me", b"s3cret")
    assert set(box.logins[1:]) == {(b"me", b"wrong")}, "by each mechanism of the server"
    with serving(Mailbox(), ssl_context=context, server_hostname="localhost") as port:
        assert mail.send(settings(port, security="tls"), notice()) == "sent"


@pytest.mark.parametrize(
    ("answers", "said", "is_refusal"),
    [
        ({"DATA": "451 try later"}, "451 try later", True),
        ({"DATA": "554 no spam\x1b[0m"}, "554 no spam", True),
        ({"ops@example.org": "550 unknown"}, "refuses every recipient: 550 unknown", True),
    ],
)
def test_refusals(answers: dict[str, str], said: str, is_refusal: bool) -> None:
    """With what the server says."""
    box = Mailbox()
    box.answers = answers
    with serving(box) as port, pytest.raises(SendError, match=said) as caught:
        mail.send(settings(port), notice())
    assert caught.value.is_refusal == is_refusal
    assert "\x1b" not in str(caught.value)


def test_one_bad_address_does_not_keep_the_mail_from_others() -> None:
    """The answer names it."""
    box = Mailbox()
    box.answers = {"a@example.org": "550 unknown"}
    with serving(box) as port:
        found = mail.send(settings(port, to=("a@example.org", "b@example.org")), notice())
    assert found == "sent, but refused for a@example.org"
    assert len(box.mails) == 1


def test_servers_that_are_none() -> None:
    """Nobody listens; somebody listens and says nothing for ever."""
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(SendError, match=HOST):
            mail.send(settings(port, timeout="1s"), notice())
        assert time.monotonic() - began < 3
    with pytest.raises(SendError, match="refused"):
        mail.send(settings(port), notice())


@pytest.mark.parametrize(
    ("piece", "pause_s", "said"),
    [
        (b"220-" + b"x" * 4_000 + b"\r\n", 0.0, f"more than {mail.MOST_REPLIES_BYTES:,} bytes"),
        (b"220-busy\r\n", 0.2, "no answer in time"),
        (b"2", 0.2, "no answer in time"),
    ],
    ids=["a reply without an end", "a line now and then", "a byte now and then"],
)
@pytest.mark.parametrize("security", ["none", "tls"])
def test_a_server_that_never_ends_its_greeting(piece: bytes, pause_s: float, said: str, security: str) -> None:
    """Costs the time and the memory of one attempt, and no more; also in place of a handshake."""
    ended = threading.Event()

    def greet() -> None:
        with contextlib.suppress(OSError), listening.accept()[0] as client:
            while not ended.wait(pause_s):
                client.sendall(piece)

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=greet)
        thread.start()
        began_s = time.monotonic()
        with pytest.raises(SendError, match=said if security == "none" else HOST):
            mail.send(settings(listening.getsockname()[1], timeout="1s", security=security), notice())
        took_s = time.monotonic() - began_s
        ended.set()
        thread.join()
    assert took_s < 5
