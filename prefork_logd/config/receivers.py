"""Declares the settings of `[[receiver]]`: where notices of alerts are sent.

Owns the types of receivers, their defaults, bounds and help. Opens no connection and runs no command.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from prefork_logd.config.values import MAY_HOLD_PASSWORD, TimedSettings, durations, path_in

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RECEIVERS = 32
"""Each receiver has a thread while it has notices."""
RECEIVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
FORMS = Literal["json", "slack", "teams", "discord", "pagerduty", "ntfy"]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_ADDRESS = re.compile(r"[^\s@<>,;\x00-\x1f\x7f]{1,64}@[^\s@<>,;\x00-\x1f\x7f]{1,255}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,255}")
LONGEST_TIMEOUT_S = 60.0

Name = Annotated[str, Meta(description="Name of the receiver, which rules have in `send`; each name once.")]
Timeout = Annotated[str, Meta(description="Longest time of one attempt, from a second to a minute.")]


class ReceiverSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every receiver has. `type` selects the kind."""

    DURATIONS = durations(timeout=None)

    name: Name = ""
    timeout: Timeout = "10s"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        if not RECEIVER_NAME.fullmatch(self.name):
            yield "name", "needs 1 to 64 letters, digits and . _ -, the first a letter or digit"
        yield from self.duration_problems("timeout", _is_timeout, 'must be from a second to a minute, such as "10s"')

    @property
    def type(self) -> str:
        """The name of the type in the configuration."""
        return str(self.__struct_config__.tag)

    @property
    def timeout_s(self) -> float:
        """`timeout` in seconds."""
        return self.seconds("timeout")

    def resolved(self, state_dir: str) -> ReceiverSettings:
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        changed = {
            field.name: path_in(state_dir, getattr(self, field.name))
            for field in msgspec.structs.fields(self)
            if field.name.endswith("_file")
        }
        return msgspec.structs.replace(self, **changed)

    def _secret_problems(self, what: str) -> Iterator[tuple[str, str]]:
        """Yield the problems of a secret that is in a file or in a variable of the environment."""
        variable = getattr(self, f"{what}_env")
        if variable and not _VARIABLE.fullmatch(variable):
            yield f"{what}_env", f"{variable!r:.100} is not the name of a variable of the environment"
        if variable and getattr(self, f"{what}_file"):
            yield f"{what}_env", f"is given besides {what}_file; leave one of them out"


class WebhookSettings(ReceiverSettings, frozen=True, kw_only=True, tag="webhook"):
    """An HTTP address that a notice is posted to."""

    form: Annotated[
        FORMS,
        Meta(
            description='Form of the body: "json" is our own, or that of `template`; the others are those of a service.'
        ),
    ] = "json"
    url: Annotated[
        str,
        Meta(
            description='The address, http or https. Of "pagerduty" empty: its events API. Of "ntfy" that of the '
            "topic.",
            extra=MAY_HOLD_PASSWORD["address"],
        ),
    ] = ""
    url_file: Annotated[
        str, Meta(description="File with the address, relative to state_dir, instead of `url`: it may be a secret.")
    ] = ""
    token_file: Annotated[
        str,
        Meta(
            description='File with a token, relative to state_dir: of "pagerduty" the integration key, of others it is '
            "sent as `Authorization: Bearer TOKEN`. Empty: none."
        ),
    ] = ""
    token_env: Annotated[str, Meta(description="Variable of the environment with the token, instead of a file.")] = ""
    template: Annotated[
        str,
        Meta(
            max_length=65_536,
            description='Of "json": a JSON text as the body; `{title}`, `{value}` and the like in its strings stand '
            "for fields of the notice. Empty: the whole notice.",
        ),
    ] = ""
    allow_private: Annotated[
        bool,
        Meta(description="Whether the receiver may redirect to a private or loopback address."),
    ] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        yield from ReceiverSettings.problems(self)
        yield from self._secret_problems("token")
        if self.url and self.url_file:
            yield "url", "is given besides url_file; leave one of them out"
        if not self.url and not self.url_file and self.form != "pagerduty":
            yield "url", "is missing; write the address that notices are posted to"
        if self.url and (problem := url_problem(self.url)):
            yield "url", problem
        if self.form == "pagerduty" and not self.token_file and not self.token_env:
            yield "token_file", "is missing; PagerDuty needs the integration key of a service"
        if self.template and self.form != "json":
            yield "template", f'has no meaning for form = "{self.form}"; leave it out'
        if self.template:
            try:
                json.loads(self.template)
            except (ValueError, RecursionError) as error:
                yield "template", f"is not JSON: {error}"


class SmtpSettings(ReceiverSettings, frozen=True, kw_only=True, tag="smtp"):
    """A mail server."""

    host: Annotated[str, Meta(description="Name or address of the server.")] = "localhost"
    port: Annotated[
        int, Meta(ge=0, le=65_535, description='Its port; 0: 587 with "starttls", 465 with "tls", 25 with "none".')
    ] = 0
    security: Annotated[
        Literal["starttls", "tls", "none"],
        Meta(description='"starttls": encrypt before the log-in (RFC 3207); "tls": from the start; "none": never.'),
    ] = "starttls"
    user: Annotated[str, Meta(max_length=200, description="Name to log in with; empty: no log-in.")] = ""
    password_file: Annotated[str, Meta(description="File with the password, relative to state_dir.")] = ""
    password_env: Annotated[str, Meta(description="Variable of the environment with it, instead of a file.")] = ""
    from_: Annotated[str, Meta(description="Address of the sender.")] = msgspec.field(name="from", default="")
    to: Annotated[tuple[str, ...], Meta(max_length=50, description="Addresses of those who get the mail.")] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        yield from ReceiverSettings.problems(self)
        yield from self._secret_problems("password")
        if not _HOST.fullmatch(self.host):
            yield "host", "is not the name or address of a server"
        for key, addresses in (("from", [self.from_]), ("to", self.to)):
            for address in addresses:
                if not _ADDRESS.fullmatch(address):
                    yield key, f"{address!r:.100} is not a mail address; write one such as ops@example.org"
        if not self.to:
            yield "to", "is empty; name an address"
        if bool(self.user) != bool(self.password_file or self.password_env):
            yield "user", "needs a password, and a password a user: give both, or neither"
        if self.user and self.security == "none" and self.host not in ("localhost", "127.0.0.1", "::1"):
            yield "security", '"none" would send the password unencrypted; write "starttls" or "tls"'


class CommandSettings(ReceiverSettings, frozen=True, kw_only=True, tag="command"):
    """A command that is run for each notice, by the collector's user and without a shell."""

    command: Annotated[
        tuple[str, ...],
        Meta(
            max_length=100, description="The program's absolute path and its arguments. It reads the notice on stdin."
        ),
    ] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        yield from ReceiverSettings.problems(self)
        if not self.command:
            yield "command", 'is missing; write a list such as ["/usr/local/bin/page-me", "--urgent"]'
        elif not self.command[0].startswith("/"):
            yield "command", f"{self.command[0]!r:.100} is not an absolute path; write one that begins with /"
        if any("\0" in word for word in self.command):
            yield "command", "holds a NUL character, which an argument cannot"


AnyReceiver = WebhookSettings | SmtpSettings | CommandSettings
RECEIVERS: dict[str, type[ReceiverSettings]] = {
    str(kind.__struct_config__.tag): kind for kind in (WebhookSettings, SmtpSettings, CommandSettings)
}
"""Every type of receiver."""


def url_problem(url: str) -> str:
    """Return why an address cannot be posted to; empty if it can."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is not an address: {error}"
    if parts.scheme not in ("http", "https") or not host:
        return "is not an address; write one such as https://hooks.example.org/services/T0/B0"
    if parts.username is not None or parts.password is not None:
        return "holds a password; leave it out, and give a token with token_file"
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        return "holds spaces or characters beyond ASCII; write them percent-encoded"
    return ""


def _is_timeout(seconds: float) -> bool:
    return 1 <= seconds <= LONGEST_TIMEOUT_S


def receivers_from(plain: Any) -> tuple[AnyReceiver, ...]:
    """Return receivers from plain values, the form that msgspec encodes them in. Raises msgspec.ValidationError."""
    return msgspec.convert(plain, tuple[AnyReceiver, ...])
