"""What can be set of NATS: how to reach its servers, for the store and for the source alike.

Owns the keys that both have. What is done with them is stores/nats/connection.py's.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

from msgspec import Meta

from prefork_logd.config.values import MAY_HOLD_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

Servers = Annotated[
    tuple[str, ...],
    Meta(
        min_length=1,
        description='URLs of the servers, such as "nats://logs1:4222" or "tls://logs1:4222"; several of one cluster, '
        "so that one of them may be down.",
        extra=MAY_HOLD_PASSWORD["url"],
    ),
]
Stream = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The stream's name; it is made if there is none.")
]
Subject = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        description="What the stream's subjects begin with (docs/nats.md).",
    ),
]
Partitions = Annotated[
    int,
    Meta(
        ge=1,
        le=999,
        description="Into how many parts the stream's subjects are divided, so that collectors that read it can share "
        "the work; the same for everyone who uses the stream, and for its whole life.",
    ),
]
User = Annotated[str, Meta(description="User name, if the servers want one.")]
PasswordFile = Annotated[
    str, Meta(description="File with the user's password; nobody but its owner may read it. Relative to state_dir.")
]
TokenFile = Annotated[str, Meta(description="The same with a token.")]
NkeyFile = Annotated[str, Meta(description="The same with an nkey's seed.")]
CredentialsFile = Annotated[str, Meta(description="The same with credentials (a .creds file: JWT and seed).")]
TlsCaFile = Annotated[
    str, Meta(description="Certificates that the servers' are to be signed by; empty: those that the system trusts.")
]
TlsCertFile = Annotated[str, Meta(description="Our certificate, for servers that ask for one.")]
TlsKeyFile = Annotated[str, Meta(description="Its key; nobody but its owner may read it.")]
TlsHostname = Annotated[str, Meta(description="The name in the servers' certificates; empty: the URL's.")]
Timeout = Annotated[str, Meta(description="How long to wait for a server's answer.")]

SECRET_FILES = ("password_file", "token_file", "nkey_file", "credentials_file", "tls_key_file")
FILES = (*SECRET_FILES, "tls_ca_file", "tls_cert_file")
_URL = re.compile(r"(nats|tls)://[^/\s]+/?")


class NatsServers(Protocol):
    """The keys of both."""

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
    """Yield (key, sentence) for every key of reaching servers that cannot be used."""
    if importlib.util.find_spec("nats") is None:
        yield "type", 'nats needs a package that is not installed: pip install "prefork-logd[nats]"'
    for url in settings.servers:
        if not _URL.fullmatch(url):
            yield "servers", f'{url!r} is no URL of a server; write "nats://host:4222" or "tls://host:4222"'
        elif "@" in url:
            yield "servers", "holds a password or token, which `check` would show; write them into files"
    if bool(settings.tls_cert_file) != bool(settings.tls_key_file):
        yield "tls_cert_file", "needs tls_key_file, and the other way round"
    if bool(settings.user) != bool(settings.password_file):
        yield "user", "needs password_file, and the other way round"
    ways = [key for key in ("user", "token_file", "nkey_file", "credentials_file") if getattr(settings, key)]
    if len(ways) > 1:
        yield ways[1], f"is one way too many to say who we are, beside {ways[0]}; choose one"


def file_problems(settings: NatsServers) -> Iterator[tuple[str, str]]:
    """Yield (key, sentence) for every file that cannot be used; paths are to be absolute."""
    for key in FILES:
        name = getattr(settings, key)
        if not name:
            continue
        try:
            mode = Path(name).stat().st_mode
        except OSError as error:
            yield key, f"{name}: cannot read it: {error.strerror}"
            continue
        if key in SECRET_FILES and mode & 0o077:
            yield key, f"{name} can be read by others; do: chmod 600 {name}"


def resolved_files(settings: NatsServers, state_dir: str) -> dict[str, str]:
    """Return every file that is named, its path made absolute; relative ones are in `state_dir`."""
    return {
        key: os.path.normpath(os.path.join(state_dir, getattr(settings, key)))  # noqa: PTH118 - keeps symlinks
        for key in FILES
        if getattr(settings, key)
    }
