"""Finds out, while a collector runs, whether the next one can start in its place.

Owns the obstacles that a start can meet after the stop. Does not stop or start anything, and leaves nothing behind
but the directories of new Unix sockets. The steps themselves are in start.py.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.config.values import split_address
from prefork_logd.config.web import DEFAULT_ADDRESS
from prefork_logd.errors import ProcessError, describe_refusal
from prefork_logd.ingest import core
from prefork_logd.journal.journal import room_to_begin
from prefork_logd.net import listener
from prefork_logd.processes.master.certificate_files import tls_problem
from prefork_logd.processes.master.page import certificate_problem
from prefork_logd.processes.master.start import prepare
from prefork_logd.system.privileges import acting_as

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from prefork_logd.config.settings import Settings

MARGIN_BYTES = 2 << 20
"""Room for the small files of a start, and for the lines that a stop writes."""


def require_start(settings: Settings, held: Collection[str] | None) -> None:
    """Raise ProcessError with the first obstacle to a start, and its remedy.

    `held`: the addresses at which the running collector listens; they are free after its end. None if it does not
    answer: then every address in use counts as held.
    """
    core.require()
    prepare(settings)
    user = settings.server.user
    with acting_as(user):
        _require_room(Path(settings.server.state_dir))
        if problem := certificate_problem(settings.web) or tls_problem(settings):
            raise ProcessError(problem)
    ports = None if held is None else {_port(address) for address in held}
    for address in _addresses(settings):
        _require_address(address, user, is_held=ports is None or _port(address) in ports)


def _require_room(state_dir: Path) -> None:
    """Allocate as much as a start may need, in a file without a name: quotas and reserved blocks count, too."""
    needed = MARGIN_BYTES
    try:
        needed += room_to_begin(state_dir / JOURNAL_DIRECTORY)
        with tempfile.TemporaryFile(dir=state_dir) as file:
            os.posix_fallocate(file.fileno(), 0, needed)
    except OSError as error:
        raise ProcessError(
            f"{state_dir}: a start needs a new file there, and {needed / 1e6:.1f} MB: {describe_refusal(error)}"
        ) from error


def _addresses(settings: Settings) -> Iterator[str]:
    """Yield every address without which there is no start."""
    yield from (address for address, _ in settings.listeners)
    yield from (address for address in settings.web.bind if address != DEFAULT_ADDRESS)
    yield from settings.metrics.bind


def _port(address: str) -> str | int:
    """Return the port of an address, or the path of a Unix socket: the running collector may hold it for all hosts."""
    place = split_address(address)
    return place if isinstance(place, str) else place[1]


def _require_address(address: str, user: str, *, is_held: bool) -> None:
    try:
        sockets = listener.bind_all([address], user)
    except ProcessError as error:
        cause = error.__cause__
        if is_held and isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
            return
        raise
    with acting_as(user):
        listener.close_all(sockets)
