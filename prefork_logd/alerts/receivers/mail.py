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
import threading
from email.message import EmailMessage
from email.utils import formatdate
from typing import TYPE_CHECKING

from prefork_logd.alerts.receivers.failures import SendError, read_secret, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.alerts.notices import Notice
    from prefork_logd.config.receivers import SmtpSettings

_PORTS = {"starttls": 587, "tls": 465, "none": 25}


def send(settings: SmtpSettings, notice: Notice) -> str:
    """Send a mail; return what the server did. Raises SendError."""
    password = read_secret(settings.password_file, settings.password_env) if settings.user else ""
    port = settings.port or _PORTS[settings.security]
    try:
        with _ending(_connected(settings, port), settings.timeout_s) as server:
            if settings.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if settings.user:
                server.login(settings.user, password)
            refused = server.send_message(_mail(settings, notice), settings.from_, list(settings.to))
    except smtplib.SMTPRecipientsRefused as error:
        raise SendError(f"{settings.host}: refuses every recipient: {_first(error)}", is_refusal=True) from None
    except smtplib.SMTPResponseException as error:
        told = f"{settings.host}: {error.smtp_code} {_text(error.smtp_error)}"
        raise SendError(
            told, is_refusal=isinstance(error, (smtplib.SMTPDataError, smtplib.SMTPSenderRefused))
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise SendError(f"{settings.host}: its certificate is not trusted ({error.verify_message})") from None
    except (OSError, smtplib.SMTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SendError(f"{settings.host}: {shown(why.encode())}") from None
    if refused:
        return shown(f"sent, but refused for {', '.join(refused)}".encode())
    return f"sent to {len(settings.to)} addresses" if len(settings.to) > 1 else "sent"


def _connected(settings: SmtpSettings, port: int) -> smtplib.SMTP:
    if settings.security == "tls":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(settings.host, port, timeout=settings.timeout_s, context=context)
    return smtplib.SMTP(settings.host, port, timeout=settings.timeout_s)


@contextlib.contextmanager
def _ending(server: smtplib.SMTP, timeout_s: float) -> Iterator[smtplib.SMTP]:
    """Close the connection at the end, at the latest after a time: each reply alone may take that long."""

    def end() -> None:
        with contextlib.suppress(OSError, AttributeError):
            server.sock.shutdown(2)  # type: ignore[union-attr]  # None after a close, which is suppressed

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield server
        # The mail is taken: an error of QUIT changes nothing.
        with contextlib.suppress(OSError, smtplib.SMTPException):
            server.quit()
    finally:
        timer.cancel()
        server.close()


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
