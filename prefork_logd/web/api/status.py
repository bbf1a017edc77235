"""Answers calls about the collector: its state, its configuration, and what it has rejected.

Owns what is added to the status document: disks, retention, and who sent what was rejected. Does not know how the
collector is asked.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.config.paths import REJECTED_FILE
from prefork_logd.config.show import printable
from prefork_logd.web.api import answers
from prefork_logd.web.api.endpoint import Asked, Call
from prefork_logd.web.api.parameters import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.settings import Settings

REJECTED_BYTES = 1 << 20
"""Bytes of the newest entries about rejected records that are read."""
MOST_CLIENTS = 100
GAP = "gap"
"""The reason in an entry about records that a client reports as dropped."""
RETENTION = ("retain", "retain_bytes", "min_free_bytes")
"""Settings of stores that bound what they keep."""

LIMIT = Parameter(name="limit", meaning="Most entries.", kind="whole number", default=100, least=1, most=1000)

_read_entry = msgspec.json.Decoder(dict[str, Any]).decode


async def status(asked: Asked) -> answers.Status:
    """Return the state of the collector."""
    context = asked.context
    collector = await context.status()
    disks, rejected = await asyncio.to_thread(lambda: (_disks(context.settings), _entries(context.state_dir)))
    retention = _retention(context.settings)
    return answers.Status(collector, disks, retention, _rejected_by(rejected), _dropped_by(rejected))


def _disks(settings: Settings) -> list[answers.Disk]:
    """Return the file systems that the collector writes to."""
    places = {"state_dir": settings.server.state_dir}
    places |= {f"output {output.name}": str(Path(output.file_path).parent) for output in settings.output}
    places |= {f"store {store.name}": path for store in settings.store if (path := getattr(store, "path", ""))}
    found: dict[int, answers.Disk] = {}
    for purpose, path in places.items():
        try:
            device, room = Path(path).stat().st_dev, os.statvfs(path)
        except OSError:
            continue  # an output's directory is made when its first line is written
        total, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
        found.setdefault(device, answers.Disk(path, [], total, free)).purposes.append(purpose)
    return [*found.values()]


def _retention(settings: Settings) -> list[answers.Retention]:
    """Return the bounds of each store."""
    return [
        answers.Retention(store.name, {key: getattr(store, key) for key in RETENTION if hasattr(store, key)})
        for store in settings.store
    ]


def _rejected_by(entries: list[dict[str, Any]]) -> list[answers.RejectedBy]:
    """Return who sent the newest rejected records, by reason; those with most entries first."""
    counts = Counter(
        (_client(entry.get("peer")), str(entry.get("reason", ""))[:100])
        for entry in entries
        if entry.get("reason") not in (GAP, "left-out")
    )
    return [answers.RejectedBy(client, reason, count) for (client, reason), count in counts.most_common(MOST_CLIENTS)]


def _dropped_by(entries: list[dict[str, Any]]) -> list[answers.DroppedBy]:
    """Return the clients that have reported records as dropped, those with most records first."""
    found: dict[str, answers.DroppedBy] = {}
    for entry in entries:
        count, latest = entry.get("count"), entry.get("received")
        if entry.get("reason") == GAP and isinstance(count, int) and isinstance(latest, float):
            client = str(entry.get("client"))[:300]
            one = found.setdefault(client, answers.DroppedBy(client, 0, latest, str(entry.get("detail"))[:300]))
            one.count += count
    return sorted(found.values(), key=lambda one: -one.count)[:MOST_CLIENTS]


def _client(peer: object) -> str:
    """Return the address of a peer without its port."""
    text = str(peer or "")[:300]
    host, _, port = text.rpartition(":")
    return host if host and port.isdigit() else text


async def configuration(asked: Asked) -> answers.Configuration:
    """Return the configuration in effect, without secrets."""
    settings = asked.context.settings
    return answers.Configuration(settings.path or None, printable(settings))


async def rejected(asked: Asked) -> answers.Rejected:
    """Return the newest rejected records."""
    found = await asyncio.to_thread(_entries, asked.context.state_dir)
    return answers.Rejected(found[: asked.values["limit"]])


def _entries(state_dir: Path) -> list[dict[str, Any]]:
    """Return the newest entries about rejected records, the newest first."""
    return [*_read_entries(state_dir / REJECTED_FILE)]


def _read_entries(path: Path) -> Iterator[dict[str, Any]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return
    with os.fdopen(fd, "rb") as file:
        size = os.fstat(fd).st_size
        file.seek(max(0, size - REJECTED_BYTES))
        lines = file.read(REJECTED_BYTES).split(b"\n")
    # The first line may have lost its beginning, and the last one may not be finished.
    for line in reversed(lines):
        try:
            yield _read_entry(line)
        except ValueError:
            continue


CALLS = (
    Call(
        path="/status",
        summary="Get the state of the collector.",
        handle=status,
        answer=answers.Status,
        for_shares=False,
    ),
    Call(
        path="/configuration",
        summary="Get the configuration in effect, without secrets.",
        handle=configuration,
        answer=answers.Configuration,
        scope="admin",
        for_shares=False,
    ),
    Call(
        path="/rejected",
        summary="List the newest rejected records.",
        handle=rejected,
        answer=answers.Rejected,
        parameters=(LIMIT,),
        scope="admin",
        for_shares=False,
    ),
)
