"""Defines the flags by which `query` and `tail` ask the page of another host, and follows its tail.

Does not know the calls of the page's API.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefork_logd.cli.app import add_options, complain
from prefork_logd.errors import ProcessError, StoreError, describe_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import RecordId
    from prefork_logd.web.client.connection import ApiConnection
    from prefork_logd.web.client.search import RemoteSearch

TOKEN_VARIABLE = "PREFORK_LOGD_TOKEN"  # noqa: S105 - the name of a variable
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""The time before a tail connects again after its connection ended."""

server_flags = add_options(
    click.option(
        "--server",
        metavar="URL",
        help="Ask the page of a collector, also of another host, instead of files; unix:PATH for its Unix socket.",
    ),
    click.option(
        "--token-file",
        metavar="FILE",
        help=f"Of --server: file with an API token (web token NAME); else ${TOKEN_VARIABLE}.",
    ),
)


def connect(server: str, token_file: str | None) -> ApiConnection:
    """Return the page at a URL. Raises click.UsageError, and ProcessError for a token file that cannot be read."""
    from prefork_logd.web.client.connection import ApiConnection

    token = os.environ.get(TOKEN_VARIABLE, "")
    if token_file is not None:
        try:
            token = Path(token_file).read_text()
        except OSError as error:
            raise ProcessError(f"{token_file}: cannot read the token: {describe_refusal(error)}") from error
        except UnicodeDecodeError as error:
            raise ProcessError(f"{token_file}: cannot read the token: it is not text; name another file") from error
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError("the token is not one; `prefork-logd web token NAME` prints one")
    try:
        api = ApiConnection(server, token)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if api.is_exposed:
        complain(f"{server}: the token goes through the network unencrypted; use https")
    return api


def check_server_flags(server: str | None, token_file: str | None) -> None:
    """Refuse a token without a server. Raises click.UsageError."""
    if token_file is not None and server is None:
        raise click.UsageError("--token-file belongs to --server; write --server URL")


def follow_remote(search: RemoteSearch, filters: Filters, last: RecordId | None) -> Iterator[bytes]:
    """Yield new lines behind a record (None: from now on) for ever, each once.

    After a break the tail goes on behind the last event. Raises ProcessError and ValueError for a request that the page
    refuses.
    """
    from prefork_logd.web.client.search import record_of, value_of

    pause_s = FIRST_PAUSE_S
    is_warned = False
    after = str(last or "")
    while True:
        try:
            for kind, data, event_id in search.events(filters, after):
                pause_s = FIRST_PAUSE_S
                after = event_id or after
                if kind == "record":
                    found_id, line = record_of(data)
                    after = str(found_id or after)
                    yield line
                elif kind == "gap":
                    complain(str(value_of(data).get("message", "records are missing")))
                elif kind == "rate":
                    is_sampled = bool(value_of(data).get("sampled"))
                    if is_sampled and not is_warned:
                        complain("more records come than the page shows; some are left out here, and none in the store")
                    is_warned = is_sampled
        except StoreError as error:
            complain(f"{error}; connecting again in {pause_s:g} s")
        time.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
