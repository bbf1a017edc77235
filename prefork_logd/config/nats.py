"""Declares the settings that reach NATS servers, which the store and the source share.

Owns the shared keys. Connects to no server (stores/nats/connection.py does).
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

from msgspec import Meta

from prefork_logd.config.values import MAY_HOLD_PASSWORD, path_in
from prefork_logd.errors import describe_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

Servers = Annotated[
    tuple[str, ...],
    Meta(
        min_length=1,
        description='URLs of the servers, such as "nats://logs1:4222" or "tls://logs1:4222"; several of one cluster '
        "let one of them fail.",
        extra=MAY_HOLD_PASSWORD["url"],
    ),
]
Stream = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]{1,64}\Z",
        examples=["LOGS"],
        description="The stream's name; it is created if it is missing.",
    ),
]
Subject = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z",
        examples=["logs.shop"],
        description="Prefix of the stream's subjects (docs/nats.md).",
    ),
]
Partitions = Annotated[
    int,
    Meta(
        ge=1,
        le=999,
        description="Number of partitions of the stream's subjects, which the collectors that read it share; "
        "the same for every user of the stream, and for its whole life.",
    ),
]
User = Annotated[str, Meta(description="User name, if the servers require one.")]
PasswordFile = Annotated[
    str, Meta(description="File with the user's password, readable only by its owner. Relative to state_dir.")
]
TokenFile = Annotated[str, Meta(description="The same for a token.")]
NkeyFile = Annotated[str, Meta(description="The same for an nkey's seed.")]
CredentialsFile = Annotated[str, Meta(description="The same for credentials (a .creds file: JWT and seed).")]
TlsCaFile = Annotated[
    str, Meta(description="File of the CA certificates that sign the servers'; empty: those that the system trusts.")
]
TlsCertFile = Annotated[str, Meta(description="File of the collector's certificate, for servers that require one.")]
TlsKeyFile = Annotated[str, Meta(description="File of its key, readable only by its owner.")]
TlsHostname = Annotated[str, Meta(description="Host name in the servers' certificates; empty: the URL's.")]
Timeout = Annotated[str, Meta(description="How long to wait for a server's answer.")]

SECRET_FILES = ("password_file", "token_file", "nkey_file", "credentials_file", "tls_key_file")
FILES = (*SECRET_FILES, "tls_ca_file", "tls_cert_file")
_URL = re.compile(r"(nats|tls)://[^/\s]+/?")


class NatsServers(Protocol):
    """The keys that the store and the source have in common."""

    @property
    def servers(self) -> tuple[str, ...]: ...  # noqa: D102 - described above, here and below
    @property
    def user(self) -> str: ...  # noqa: D102
    @property
    def password_file(self) -> str: ...  # noqa: D102
    @property
    def token_file(self) -> str: ...  # noqa: D102
    @property
    def nkey_file(self) -> str: ...  # noqa: D102
    @property
    def credentials_file(self) -> str: ...  # noqa: D102
    @property
    def tls_ca_file(self) -> str: ...  # noqa: D102
    @property
    def tls_cert_file(self) -> str: ...  # noqa: D102
    @property
    def tls_key_file(self) -> str: ...  # noqa: D102
    @property
    def tls_hostname(self) -> str: ...  # noqa: D102


def server_problems(settings: NatsServers) -> Iterator[tuple[str, str]]:
    """Yield (key, sentence) for every shared key that cannot be used."""
    if importlib.util.find_spec("nats") is None:
        yield "type", 'nats needs a package that is not installed: pip install "prefork-logd[nats]"'
    for url in settings.servers:
        if not _URL.fullmatch(url):
            yield "servers", f'{url!r} is not the URL of a server; write "nats://host:4222" or "tls://host:4222"'
        elif "@" in url:
            yield "servers", "holds a password or token, which `check` would show; write them into files"
    if bool(settings.tls_cert_file) != bool(settings.tls_key_file):
        yield "tls_cert_file", "and tls_key_file need each other; set both or neither"
    if bool(settings.user) != bool(settings.password_file):
        yield "user", "and password_file need each other; set both or neither"
    ways = [key for key in ("user", "token_file", "nkey_file", "credentials_file") if getattr(settings, key)]
    if len(ways) > 1:
        yield ways[1], f"and {ways[0]} are two ways to authenticate; choose one"


def file_problems(settings: NatsServers) -> Iterator[tuple[str, str]]:
    """Yield (key, sentence) for every file that cannot be used; paths must be absolute."""
    for key in FILES:
        name = getattr(settings, key)
        if not name:
            continue
        try:
            mode = Path(name).stat().st_mode
        except OSError as error:
            yield key, f"{name}: cannot read it: {describe_refusal(error)}"
            continue
        if key in SECRET_FILES and mode & 0o077:
            yield key, f"{name} can be read by others; do: chmod 600 {name}; it has to belong to the collector's user"


def resolved_files(settings: NatsServers, state_dir: str) -> dict[str, str]:
    """Return the path of every file, made absolute; relative ones are in `state_dir`."""
    return {key: path_in(state_dir, getattr(settings, key)) for key in FILES}
