"""Declares the settings of the tables `[server]` and `[limits]`.

Owns their types, defaults, bounds and help. Does not know how they are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from prefork_logd.config import cpus
from prefork_logd.config.alerts import AlertsSettings
from prefork_logd.config.metrics import MetricsSettings
from prefork_logd.config.redact import RedactSettings
from prefork_logd.config.stores.errors import ErrorsSettings
from prefork_logd.config.values import (
    MOST_BYTES,
    MOST_WORKERS,
    NOT_LIVE,
    TableSettings,
    TimedSettings,
    address_problems,
    durations,
    is_positive,
)
from prefork_logd.config.web import WebSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


class ServerSettings(TableSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The collector as a whole: its addresses, its number of processes, and its state directory."""

    bind: Annotated[
        tuple[str, ...],
        Meta(
            description='Addresses to listen on: "host:port", "[::1]:port" or "unix:/path" (users who may enter its '
            "directory may send; a relative path is seen from the configuration file's directory); port 0 picks a free "
            "one. Any client may send there. Sockets inherited by systemd activation (LISTEN_FDS) take the place of "
            "these.",
            extra=NOT_LIVE,
        ),
    ] = ("127.0.0.1:9020",)
    workers: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_WORKERS)] | Literal["auto"],
        Meta(
            description='Worker processes; "auto" is one for each core that may be used: those of the '
            "affinity mask, and no more than the CPU quota of a cgroup (a container's limit) allows, rounded down."
        ),
    ] = "auto"
    state_dir: Annotated[
        str,
        Meta(
            description="Directory of the pid file, the control socket, the log of a daemon, rejected.jsonl and every "
            "output whose path is relative; if relative, seen from the configuration file's directory. Empty: "
            "/var/lib/prefork-logd for root, else the user's state directory.",
            extra=NOT_LIVE,
        ),
    ] = ""
    durability: Annotated[
        Literal["synced", "written"],
        Meta(
            description='When a record is committed, and acknowledged to a client that asks for it: "synced" after a '
            'group fdatasync, "written" after write(2). Plain SocketHandler clients are not acknowledged.',
        ),
    ] = "synced"
    own_log: Annotated[
        Literal["file", "records"],
        Meta(
            description='The collector\'s own log lines: "file": only in its log; "records": also stored as records '
            'of the service "prefork-logd" ([operating](operating.md#its-own-log-as-records)).',
            extra=NOT_LIVE,
        ),
    ] = "file"
    user: Annotated[
        str,
        Meta(description="Drop root privileges to this user after the sockets are bound. Empty: none.", extra=NOT_LIVE),
    ] = ""

    keys_file: Annotated[
        str,
        Meta(
            description='Shared secrets for listeners with accept = "authenticated": a line for each, an id and a '
            "secret of 16 characters or more; several are valid at once. Only its owner, the collector's user, may "
            "read the file.",
        ),
    ] = ""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        for sentence in address_problems(self.bind):
            yield "bind", sentence
        if "\0" in self.state_dir:
            yield "state_dir", "holds a NUL character, which a path cannot"

    @property
    def worker_count(self) -> int:
        """The number of workers, "auto" resolved to the processors this process may use."""
        return min(cpus.usable(), MOST_WORKERS) if self.workers == "auto" else self.workers


class LimitSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits on the resources of one client, and of all clients together."""

    DURATIONS = durations(record_timeout=None, drain_timeout=None, session_retention=None)

    max_record_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=64 * 1024 * 1024,
            description="Largest frame, or record of a session, that is held whole, in bytes. Of a larger one the "
            "beginning and the end are held, and the record is stored cut. The length of a frame also bounds the "
            "length of its lines; values that do not fit are cut and marked (docs/record.md).",
        ),
    ] = 1_048_576
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most connections that have sent data, over all workers. Above it, a client of a session is "
            "answered BUSY and reconnects; a client of plain frames waits unread.",
        ),
    ] = 10_000
    max_connections_per_address: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="The same for one address (IPv6: one network of 64 bits; a Unix socket: one user); 0: nine "
            "tenths of it, so that one address cannot keep all others out.",
        ),
    ] = 0
    record_timeout: Annotated[
        str,
        Meta(
            description="Time a record may take from its first byte to its last; a slower connection is closed. "
            "An idle connection is never closed.",
        ),
    ] = "30s"
    drain_timeout: Annotated[
        str,
        Meta(description="Longest time for which a stop still reads data that clients have already sent."),
    ] = "10s"
    queue_bytes: Annotated[
        int,
        Meta(
            ge=262_144,
            le=1_073_741_824,
            description="High-water mark of one worker's lines on their way to the writer, in bytes: above it the "
            "worker stops reading until half of it is committed.",
        ),
    ] = 8_388_608
    journal_bytes: Annotated[
        int,
        Meta(
            ge=1_048_576,
            le=MOST_BYTES,
            description="Most bytes of records that wait in the journal for a store that is down or slow; above it "
            "clients wait, too. A warning is logged at 80 %. Without a store no records are kept there.",
        ),
    ] = 4_294_967_296
    journal_segment_bytes: Annotated[
        int,
        Meta(
            ge=65_536,
            le=1_073_741_824,
            description="Size of one file of these records, in bytes; it is removed when every store has passed it.",
        ),
    ] = 67_108_864
    min_free_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_BYTES,
            description="Free space that is kept on each disk, in bytes; on a small disk at most a twentieth of it. "
            "With less, Parquet stores remove their oldest records; with less than half of it, clients wait. 0: none.",
        ),
    ] = 1_000_000_000
    session_retention: Annotated[
        str,
        Meta(
            description="How long a session of our handler is remembered after its last record; only time for which "
            "the collector runs counts. Records of a client that comes back later may be stored twice.",
        ),
    ] = "7d"
    max_sessions: Annotated[
        int,
        Meta(
            ge=16,
            le=16_777_216,
            description="Most sessions remembered, about 500 bytes of the writer's memory each; at most half "
            "of them for one address. Above it, the address with the most loses its session with the fewest records.",
        ),
    ] = 65_536

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        if self.journal_bytes < 2 * self.journal_segment_bytes:
            yield "journal_bytes", "must be at least twice limits.journal_segment_bytes"
        for key in ("record_timeout", "drain_timeout", "session_retention"):
            yield from self.duration_problems(key, is_positive, 'must be longer than 0, such as "10s"')

    @property
    def record_timeout_s(self) -> float:
        """`record_timeout` in seconds."""
        return self.seconds("record_timeout")

    @property
    def session_retention_s(self) -> int:
        """`session_retention` in seconds."""
        return int(self.seconds("session_retention"))

    @property
    def drain_timeout_s(self) -> float:
        """`drain_timeout` in seconds."""
        return self.seconds("drain_timeout")


TABLES: dict[
    str,
    type[
        ServerSettings
        | LimitSettings
        | RedactSettings
        | WebSettings
        | MetricsSettings
        | ErrorsSettings
        | AlertsSettings
    ],
] = {
    "server": ServerSettings,
    "limits": LimitSettings,
    "redact": RedactSettings,
    "web": WebSettings,
    "metrics": MetricsSettings,
    "errors": ErrorsSettings,
    "alerts": AlertsSettings,
}
