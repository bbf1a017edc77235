"""Declares the settings of a store of type "nats".

Owns their types, defaults, bounds and help. Connects to no server.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from prefork_logd.config import nats
from prefork_logd.config.stores.base import StoreSettings, _retain_problems
from prefork_logd.config.values import MOST_BYTES, durations, is_positive, path_in

if TYPE_CHECKING:
    from collections.abc import Iterator


class NatsStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="nats"):
    """Records in a stream of NATS JetStream (docs/nats.md)."""

    DURATIONS = durations(StoreSettings.DURATIONS, retain=0.0, duplicate_window=None, sync_wait=None, timeout=None)

    servers: nats.Servers = ("nats://127.0.0.1:4222",)
    stream: nats.Stream = "LOGS"
    subject: nats.Subject = "logs"
    partitions: nats.Partitions = 16
    format: Annotated[
        Literal["batch", "json"],
        Meta(
            description='"batch": many records a message, compressed, for collectors that read the stream with '
            '[[source]]; "json": one record a message, under its logger\'s name, for any client of NATS.'
        ),
    ] = "batch"
    compress: Annotated[
        Literal["none", "deflate", "zstd"], Meta(description='Compression of messages of format "batch".')
    ] = "zstd"
    replicas: Annotated[
        int, Meta(ge=1, le=5, description="Number of servers that hold the stream: 1, 3 or 5. With 3, one may fail.")
    ] = 1
    retain: Annotated[str, Meta(description='How long the stream keeps a message, such as "7d"; empty: for ever.')] = (
        "7d"
    )
    max_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_BYTES,
            description="Most bytes of the stream; above it records wait in the journal. 0: no limit.",
        ),
    ] = 0
    duplicate_window: Annotated[
        str, Meta(description="How long servers remember the ids of messages, to store none of them twice.")
    ] = "10m"
    sync_wait: Annotated[
        str,
        Meta(
            description="How long after the servers' acknowledgement the journal keeps a record: longer than they take "
            "to sync it to their disks (sync_interval, 2 minutes unless set)."
        ),
    ] = "5m"
    checkpoint: Annotated[
        str,
        Meta(
            description="File of the published messages that are not safe yet; relative to state_dir. Empty: "
            "the store's name and .window."
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
        yield from StoreSettings.problems(self)
        yield from _retain_problems(self)
        yield from nats.server_problems(self)
        if self.replicas not in (1, 3, 5):
            yield "replicas", "must be 1, 3 or 5: an even number survives no more failures than the odd one below it"
        for key in ("duplicate_window", "sync_wait", "timeout"):
            yield from self.duration_problems(key, is_positive, 'must be longer than 0, such as "5m"')
        if self.compress == "zstd" and self.format == "batch" and importlib.util.find_spec("zstandard") is None:
            yield "compress", 'zstd needs a package that is not installed: pip install "prefork-logd[nats]"'

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every usable value that weakens a guarantee."""
        if self.replicas == 1:
            yield "replicas", "is 1: the stream is lost with its server's disk; 3 servers survive the loss of one"
        if self.sync_wait_s < SYNC_INTERVAL_S:
            yield "sync_wait", "is below NATS's sync_interval (2m unless set): a power loss may cost records"
        if self.duplicate_window_s < self.sync_wait_s:
            yield "duplicate_window", "is below sync_wait: other readers than collectors may see messages twice"

    def resolved(self, state_dir: str) -> NatsStoreSettings:
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        checkpoint = path_in(state_dir, self.checkpoint or f"{self.name or self.type}.window")
        return msgspec.structs.replace(self, checkpoint=checkpoint, **nats.resolved_files(self, state_dir))

    def file_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every file of secrets or certificates that cannot be used."""
        yield from nats.file_problems(self)

    def files(self) -> Iterator[Path]:
        """Yield the file of the published messages."""
        yield Path(self.checkpoint)

    @property
    def retain_s(self) -> float:
        """`retain` in seconds; 0: for ever."""
        return self.seconds("retain")

    @property
    def duplicate_window_s(self) -> float:
        """`duplicate_window` in seconds."""
        return self.seconds("duplicate_window")

    @property
    def sync_wait_s(self) -> float:
        """`sync_wait` in seconds."""
        return self.seconds("sync_wait")

    @property
    def timeout_s(self) -> float:
        """`timeout` in seconds."""
        return self.seconds("timeout")


SYNC_INTERVAL_S = 120.0
"""Time after which nats-server syncs a stream to its disk, by its default configuration."""
