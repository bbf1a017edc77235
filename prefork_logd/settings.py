"""What can be set: one declaration per key, from which everything that speaks of settings is made.

Owns the settings, their types, defaults, bounds and help, and what a single value means. Does not know how they
are read from a file (config/load.py), nor processes, sockets or open files.

A setting is a field of one of the Structs below: type, default, bounds, a sentence of help, and whether a running
collector can take a new value. The loader, `check`, reload and docs/configuration.md are all made from these.
"""

from __future__ import annotations

import importlib.util
import os
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import platformdirs
from msgspec import Meta

from prefork_logd import cpus
from prefork_logd.source_settings import NatsSourceSettings  # noqa: TC001 - msgspec reads the annotation
from prefork_logd.store_settings import StoreSettings, store_from
from prefork_logd.values import (
    NOT_LIVE,
    TimedSettings,
    durations,
    is_a_second,
    is_positive,
    level_number,
    split_address,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

OWN_FILES = ("prefork-logd.pid", "prefork-logd.log", "control.sock", "rejected.jsonl", "writer.lock", "journal")
"""What the collector itself keeps in state_dir."""
PID_FILE, LOG_FILE, CONTROL_SOCKET, REJECTED_FILE, WRITER_LOCK, JOURNAL_DIRECTORY = OWN_FILES

DEAD_LETTERS = "dead-letters-{}.jsonl"
"""What a store refuses, by its name."""

MIN_KEY_BYTES = 16
"""A shorter secret could be found by trying."""
MAX_KEY_ID_BYTES = 64
MAX_OUTPUTS = 1024
"""The scoreboard has this many places for outputs."""
MAX_STORES = 16
MAX_SOURCES = 8
"""Each has a process."""

DEFAULT_TEMPLATE = "%(asctime)s %(levelname)s %(name)s %(message)s"

_TEMPLATE_FIELD = re.compile(r"%(?:%|\(([^()]+)\)[#0\- +]*\d{0,4}(?:\.\d{1,4})?([diouxXeEfFgGcrsa]))")


def dead_letters_path(state_dir: Path, store: str) -> Path:
    """Return where the records are that a store has refused."""
    return state_dir / DEAD_LETTERS.format(store)


def default_state_dir() -> str:
    """Return where state is kept when nothing says otherwise: the system's place for root, else the user's own.

    Raises ValueError with a sentence for the user if there is no such place.
    """
    if os.geteuid() == 0:
        return "/var/lib/prefork-logd"
    try:
        found = platformdirs.user_state_dir("prefork-logd")
    except RuntimeError:
        found = ""
    if not found.startswith("/"):
        # Older releases of platformdirs leave a "~" as it is without HOME and an account, and take a relative HOME.
        raise ValueError(f"the home directory of user {os.geteuid()} is not known; set HOME, or give --state-dir")
    return found


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The collector as a whole: where it listens, with how many processes, and where it keeps its state."""

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
        Annotated[int, Meta(ge=1, le=256)] | Literal["auto"],
        Meta(
            description='Worker processes, 1 to 256; "auto" is one for each core that may be used: those of the '
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
            description='When a record that its client wants acknowledged is committed: "synced" after a group '
            'fdatasync, "written" after write(2). Plain SocketHandler clients are not acknowledged.',
        ),
    ] = "synced"
    user: Annotated[
        str,
        Meta(description="Drop root privileges to this user after the sockets are bound. Empty: stay.", extra=NOT_LIVE),
    ] = ""

    keys_file: Annotated[
        str,
        Meta(
            description='Shared secrets for listeners with accept = "authenticated": a line for each, an id and a '
            "secret of 16 characters or more; several are valid at once. Nobody but its owner may read the file.",
        ),
    ] = ""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        for address in self.bind:
            try:
                split_address(address)
            except ValueError as error:
                yield "bind", str(error)
        if len(set(self.bind)) < len(self.bind):
            yield "bind", "lists an address twice; name each once"
        if "\0" in self.state_dir:
            yield "state_dir", "holds a NUL character, which no path can"

    @property
    def worker_count(self) -> int:
        """The number of workers, "auto" resolved to the processors this process may use."""
        return cpus.usable() if self.workers == "auto" else self.workers


class ListenerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address to listen on besides those of server.bind, and whom to let in there."""

    address: Annotated[str, Meta(min_length=1, description="As in server.bind; each address once.", extra=NOT_LIVE)] = (
        "127.0.0.1:9021"
    )
    accept: Annotated[
        Literal["any", "session", "authenticated"],
        Meta(
            description='"any": also SocketHandler\'s frames; "session": only clients that are acknowledged; '
            '"authenticated": of these only those who know a secret of server.keys_file.',
            extra=NOT_LIVE,
        ),
    ] = "any"
    protocol: Annotated[
        Literal["any", "frames", "json", "session"],
        Meta(
            description='Protocol of the clients ([inputs](inputs.md)). "frames": that of SocketHandler; "json": JSON '
            'lines; "session": that of our handler; "any": the one that a connection begins with.',
            extra=NOT_LIVE,
        ),
    ] = "any"

    @property
    def admits(self) -> str:
        """`accept` and `protocol` in a word: "any", an input's name, or "authenticated"."""
        return self.protocol if self.accept == "any" else self.accept

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        try:
            split_address(self.address)
        except ValueError as error:
            yield "address", str(error)
        if self.accept != "any" and self.protocol not in ("any", "session"):
            yield (
                "protocol",
                f'"{self.protocol}" has no acknowledgements, and accept = "{self.accept}" demands them; leave one out',
            )


class LimitSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one client, and all of them together, may cost."""

    DURATIONS = durations(record_timeout=None, drain_timeout=None, session_retention=None)

    max_record_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=64 * 1024 * 1024,
            description="Largest frame taken, in bytes; a larger one is skipped without being held, and counted. The "
            "length of a frame also bounds the length of its lines; values that do not fit are cut and marked "
            "(docs/record.md).",
        ),
    ] = 1_048_576
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most connections that have sent something, over all workers. Beyond, a client of a session is "
            "answered BUSY and comes again; one that sends plain frames waits unread.",
        ),
    ] = 10_000
    max_connections_per_address: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Most of these of one address (IPv6: one network of 64 bits; a Unix socket: one user); 0: nine "
            "tenths, so that one address cannot keep all others out.",
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
        Meta(description="How long a stop goes on reading what clients have already sent."),
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
            description="Most bytes of records that wait in the journal for a store that is down or slow; then clients "
            "wait, too. A warning comes at 80 %. Without a store nothing is kept there.",
        ),
    ] = 4_294_967_296
    journal_segment_bytes: Annotated[
        int,
        Meta(
            ge=65_536,
            le=1_073_741_824,
            description="Size of one file of these, in bytes; it is removed when every store has passed it.",
        ),
    ] = 67_108_864
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
            description="Most sessions that are remembered, about 500 bytes of the writer's memory each; at most half "
            "of them for one address. Beyond, the address with the most loses its session with the fewest records.",
        ),
    ] = 65_536

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        if self.journal_bytes < 2 * self.journal_segment_bytes:
            yield "journal_bytes", "must hold two of limits.journal_segment_bytes or more"
        for key in ("record_timeout", "drain_timeout", "session_retention"):
            yield from self.duration_problems(key, is_positive, 'must be longer than nothing, such as "10s"')

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


class OutputSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file that records are written to; a record goes to every output that lets it through."""

    DURATIONS = durations(rotate_every=0.0)

    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_.-]+$", description="What status and messages call it; each name once."),
    ] = "records"
    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="The file; relative to state_dir. Missing directories are created.",
        ),
    ] = "records.jsonl"
    format: Annotated[
        Literal["json", "text"],
        Meta(description='"json": one object a line; "text": `template`, continuation lines start with a tab.'),
    ] = "json"
    template: Annotated[
        str,
        Meta(
            description="Text format only: logging's own % names (those of LogRecord, asctime, and any attribute of "
            "`extra`).",
        ),
    ] = DEFAULT_TEMPLATE
    level: Annotated[
        str | int,
        Meta(description='Lowest level let through: a name ("WARNING"; docs/query.md has all) or a number (35).'),
    ] = "NOTSET"
    loggers: Annotated[
        tuple[str, ...],
        Meta(description="Logger names let through, each with its children, as logging.Filter does; empty: all."),
    ] = ()
    rotate_bytes: Annotated[
        int,
        Meta(ge=0, description="Rotate when the file has grown to this many bytes; 0: never by size."),
    ] = 0
    rotate_every: Annotated[
        str,
        Meta(description='Rotate after this time, such as "1h" or "1d"; empty: never by time.'),
    ] = ""
    keep: Annotated[
        int,
        Meta(ge=0, description="Rotated files kept by our own rotation, the newest; 0: all."),
    ] = 10
    keep_bytes: Annotated[
        int,
        Meta(ge=0, description="Rotated files are removed, the oldest first, above this many bytes; 0: no bound."),
    ] = 0
    compress: Annotated[
        Literal["none", "gzip", "zstd"],
        Meta(description='Compress rotated files; "zstd" needs the extra: pip install "prefork-logd[zstd]".'),
    ] = "none"
    on_error: Annotated[
        Literal["block", "skip"],
        Meta(
            description='While the file cannot be written (a full disk, a FIFO without a reader): with "block" clients '
            'wait until it works again, and no record is missing; with "skip" records are left out of this output, and '
            "counted in `status`; clients do not wait.",
        ),
    ] = "block"
    mode: Annotated[
        str,
        Meta(pattern=r"^0?[0-7]{3}$", description="Permissions of the file, octal; directories get x where it has r."),
    ] = "0640"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        if "\0" in self.path:
            yield "path", "holds a NUL character, which no path can"
        try:
            level_number(self.level)
        except ValueError as error:
            yield "level", str(error)
        yield from (("template", problem) for problem in template_problems(self.template))
        if any(not name for name in self.loggers):
            yield "loggers", "holds an empty name; leave the list empty to let every logger through"
        yield from self.duration_problems("rotate_every", is_a_second, 'must be one second or more, such as "1h"')
        if self.compress == "zstd" and importlib.util.find_spec("zstandard") is None:
            yield "compress", 'zstd needs a package that is not installed: pip install "prefork-logd[zstd]"'

    @property
    def levelno(self) -> int:
        """`level` as a number."""
        return level_number(self.level)

    @property
    def rotate_every_s(self) -> float:
        """`rotate_every` in seconds; 0 is never."""
        return self.seconds("rotate_every")

    @property
    def file_mode(self) -> int:
        """`mode` as a number."""
        return int(self.mode, 8)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One whole configuration, every default filled in and every path absolute."""

    server: ServerSettings = ServerSettings()
    listener: tuple[ListenerSettings, ...] = ()
    limits: LimitSettings = LimitSettings()
    output: tuple[OutputSettings, ...] = (OutputSettings(),)
    store: tuple[StoreSettings, ...] = ()
    sources: tuple[NatsSourceSettings, ...] = ()
    source: str = ""
    """The file it came from; empty when there is none."""

    @property
    def listeners(self) -> tuple[tuple[str, str], ...]:
        """(address, what is let in: `ListenerSettings.admits`) of every listener."""
        return (
            *((address, "any") for address in self.server.bind),
            *((listener.address, listener.admits) for listener in self.listener),
        )


def settings_from(plain: Mapping[str, Any]) -> Settings:
    """Return settings from plain values, the form that msgspec encodes them in.

    Each store's table is decoded as its kind says (store_settings.py). Raises msgspec.ValidationError.
    """
    tables = msgspec.convert(plain.get("store", ()), list[dict[str, Any]])
    stores = tuple(map(store_from, tables))
    return msgspec.structs.replace(msgspec.convert({**plain, "store": ()}, Settings), store=stores)


TABLES: dict[str, type[ServerSettings | LimitSettings]] = {"server": ServerSettings, "limits": LimitSettings}


def template_problems(template: str) -> Iterator[str]:
    """Yield a sentence for each directive in a text template that could not be filled in."""
    rest = _TEMPLATE_FIELD.sub("", template)
    if "%" in rest:
        place = rest[rest.index("%") :][:12]
        yield f"{place!r} is no directive; write %(name)s, with a width below 10000, and %% for a percent sign"
    if not template.strip():
        yield "is empty, so every line would be; leave it out for the default"
