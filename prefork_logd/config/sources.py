"""Declares the settings of `[[source]]`: records that come from elsewhere than clients.

Owns their types, defaults, bounds and help. Reads no stream (processes/consumer/consumer.py does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from prefork_logd.config import nats
from prefork_logd.config.values import TimedSettings, durations, is_a_second

if TYPE_CHECKING:
    from collections.abc import Iterator


class NatsSourceSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Records from a stream of NATS JetStream that other collectors publish to (docs/nats.md). Waits for a restart."""

    DURATIONS = durations(takeover=0.0, timeout=10.0)

    type: Annotated[Literal["nats"], Meta(description="Type of the source; there is one.")] = "nats"
    servers: nats.Servers = ("nats://127.0.0.1:4222",)
    stream: nats.Stream = "LOGS"
    group: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_-]{1,32}\Z",
            examples=["collectors"],
            description="Collectors with the same group share the stream's records; each group gets all of them.",
        ),
    ] = "collectors"
    takeover: Annotated[
        str,
        Meta(
            description="Time after which others take over the partitions of a dead collector. Records that it had "
            "stored and not acknowledged are then stored again. Empty: never; its partitions wait until it is back, "
            "and each record is stored once."
        ),
    ] = ""
    timeout: nats.Timeout = "10s"
    user: nats.User = ""
    password_file: nats.PasswordFile = ""
    token_file: nats.TokenFile = ""
    nkey_file: nats.NkeyFile = ""
    credentials_file: nats.CredentialsFile = ""
    tls_ca_file: nats.TlsCaFile = ""
    tls_cert_file: nats.TlsCertFile = ""
    tls_key_file: nats.TlsKeyFile = ""
    tls_hostname: nats.TlsHostname = ""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        yield from nats.server_problems(self)
        for key in ("takeover", "timeout"):
            yield from self.duration_problems(key, is_a_second, 'must be a second or more, such as "10s"')

    def resolved(self, state_dir: str) -> NatsSourceSettings:
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        return msgspec.structs.replace(self, **nats.resolved_files(self, state_dir))

    @property
    def takeover_s(self) -> float:
        """`takeover` in seconds; 0: never."""
        return self.seconds("takeover")

    @property
    def timeout_s(self) -> float:
        """`timeout` in seconds."""
        return self.seconds("timeout")
