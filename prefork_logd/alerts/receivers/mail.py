"""Sends a notice as a mail, by SMTP (RFC 5321).

Owns the form of the mail. Does not know incidents. The Message-ID is that of the notice, so that a mail that is sent
again after a lost answer can be told from another one.
"""

from __future__ import annotations

import contextlib
import email.policy
import re
import smtplib
import ssl
import time
from email.message import EmailMessage
from email.utils import formatdate
from typing import TYPE_CHECKING

from prefork_logd.alerts.receivers.connecting import connect, own_name
from prefork_logd.alerts.receivers.ending import ending
from prefork_logd.alerts.receivers.failures import SendError, read_secret, shown

if TYPE_CHECKING:
    import io
    import socket
    from collections.abc import Iterator

    from prefork_logd.alerts.notices import Notice
    from prefork_logd.config.receivers import SmtpSettings

MOST_REPLIES_BYTES = 65_536
"""Bytes that a server may say for one mail."""
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


def send(settings: SmtpSettings, notice: Notice) -> str:
    """Send a mail; return what the server did. Raises SendError."""
    password = read_secret(settings.password_file, settings.password_env) if settings.user else ""
    ends_s = time.monotonic() + settings.timeout_s
    try:
        with _connected(settings, ends_s) as server:
            if settings.user:
                server.login(settings.user, password)
            refused = server.send_message(_mail(settings, notice), settings.from_, list(settings.to))
    except smtplib.SMTPRecipientsRefused as error:
        raise SendError(f"{settings.host}: refuses every recipient: {_first(error)}", is_refusal=True) from None
    except smtplib.SMTPResponseException as error:
        if time.monotonic() >= ends_s:
            raise SendError(f"{settings.host}: no answer in time") from None
        answer = f"{settings.host}: {error.smtp_code} {_text(error.smtp_error)}"
        raise SendError(
            answer, is_refusal=isinstance(error, (smtplib.SMTPDataError, smtplib.SMTPSenderRefused))
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise SendError(f"{settings.host}: its certificate is not trusted ({error.verify_message})") from None
    except (OSError, smtplib.SMTPException, ValueError) as error:
        if time.monotonic() >= ends_s:
            raise SendError(f"{settings.host}: no answer in time") from None
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SendError(f"{settings.host}: {shown(why.encode())}") from None
    if refused:
        return shown(f"sent, but refused for {', '.join(refused)}".encode())
    return f"sent to {len(settings.to)} addresses" if len(settings.to) > 1 else "sent"


@contextlib.contextmanager
def _connected(settings: SmtpSettings, ends_s: float) -> Iterator[smtplib.SMTP]:
    """Give a connection that is encrypted as the settings say; it ends at a time of time.monotonic."""
    context = ssl.create_default_context()
    with contextlib.ExitStack() as ends:
        server = _Server(settings, context if settings.security == "tls" else None, ends, ends_s)
        ends.callback(server.close)
        if settings.security == "starttls":
            server.starttls(context=context)
        yield server
        # The mail is taken: an error of QUIT changes nothing.
        with contextlib.suppress(OSError, smtplib.SMTPException, SendError):
            server.quit()


class _Server(smtplib.SMTP):
    """A connection whose time and replies are bounded: smtplib reads a reply of any number of lines into memory."""

    def __init__(
        self, settings: SmtpSettings, context: ssl.SSLContext | None, ends: contextlib.ExitStack, ends_s: float
    ) -> None:
        self._context, self._ends, self._ends_s = context, ends, ends_s
        self._own_name = ""
        port = settings.port or _PORTS[settings.security]
        # Without a name smtplib looks one up, for as long as name servers let it wait.
        super().__init__(settings.host, port, "localhost", settings.timeout_s)
        self.local_hostname = self._own_name

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002 - the base class's
        """Connect; smtplib.SMTP_SSL overrides this method of smtplib.SMTP, too."""
        plain = self._ends.enter_context(contextlib.closing(connect(host, port, self._ends_s)))
        self._ends.enter_context(ending(plain, self._ends_s))
        self._own_name = own_name(plain, self._ends_s)
        if self._context is None:
            return plain
        return self._ends.enter_context(contextlib.closing(self._context.wrap_socket(plain, server_hostname=host)))

    def getreply(self) -> tuple[int, bytes]:
        """Read a reply. Raises SendError if the server says too much."""
        if self.file is None:
            self.file = _Replies(self.sock.makefile("rb"))  # type: ignore[union-attr]  # smtplib does the same
        return super().getreply()


class _Replies:
    """The lines that a server sends, up to a bound."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._left = MOST_REPLIES_BYTES

    def readline(self, size: int) -> bytes:
        """Return a line of at most `size` bytes. Raises OSError, SendError."""
        line = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise SendError(f"the mail server answers more than {MOST_REPLIES_BYTES:,} bytes")
        return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _mail(settings: SmtpSettings, notice: Notice) -> EmailMessage:
    mail = EmailMessage(email.policy.SMTP)
    mail["Subject"] = _header(f"{notice.subject}: {notice.title}")
    mail["From"] = settings.from_
    mail["To"] = ", ".join(settings.to)
    mail["Date"] = formatdate()
    domain = settings.from_.rpartition("@")[2]
    mail["Message-ID"] = f"<{notice.id}@{domain}>"
    # One thread for an incident (RFC 5322, 3.6.4).
    mail["References"] = f"<{notice.incident}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation replies
    mail.set_content(f"{notice.text}\nquery {notice.query}\nid {notice.id}\n")
    return mail


def _header(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]", " ", text)[:200]


def _first(error: smtplib.SMTPRecipientsRefused) -> str:
    code, text = next(iter(error.recipients.values()))
    return f"{code} {_text(text)}"


def _text(data: bytes | str) -> str:
    return shown(data if isinstance(data, bytes) else data.encode())
