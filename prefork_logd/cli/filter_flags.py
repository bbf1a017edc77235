"""Defines the argument and the flags of `query` and `tail` that select records.

Does not know the meaning of a filter (query/).
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from prefork_logd.cli.app import add_options
from prefork_logd.query.written import Written

filter_flags = add_options(
    click.argument("text", required=False, default=""),
    click.option("--since", metavar="TIME", help='Records from then on: "2h" ago, "2026-11-23 14:05", RFC 3339.'),
    click.option("--until", metavar="TIME", help="Records before then."),
    click.option("--level", help="Lowest level: a name (also one that stored records have) or a number."),
    click.option("--logger", "loggers", multiple=True, metavar="NAME", help="A logger and its children; repeatable."),
    click.option("--service", metavar="NAME", help="The service that sent the record."),
    click.option("--environment", metavar="NAME", help="The environment of that service."),
    click.option("--host", metavar="NAME", help="The host of that service."),
    click.option("--grep", multiple=True, metavar="WORDS", help="Words of the message or the traceback; repeatable."),
    click.option(
        "--where",
        "conditions",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Such as extra.trace_id=5f0c; also != < <= > >= and ~ (contains); repeatable.",
    ),
)
"""Their names are the fields of `Written`, and the range of time of `make_filters`."""


def take_written(given: dict[str, Any]) -> Written:
    """Take the conditions out of the values of flags; the range of time and all others stay."""
    return Written(**{field.name: given.pop(field.name) for field in fields(Written)})
