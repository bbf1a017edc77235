"""Ready-made stored lines of a mixed fleet, with ids drawn anew for each record.

Owns what they look like: the records of `_fleet_mix` as the collector stores them, spread evenly over a range of time.
"""

from __future__ import annotations

import functools
import os
import re
import time
from typing import TYPE_CHECKING

import _fleet_mix

from prefork_logd.inputs.pickles.decode import decode
from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores.base import Block

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_RECORDS = 500
_ID = re.compile(
    rb"""(?<=")[0-9a-f]{32}(?=")|(?<=[ /"-])[0-9a-f]{12}(?=[ "'\\])|(?<=Task-)\d+|(?<="user_id":)\d+"""
    rb"""|(?<="duration_ms":)\d+\.\d+"""
)
_PEERS = 120


@functools.cache
def _templates() -> tuple[tuple[tuple[bytes, ...], tuple[tuple[int, bool], ...]], ...]:
    """Return each template as the parts between ids, and the length of each id, and whether it is hexadecimal."""
    import logging.handlers  # noqa: PLC0415

    handler = logging.handlers.SocketHandler("127.0.0.1", 9)
    made = []
    for record in _fleet_mix.records(""):
        line = render_json(make_record(decode(handler.makePickle(record)[4:]), "", 1.0))
        body = line[line.index(b'"name":') : line.rindex(b',"received":')]
        ids = tuple((len(one), len(one) in (12, 32) and b"." not in one) for one in _ID.findall(body))
        made.append((tuple(_ID.split(body)), ids))
    return tuple(made)


def lines(first: int, count: int, start: float, step_s: float) -> list[bytes]:
    """Return `count` lines from number `first` on, `step_s` seconds apart from `start` on for number 0."""
    templates, made, second, stamp = _templates(), [], -1, ""
    pool = os.urandom(64 * count).hex().encode()
    at = 0
    for number in range(first, first + count):
        # No clock ticks evenly: the digits of a time are a third of what a record takes.
        chance = number * 2_654_435_761 % 1_000_003 / 1_000_003
        created = start + (number + chance) * step_s
        if int(created) != second:
            second = int(created)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        parts, lengths = templates[number * 7919 % len(templates)]
        body = [parts[0]]
        for part, (length, is_hexadecimal) in zip(parts[1:], lengths, strict=True):
            if is_hexadecimal:
                body += (pool[at : at + length], part)
                at += length
            else:
                # The digits of a number or, of 16 digits and more, of a float.
                digits = b"%d" % (10 ** (length - 1) + number * 2_654_435_761_123 % 10 ** (length - 1))
                body += (digits if length < 14 else digits[:3] + b"." + digits[4:], part)
        micro = round(created * 1e6) % 1_000_000
        made.append(
            b'{"created":%a,"time":"%b.%06dZ",%b,"peer":"10.0.0.%d:40000","received":%a}\n'
            % (created, stamp.encode(), micro, b"".join(body), number % _PEERS, created + 0.002 + chance / 50)
        )
    return made


def blocks(first: int, count: int, start: float, step_s: float) -> Iterator[Block]:
    """Yield the same as blocks of a journal."""
    made = lines(first, count, start, step_s)
    for at in range(0, count, BLOCK_RECORDS):
        part = made[at : at + BLOCK_RECORDS]
        yield Block(first + at, len(part), bytes(16), (), b"".join(part))
