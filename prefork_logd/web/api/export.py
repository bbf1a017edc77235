"""Answers calls for all matching records: as a file, or as the command that prints them.

Owns the names and types of the files, and how a command is written. Does not know how a store finds records.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.records.csv_lines import csv_lines
from prefork_logd.stores.parquet import engine
from prefork_logd.stores.parquet.export import write_file
from prefork_logd.web.api.answers import Command
from prefork_logd.web.api.endpoint import Asked, Call
from prefork_logd.web.api.parameters import OLDEST, SEARCH, Parameter, ParameterError, make_filters, read_zone
from prefork_logd.web.api.streamed import Streamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from starlette.responses import Response

    from prefork_logd.query.filters import Filters
    from prefork_logd.web.search_pool import Lease

DEADLINE_S = 3600.0
PIECE_BYTES = 128 << 10
MEDIA_TYPES = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}

FORMAT = Parameter(
    name="format", meaning="Form of the file.", kind="choice", choices=tuple(MEDIA_TYPES), default="jsonl"
)
LIMIT = Parameter(name="limit", meaning="Most records; else all.", kind="whole number", least=1, most=1_000_000_000)
PRINTED = Parameter(
    name="format",
    meaning="What the command prints.",
    kind="choice",
    choices=("text", "json", "csv", "table"),
    default="text",
)
_FILTERS = tuple(one for one in SEARCH if one.name != "deadline_s")


async def export(asked: Asked) -> Response:
    """Return all matching records as a file."""
    form = asked.values["format"]

    def work(lease: Lease) -> Iterator[bytes]:
        filters = asked.filters(lease)
        lines = lease.search().lines(filters)
        if form == "parquet":
            return _parquet(lines)
        return joined(lines if form == "jsonl" else csv_lines(lines))

    pieces = asked.context.searches.stream(work, store=asked.store, deadline_s=DEADLINE_S, visitor=asked.visitor)
    # What is wrong with the request, or the store, shows before the first piece.
    first = await anext(pieces, b"")
    name = f"records-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Streamed(_with(first, pieces), MEDIA_TYPES[form], pieces.aclose, headers)


async def _with(first: bytes, others: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    if first:
        yield first
    async for piece in others:
        yield piece


def joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines in pieces of about PIECE_BYTES."""
    some: list[bytes] = []
    nbytes = 0
    for line in lines:
        some.append(line)
        nbytes += len(line)
        if nbytes >= PIECE_BYTES:
            yield b"".join(some)
            some, nbytes = [], 0
    if some:
        yield b"".join(some)


def _parquet(lines: Iterable[bytes]) -> Iterator[bytes]:
    with engine.temporary_directory() as directory:
        path = write_file(lines, Path(directory))
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece


async def command(asked: Asked) -> Command:
    """Return the command that prints the same records."""
    values = asked.values
    # The store is not asked: the command looks up levels itself.
    filters = make_filters({**values, "q": ""}, dict)
    if values["tz"]:
        read_zone(values["tz"])
    if "\0" in values["q"]:
        raise ParameterError("q", "q has a NUL, which a command cannot have; search for the text around it")
    return Command(_command(asked, filters, values))


def _command(asked: Asked, filters: Filters, values: dict[str, Any]) -> str:
    settings = asked.context.settings
    words = [f"TZ={values['tz']}"] if values["tz"] else []
    words += ["prefork-logd", "query"]
    words += ["--config", settings.path] if settings.path else []
    # A flag of the collector may have set it.
    words += ["--state-dir", settings.server.state_dir]
    for flag, number in (("--since", filters.since), ("--until", filters.until)):
        if number is not None:
            digits = repr(number)
            words += [flag, f"@{number:.6f}" if "e" in digits else f"@{digits}"]
    if values["limit"]:
        words += ["--limit", str(values["limit"])]
    words += ["--order", values["order"]]
    if values["store"]:
        words += ["--store", values["store"]]
    words += ["--format", values["format"]]
    if values["q"]:
        words += ["--", values["q"]]
    return " ".join(map(quote, words))


def quote(word: str) -> str:
    r"""Return a word for a shell; control characters as in $'\x1b', so that a terminal does not act on them."""
    if word.isprintable():
        return shlex.quote(word)
    written = []
    for char in word:
        if char in "\\'":
            written.append(f"\\{char}")
        elif char.isprintable():
            written.append(char)
        else:
            written += [f"\\x{octet:02x}" for octet in char.encode()]
    # A hexadecimal digit may follow an escape of two, which takes no more.
    return f"$'{''.join(written)}'"


CALLS = (
    Call(
        path="/export",
        summary="Get all matching records as a file.",
        handle=export,
        answer=", ".join(MEDIA_TYPES.values()),
        parameters=(*_FILTERS, OLDEST, LIMIT, FORMAT),
    ),
    Call(
        path="/command",
        summary="Get the command that prints the same records on the collector's host.",
        handle=command,
        answer=Command,
        parameters=(*_FILTERS, replace(OLDEST, default="newest"), LIMIT, PRINTED),
        for_shares=False,
    ),
)
